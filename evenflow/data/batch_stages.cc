// SPDX-License-Identifier: Apache-2.0
// The stages between rows and batches: batch, unbatch, buckets by length.
#include <algorithm>
#include <deque>
#include <numeric>
#include <utility>

#include "evenflow/core/error.h"
#include "evenflow/data/stage.h"

namespace evenflow::data {
namespace {

class BatchFeed final : public Feed {
 public:
  BatchFeed(FeedPtr feed, int64_t size, bool drop_remainder)
      : feed_(std::move(feed)), size_(size), drop_remainder_(drop_remainder) {}
  Chunk next(int64_t) override {
    Chunk c = next_exactly(*feed_, size_);
    return drop_remainder_ && c.rows < size_ ? Chunk() : c;
  }
  void save(StateWriter& to) const override { feed_->save(to); }
  void load(StateReader& from) override { feed_->load(from); }

 private:
  FeedPtr feed_;
  const int64_t size_;
  const bool drop_remainder_;
};
class BatchStage final : public Stage {
 public:
  BatchStage(StagePtr input, int64_t size, bool drop_remainder)
      : Stage({.name = "batch",
               .inputs = {input},
               .indexed = input->indexed(),
               .size = batches(input->size(), size, drop_remainder),
               .batch = size}),
        drop_remainder_(drop_remainder) {}
  int64_t rows() const override { return drop_remainder_ ? Stage::rows() : input().size(); }
  std::string describe() const override {
    return concat({"batch(", batch(), drop_remainder_ ? ", drop_remainder)" : ")"});
  }

 protected:
  Schema make_schema() const override { return input().schema(); }
  Chunk do_read(std::span<const int64_t> indices, int64_t epoch) const override {
    const int64_t begin = indices[0] * batch();
    std::vector<int64_t> rows(size_t(std::min(batch(), input().size() - begin)));
    std::iota(rows.begin(), rows.end(), begin);
    return input().read(rows, epoch);
  }
  FeedPtr do_open(const Pass& pass) const override {
    return std::make_unique<BatchFeed>(input().open(pass), batch(), drop_remainder_);
  }

 private:
  static int64_t batches(int64_t rows, int64_t size, bool drop_remainder) {
    if (rows == kUnknown || rows == kInfinite) return rows;
    return drop_remainder ? rows / size : rows / size + (rows % size != 0);
  }
  const bool drop_remainder_;
};

class UnbatchFeed final : public Feed {
 public:
  explicit UnbatchFeed(FeedPtr feed) : feed_(std::move(feed)), before_(saved(*feed_)) {}
  Chunk next(int64_t at_most) override {
    if (at_ == batch_.rows) {
      before_ = saved(*feed_);
      batch_ = feed_->next(1), at_ = 0;
    }
    const int64_t rows = std::min(at_most, batch_.rows - at_);
    at_ += rows;
    return batch_.slice(at_ - rows, at_);
  }
  void save(StateWriter& to) const override {
    const bool is_whole = at_ == batch_.rows;
    to.number(is_whole ? 0 : at_);
    is_whole ? feed_->save(to) : to.raw(before_);
  }
  void load(StateReader& from) override {
    const int64_t at = from.number(kInfinite);
    feed_->load(from);
    before_ = saved(*feed_);
    if (at) batch_ = feed_->next(1);
    if (at > batch_.rows) fail({"unbatch: the state is of other data"});
    at_ = at;
  }

 private:
  FeedPtr feed_;
  std::string before_;  // where the feed was before this batch
  Chunk batch_;
  int64_t at_ = 0;
};
class UnbatchStage final : public Stage {
 public:
  explicit UnbatchStage(StagePtr input) : Stage({.name = "unbatch", .inputs = {input}}) {}

 protected:
  Schema make_schema() const override { return input().schema(); }
  FeedPtr do_open(const Pass& pass) const override {
    return std::make_unique<UnbatchFeed>(input().open(pass));
  }
};

int64_t length_of(const Column& c, int64_t row) {
  if (c.kind() == ColumnKind::strings) return int64_t(c.strings()[row].size());
  return c.splits()[size_t(row) + 1] - c.splits()[size_t(row)];
}

// A bucket is a queue, so how many rows entered each and how many it gave out say which wait. The
// state is the place of the piece with the oldest that waits, and how many of the rows from there
// on each bucket gave out.
class BucketFeed final : public Feed {
 public:
  BucketFeed(FeedPtr feed, const BucketSettings& settings)
      : feed_(std::move(feed)),
        s_(settings),
        buckets_(settings.batch_sizes.size()),
        entered_(buckets_.size(), 0),
        gave_(buckets_.size(), 0) {}
  Chunk next(int64_t) override {
    for (;;) {
      for (size_t b = 0; b < buckets_.size(); ++b) {
        const auto& waiting = buckets_[b];
        if (int64_t(waiting.size()) == s_.batch_sizes[b] ||
            (!waiting.empty() && at_ - waiting.front().index > s_.max_wait))
          return give(b);
      }
      if (!enter()) break;
    }
    for (size_t b = 0; b < buckets_.size() && !s_.drop_remainder; ++b)
      if (!buckets_[b].empty()) return give(b);
    return {};
  }
  void save(StateWriter& to) const override {
    const Place from = places_.empty() ? here() : places_.front();
    to.number(from.index);
    to.number(at_);
    for (size_t b = 0; b < buckets_.size(); ++b)
      to.number(std::max<int64_t>(0, gave_[b] - from.entered[b]));
    to.raw(from.state);
  }
  void load(StateReader& from) override {
    at_ = from.number(kInfinite);
    const int64_t until = from.number(kInfinite);
    for (auto& n : gave_) n = from.number(kInfinite);
    feed_->load(from);
    while (at_ < until)
      if (!enter()) fail({"bucket_by_length: the state is of other data"});
    trim();
  }

