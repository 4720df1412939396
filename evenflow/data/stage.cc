// SPDX-License-Identifier: Apache-2.0
#include "evenflow/data/stage.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <utility>

#include "evenflow/core/error.h"
#include "evenflow/data/runner.h"

namespace evenflow::data {

// ---- positions

void StateWriter::number(int64_t v) {
  // Seven bits a byte, the sign in the lowest (protocol buffers' zigzag).
  for (uint64_t u = uint64_t(v) << 1 ^ uint64_t(v >> 63);; u >>= 7) {
    bytes_.push_back(char(u < 128 ? u : u | 128));
    if (u < 128) return;
  }
}
void StateWriter::text(std::string_view s) {
  number(int64_t(s.size()));
  bytes_ += s;
}
int64_t StateReader::number() {
  uint64_t u = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (rest_.empty()) break;
    const uint8_t byte = uint8_t(rest_.front());
    rest_.remove_prefix(1);
    u |= uint64_t(byte & 127) << shift;
    if (byte < 128) return int64_t(u >> 1) ^ -int64_t(u & 1);
  }
  fail({"dataset: the state is damaged or of another version"});
}
int64_t StateReader::number(int64_t most) {
  const int64_t v = number();
  if (v < 0 || v > most) fail({"dataset: the state has the number ", v, ", expected 0..", most});
  return v;
}
std::string_view StateReader::text() { return raw(number(int64_t(rest_.size()))); }
std::string_view StateReader::raw(int64_t bytes) {
  if (bytes > int64_t(rest_.size())) fail({"dataset: the state is damaged or of another version"});
  const std::string_view s = rest_.substr(0, size_t(bytes));
  rest_.remove_prefix(size_t(bytes));
  return s;
}

std::string saved(const Feed& feed) {
  StateWriter w;
  feed.save(w);
  return w.take();
}
Chunk next_exactly(Feed& feed, int64_t rows) {
  Chunk first = feed.next(rows);
  if (first.rows >= rows || !first.rows) return first;
  std::vector<Chunk> parts{std::move(first)};
  for (int64_t left = rows - parts[0].rows; left > 0;) {
    Chunk c = feed.next(left);
    if (!c.rows) break;
    left -= c.rows;
    parts.push_back(std::move(c));
  }
  return concatenate(parts);
}

// ---- time

namespace {
thread_local Timed* innermost = nullptr;
int64_t now() { return std::chrono::steady_clock::now().time_since_epoch().count(); }
}  // namespace

Timed::Timed(const Stage& stage) : stage_(stage), outer_(std::exchange(innermost, this)) {
  start_ = now();
}
Timed::~Timed() {
  const int64_t all = now() - start_;
  stage_.times().nanoseconds += all - inside_;
  stage_.times().rows += rows_;
  innermost = outer_;
  if (outer_) outer_->inside_ += all;
}

// ---- stages

namespace {
// The indices of an indexed stage, as chunks of rows without columns.
class IndexFeed final : public Feed {
 public:
  explicit IndexFeed(int64_t size) : size_(size) {}
  Chunk next(int64_t at_most) override {
    const int64_t rows = std::min(at_most, size_ - at_);
    at_ += rows;
    return {{}, rows};
  }
  void save(StateWriter& to) const override { to.number(at_); }
  void load(StateReader& from) override { at_ = from.number(size_); }

 private:
  const int64_t size_;
  int64_t at_ = 0;
};
}  // namespace

Stage::Stage(Traits traits) : traits_(std::move(traits)) {
  for (auto& i : traits_.inputs) traits_.cheap &= i->cheap();
}
const Schema& Stage::schema() const {
  std::call_once(schema_once_, [&] { schema_ = make_schema(); });
  return schema_;
}
Schema Stage::make_schema() const {
  Chunk c;
  if (!indexed())
    c = open({})->next(1);
  else if (size() > 0)
    c = read(std::array<int64_t, 1>{0}, 0);
  Schema s;
  for (size_t i = 0; i < c.columns.size(); ++i) {
    const Schema* named = inputs().empty() ? nullptr : &input().schema();
    s.push_back(c.columns[i].field(named && named->size() == c.columns.size() ? (*named)[i].name
                                                                              : std::string()));
  }
  return s;
}
int64_t Stage::rows() const {
  const int64_t n = size();
  if (!batch() || n == kUnknown || n == kInfinite) return n;
  const bool is_like_input =
      inputs().size() == 1 && input().batch() == batch() && input().size() == n;
  return is_like_input ? input().rows() : checked_mul(n, batch());
}
Chunk Stage::read(std::span<const int64_t> indices, int64_t epoch) const {
  Timed timed(*this);
  Chunk c = do_read(indices, epoch);
  timed.rows(c.rows);
  return c;
}
Chunk Stage::do_read(std::span<const int64_t>, int64_t) const {
  fail(Code::Internal, {"dataset: ", name(), " is not indexed"});
}
FeedPtr Stage::do_open(const Pass&) const {
  fail(Code::Internal, {"dataset: ", name(), " has no feed"});
}
Work Stage::work(const Pass& pass) const {
  if (!indexed()) return {do_open(pass), {}};
  return {std::make_unique<IndexFeed>(size()), {[this](Rows& rows) {
            rows.chunk = read(rows.indices, rows.epoch);
            if (!batch()) return;
            rows.indices.resize(size_t(rows.chunk.rows));
            std::iota(rows.indices.begin(), rows.indices.end(), rows.indices[0] * batch());
          }}};
}
FeedPtr Stage::open(const Pass& pass) const {
  Pass inside = pass;
  ++inside.depth;
  Work w = work(inside);
  return w.steps.empty() ? std::move(w.feed) : ahead(pass, std::move(w), batch() > 0);
}

std::string describe(const Stage& last) {
  std::string s = last.describe();
  if (last.inputs().size() == 1) return s + " <- " + describe(*last.inputs()[0]);
  for (size_t i = 0; i < last.inputs().size(); ++i)
    s += (i ? ", (" : " <- (") + describe(*last.inputs()[i]) + ")";
  return s;
}

}  // namespace evenflow::data
