// SPDX-License-Identifier: Apache-2.0
// Elements that a function gives. Their place is how many came before.
#include <algorithm>
#include <utility>

#include "evenflow/data/files.h"

namespace evenflow::data {
namespace {
using Next = std::function<Chunk(int64_t at_most)>;

class GeneratorCursor final : public Cursor {
 public:
  GeneratorCursor(std::function<Next()> start, int64_t shards, int64_t shard)
      : start_(std::move(start)), shards_(shards), shard_(shard), next_(start_()) {}
  Chunk next(int64_t at_most) override {
    for (;;) {
      const int64_t before = at_;
      Chunk c = take(shards_ == 1 ? at_most : std::min<int64_t>(at_most * shards_, 1024));
      if (!c.rows || shards_ == 1) return c;
      std::vector<int64_t> ours;
      for (int64_t row = (shard_ - before % shards_ + shards_) % shards_; row < c.rows;
           row += shards_)
        ours.push_back(row);
      if (!ours.empty()) return c.gather(ours);
    }
  }
  std::string position() const override { return std::to_string(at_); }
  void seek(std::string_view position) override {
    int64_t to = 0;
    for (char digit : position) {
      if (digit < '0' || digit > '9' || to > kInfinite / 10)
        fail({"generator: the state is damaged or of another version"});
      to = to * 10 + (digit - '0');
    }
    next_ = start_(), rest_ = {}, at_ = 0;
    while (at_ < to)
      if (!take(std::min<int64_t>(to - at_, 1024)).rows)
        fail({"generator: it ended after ", at_, " elements, expected the ", to, " of before"});
  }

 private:
  // What is left of the last chunk first.
  Chunk take(int64_t at_most) {
    if (!rest_.rows) rest_ = next_(at_most);
    const int64_t rows = std::min(at_most, rest_.rows);
    Chunk c = rest_.slice(0, rows);
    rest_ = rest_.slice(rows, rest_.rows);
    at_ += rows;
    return c;
  }
  const std::function<Next()> start_;
  const int64_t shards_, shard_;
  Next next_;
  Chunk rest_;
  int64_t at_ = 0;
};

class GeneratorStream final : public Stream {
 public:
  GeneratorStream(Schema schema, std::function<Next()> start)
      : schema_(std::move(schema)), start_(std::move(start)) {}
  const Schema& schema() const override { return schema_; }
  std::string_view name() const override { return "generator"; }
  std::unique_ptr<Cursor> open(int64_t shard, int64_t shards) const override {
    return std::make_unique<GeneratorCursor>(start_, shards, shard);
  }

 private:
  const Schema schema_;
  const std::function<Next()> start_;
};

}  // namespace

Dataset generator_chunks(Schema schema, std::function<std::function<Chunk()>()> start) {
  return Dataset::from(
      std::make_shared<GeneratorStream>(std::move(schema), [start = std::move(start)]() -> Next {
        return [next = start()](int64_t) { return next(); };
      }));
}
Dataset detail::generator_rows(std::function<Next()> start) {
  Schema schema;
  for (auto& c : start()(1).columns) schema.push_back(c.field());
  return Dataset::from(std::make_shared<GeneratorStream>(std::move(schema), std::move(start)));
}

}  // namespace evenflow::data