 private:
  struct Waiting {
    Chunk row;
    int64_t index;
  };
  struct Place {
    std::string state;
    int64_t index;
    std::vector<int64_t> entered;
  };
  static constexpr int64_t kPiece = 64;

  Place here() const { return {saved(*feed_), at_, entered_}; }
  bool enter() {
    if (piece_at_ == piece_.rows) {
      places_.push_back(here());
      piece_ = feed_->next(kPiece), piece_at_ = 0;
      if (!piece_.rows) {
        places_.pop_back();
        return false;
      }
    }
    const int64_t row = piece_at_++, index = at_++;
    const int64_t length = length_of(piece_.columns[s_.column], row);
    const size_t b = size_t(std::upper_bound(s_.boundaries.begin(), s_.boundaries.end(), length) -
                            s_.boundaries.begin());
    if (entered_[b]++ >= gave_[b]) buckets_[b].push_back({piece_.slice(row, row + 1), index});
    return true;
  }
  Chunk give(size_t b) {
    std::vector<Chunk> rows;
    for (auto& w : buckets_[b]) rows.push_back(std::move(w.row));
    buckets_[b].clear();
    gave_[b] += int64_t(rows.size());
    trim();
    return padded(concatenate(rows), {}, s_.padding_values);
  }
  // Forgets the places of pieces of which no row waits.
  void trim() {
    int64_t oldest = at_;
    for (auto& b : buckets_)
      if (!b.empty()) oldest = std::min(oldest, b.front().index);
    while (places_.size() > 1 && oldest >= places_[1].index) places_.pop_front();
  }

  FeedPtr feed_;
  const BucketSettings& s_;
  std::vector<std::deque<Waiting>> buckets_;
  std::vector<int64_t> entered_, gave_;
  std::deque<Place> places_;
  Chunk piece_;
  int64_t piece_at_ = 0, at_ = 0;
};
class BucketStage final : public Stage {
 public:
  BucketStage(StagePtr input, BucketSettings s)
      : Stage({.name = "bucket_by_length",
               .inputs = {input},
               .size = input->size() == kInfinite ? kInfinite : kUnknown,
               .batch = *std::max_element(s.batch_sizes.begin(), s.batch_sizes.end()),
               .cheap = false}),
        settings_(std::move(s)) {}

 protected:
  Schema make_schema() const override {
    Schema s = input().schema();
    for (auto& f : s)
      if (f.kind == ColumnKind::ragged) {
        f.kind = ColumnKind::dense;
        f.dims.insert(f.dims.begin(), -1);
      }
    return s;
  }
  FeedPtr do_open(const Pass& pass) const override {
    return std::make_unique<BucketFeed>(input().open(pass), settings_);
  }

 private:
  const BucketSettings settings_;
};

Column padded(const Column& c, int64_t length, double value) {
  const Splits& splits = c.splits();
  for (size_t i = 1; i < splits.size(); ++i) {
    const int64_t found = splits[i] - splits[i - 1];
    if (length >= 0 && found > length)
      fail({"padded_batch: a row has length ", found, ", expected at most ", length});
  }
  if (length < 0)
    for (size_t i = 1; i < splits.size(); ++i) length = std::max(length, splits[i] - splits[i - 1]);
  length = std::max<int64_t>(length, 0);
  const Sig& sig = c.values().sig;
  std::vector<int64_t> dims{c.rows(), length};
  dims.insert(dims.end(), sig.shape.begin() + 1, sig.shape.end());
  Array a = make_array({sig.dtype, Shape(dims)});
  const Tensor fill = constant({value}, {1}, sig.dtype);
  const int64_t one = size_of(sig.dtype), bytes = c.row_bytes();
  char* to = static_cast<char*>(a.data->data());
  const char* from = static_cast<const char*>(c.values().data->data());
  const char* const pad = static_cast<const char*>(fill.data());
  for (int64_t row = 0; row < c.rows(); ++row) {
    const int64_t begin = splits[size_t(row)] * bytes, end = splits[size_t(row) + 1] * bytes;
    std::copy(from + begin, from + end, to);
    char* const row_end = to + length * bytes;
    for (to += end - begin; to < row_end; to += one) std::copy(pad, pad + one, to);
  }
  return Column(std::move(a));
}

}  // namespace

Chunk padded(Chunk chunk, const std::vector<int64_t>& lengths, const std::vector<double>& values) {
  for (size_t i = 0; i < chunk.columns.size(); ++i) {
    Column& c = chunk.columns[i];
    if (c.kind() == ColumnKind::ragged)
      c = padded(c, i < lengths.size() ? lengths[i] : -1, i < values.size() ? values[i] : 0);
  }
  return chunk;
}
StagePtr batch_stage(StagePtr input, int64_t size, bool drop_remainder) {
  return std::make_shared<BatchStage>(std::move(input), size, drop_remainder);
}
StagePtr unbatch_stage(StagePtr input) { return std::make_shared<UnbatchStage>(std::move(input)); }
StagePtr bucket_stage(StagePtr input, BucketSettings settings) {
  return std::make_shared<BucketStage>(std::move(input), std::move(settings));
}

}  // namespace evenflow::data
