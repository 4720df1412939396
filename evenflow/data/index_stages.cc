// SPDX-License-Identifier: Apache-2.0
// Sources, and the stages that choose and order elements: those of an indexed stage by computing
// with indices, those of another one by counting.
#include <algorithm>
#include <optional>
#include <utility>

#include "evenflow/core/error.h"
#include "evenflow/core/random.h"
#include "evenflow/data/dataset.h"
#include "evenflow/data/runner.h"
#include "evenflow/data/stage.h"

namespace evenflow::data {
namespace {

class SourceStage final : public Stage {
 public:
  SourceStage(std::shared_ptr<const Source> source, bool cheap)
      : Stage({.name = std::string(source->name()),
               .indexed = true,
               .size = source->size(),
               .cheap = cheap}),
        source_(std::move(source)) {}
  std::string describe() const override { return concat({name(), "(", size(), ")"}); }

 protected:
  Schema make_schema() const override { return source_->schema(); }
  Chunk do_read(std::span<const int64_t> indices, int64_t) const override {
    return source_->read(indices);
  }

 private:
  std::shared_ptr<const Source> source_;
};

class StreamFeed final : public Feed {
 public:
  StreamFeed(const Stage& stage, std::unique_ptr<Cursor> cursor)
      : stage_(stage), cursor_(std::move(cursor)) {}
  Chunk next(int64_t at_most) override {
    constexpr int64_t kMostRows = 4096;  // room is made for as many as are asked for
    Timed timed(stage_);
    Chunk c = cursor_->next(std::min(at_most, kMostRows));
    timed.rows(c.rows);
    return c;
  }
  void save(StateWriter& to) const override { to.text(cursor_->position()); }
  void load(StateReader& from) override { cursor_->seek(from.text()); }

 private:
  const Stage& stage_;
  std::unique_ptr<Cursor> cursor_;
};
class StreamStage final : public Stage {
 public:
  StreamStage(std::shared_ptr<const Stream> stream, int64_t shard, int64_t shards)
      : Stage({.name = std::string(stream->name()),
               .size = shards == 1 ? stream->size() : kUnknown,
               .cheap = false}),
        stream_(std::move(stream)),
        shard_(shard),
        shards_(shards) {}
  std::string describe() const override {
    return shards_ == 1 ? name() : concat({name(), "(shard ", shard_, " of ", shards_, ")"});
  }
  StagePtr sharded(int64_t shards, int64_t shard) const {
    return shards_ == 1 ? stream_stage(stream_, shard, shards) : nullptr;
  }

 protected:
  Schema make_schema() const override { return stream_->schema(); }
  FeedPtr do_open(const Pass&) const override {
    return std::make_unique<StreamFeed>(*this, stream_->open(shard_, shards_));
  }

 private:
  std::shared_ptr<const Stream> stream_;
  const int64_t shard_, shards_;
};

// What most stages that choose pass on from their input.
Stage::Traits like(const StagePtr& input, std::string name, int64_t size) {
  return {.name = std::move(name),
          .inputs = {input},
          .indexed = input->indexed(),
          .size = size,
          .batch = input->batch()};
}
// Elements of a chunk that a feed gave.
int64_t elements(const Stage& stage, const Chunk& c) {
  return stage.batch() ? std::min<int64_t>(c.rows, 1) : c.rows;
}

// Skips some elements, then takes some.
class PartFeed final : public Feed {
 public:
  PartFeed(const Stage& input, FeedPtr feed, int64_t skip, int64_t take)
      : input_(input), feed_(std::move(feed)), skip_(skip), take_(take) {}
  Chunk next(int64_t at_most) override {
    while (skip_) {
      const int64_t n = elements(input_, feed_->next(std::min(skip_, kPiece)));
      skip_ = n ? skip_ - n : 0;
    }
    if (!take_) return {};
    Chunk c = feed_->next(std::min(at_most, take_));
    take_ -= elements(input_, c);
    return c;
  }
  void save(StateWriter& to) const override {
    to.number(skip_);
    to.number(take_);
    feed_->save(to);
  }
  void load(StateReader& from) override {
    skip_ = from.number(skip_);
    take_ = from.number(take_);
    feed_->load(from);
  }

 private:
  static constexpr int64_t kPiece = 1024;
  const Stage& input_;
  FeedPtr feed_;
  int64_t skip_, take_;
};
class PartStage final : public Stage {
 public:
  PartStage(StagePtr input, int64_t skip, int64_t take)
      : Stage(like(input, skip ? "skip" : "take",
                   input->size() == kUnknown || input->size() == kInfinite
                       ? std::min(take, input->size())
                       : std::min(take, std::max<int64_t>(0, input->size() - skip)))),
        skip_(skip),
        take_(take) {}
  int64_t rows() const override {
    const int64_t all = input().rows(), most = Stage::rows();
    if (!batch() || all == kUnknown || all == kInfinite) return most;
    return std::min(most, std::max<int64_t>(0, all - skip_ * batch()));
  }
  std::string describe() const override {
    return concat({name(), "(", skip_ ? skip_ : take_, ")"});
  }

 protected:
  Schema make_schema() const override { return input().schema(); }
  Chunk do_read(std::span<const int64_t> indices, int64_t epoch) const override {
    if (!skip_) return input().read(indices, epoch);
    std::vector<int64_t> at(indices.begin(), indices.end());
    for (auto& i : at) i += skip_;
    return input().read(at, epoch);
  }
  FeedPtr do_open(const Pass& pass) const override {
    return std::make_unique<PartFeed>(input(), input().open(pass), skip_, take_);
  }

 private:
  const int64_t skip_, take_;
};

class OrderStage final : public Stage {
 public:
  OrderStage(StagePtr input, std::shared_ptr<const std::vector<int64_t>> order)
      : Stage(like(input, "split", int64_t(order->size()))), order_(std::move(order)) {}

 protected:
  Schema make_schema() const override { return input().schema(); }
  Chunk do_read(std::span<const int64_t> indices, int64_t epoch) const override {
    std::vector<int64_t> at(indices.size());
    for (size_t i = 0; i < at.size(); ++i) at[i] = (*order_)[size_t(indices[i])];
    return input().read(at, epoch);
  }

 private:
  std::shared_ptr<const std::vector<int64_t>> order_;
};

class ShardFeed final : public Feed {
 public:
  ShardFeed(const Stage& input, FeedPtr feed, int64_t shards, int64_t shard)
      : input_(input), feed_(std::move(feed)), shards_(shards), shard_(shard) {}
  Chunk next(int64_t at_most) override {
    for (;;) {
      // As many as hold what is asked for, where that is not too many.
      const int64_t ask = at_most > kMostRows / shards_ ? kMostRows : at_most * shards_;
      Chunk c = feed_->next(input_.batch() ? at_most : ask);
      const int64_t first = (shard_ - at_ % shards_ + shards_) % shards_, n = elements(input_, c);
      at_ = (at_ + n) % shards_;
      if (!n) return {};
      if (first >= n) continue;
      if (input_.batch() || shards_ == 1) return c;
      std::vector<int64_t> rows;
      for (int64_t r = first; r < n; r += shards_) rows.push_back(r);
      return c.gather(rows);
    }
  }
  void save(StateWriter& to) const override {
    to.number(at_);
    feed_->save(to);
  }
  void load(StateReader& from) override {
    at_ = from.number(shards_ - 1);
    feed_->load(from);
  }

 private:
  static constexpr int64_t kMostRows = 1024;
  const Stage& input_;
  FeedPtr feed_;
  const int64_t shards_, shard_;
  int64_t at_ = 0;
};
class ShardStage final : public Stage {
 public:
  ShardStage(StagePtr input, int64_t shards, int64_t shard)
      : Stage(like(input, "shard",
                   input->size() == kUnknown || input->size() == kInfinite
                       ? input->size()
                       : (input->size() - shard + shards - 1) / shards)),
        shards_(shards),
        shard_(shard) {}
  std::string describe() const override { return concat({"shard(", shard_, " of ", shards_, ")"}); }

 protected:
  Schema make_schema() const override { return input().schema(); }
  Chunk do_read(std::span<const int64_t> indices, int64_t epoch) const override {
    std::vector<int64_t> at(indices.begin(), indices.end());
    for (auto& i : at) i = checked_add(checked_mul(i, shards_), shard_);
    return input().read(at, epoch);
  }
  FeedPtr do_open(const Pass& pass) const override {
    return std::make_unique<ShardFeed>(input(), input().open(pass), shards_, shard_);
  }

 private:
  const int64_t shards_, shard_;
};

class ShuffleStage final : public Stage {
 public:
  ShuffleStage(StagePtr input, uint64_t seed)
      : Stage(like(input, "shuffle", input->size())), seed_(seed) {}
  std::string describe() const override { return concat({"shuffle(", seed_, ")"}); }

 protected:
  Schema make_schema() const override { return input().schema(); }
  Chunk do_read(std::span<const int64_t> indices, int64_t epoch) const override {
    const Permutation p(size(), seed_, uint64_t(epoch));
    std::vector<int64_t> at(indices.size());
    for (size_t i = 0; i < at.size(); ++i) at[i] = p(indices[i]);
    return input().read(at, epoch);
  }

 private:
  const uint64_t seed_;
};

// The order of a window: each has a permutation of its own.
Permutation window_order(int64_t rows, uint64_t seed, int64_t epoch, int64_t window) {
  const auto words = Philox{seed}(uint64_t(epoch), uint64_t(window));
  return Permutation(rows, uint64_t(words[0]) << 32 | words[1], 0);
}
class WindowShuffleFeed final : public Feed {
 public:
  WindowShuffleFeed(const Stage& input, FeedPtr feed, int64_t window, uint64_t seed, int64_t epoch)
      : input_(input), feed_(std::move(feed)), window_(window), seed_(seed), epoch_(epoch) {
    before_ = saved(*feed_);
  }
  Chunk next(int64_t at_most) override {
    if (at_ == rows_ && !fill()) return {};
    const Permutation p = window_order(rows_, seed_, epoch_, number_ - 1);
    if (input_.batch()) return batches_[size_t(p(at_++))];
    std::vector<int64_t> which(size_t(std::min(at_most, rows_ - at_)));
    for (auto& w : which) w = p(at_++);
    return all_.gather(which);
  }
  void save(StateWriter& to) const override {
    // A window that was given out whole is not read again.
    const bool is_whole = at_ == rows_;
    to.number(is_whole ? number_ : number_ - 1);
    to.number(is_whole ? 0 : at_);
    if (is_whole)
      feed_->save(to);
    else
      to.raw(before_);
  }
  void load(StateReader& from) override {
    number_ = from.number(kInfinite);
    const int64_t at = from.number(window_);
    feed_->load(from);
    if (!at) return;
    fill();
    if (at > rows_) fail({"shuffle_window: the state is of other data"});
    at_ = at;
  }

 private:
  bool fill() {
    before_ = saved(*feed_);
    batches_.clear();
    all_ = {}, at_ = rows_ = 0;
    if (input_.batch())
      for (Chunk c; rows_ < window_ && (c = feed_->next(1)).rows; ++rows_) batches_.push_back(c);
    else
      all_ = next_exactly(*feed_, window_), rows_ = all_.rows;
    number_ += rows_ > 0;
    return rows_ > 0;
  }

  const Stage& input_;
  FeedPtr feed_;
  const int64_t window_;
  const uint64_t seed_;
  const int64_t epoch_;
  std::string before_;  // where the feed was before this window
  std::vector<Chunk> batches_;
  Chunk all_;
  int64_t number_ = 0, rows_ = 0, at_ = 0;  // windows that were begun; elements of this one
};
class WindowShuffleStage final : public Stage {
 public:
  WindowShuffleStage(StagePtr input, int64_t window, uint64_t seed)
      : Stage(like(input, "shuffle_window", input->size())), window_(window), seed_(seed) {}
  std::string describe() const override {
    return concat({"shuffle_window(", window_, ", ", seed_, ")"});
  }

 protected:
  Schema make_schema() const override { return input().schema(); }
  Chunk do_read(std::span<const int64_t> indices, int64_t epoch) const override {
    std::vector<int64_t> at(indices.size());
    std::optional<Permutation> p;
    for (int64_t i = 0, last = -1; i < int64_t(at.size()); ++i) {
      const int64_t window = indices[size_t(i)] / window_, begin = window * window_;
      if (window != last)
        p.emplace(window_order(std::min(window_, size() - begin), seed_, epoch, last = window));
      at[size_t(i)] = begin + (*p)(indices[size_t(i)] - begin);
    }
    return input().read(at, epoch);
  }
  FeedPtr do_open(const Pass& pass) const override {
    return std::make_unique<WindowShuffleFeed>(input(), input().open(pass), window_, seed_,
                                               pass.epoch);
  }

 private:
  const int64_t window_;
  const uint64_t seed_;
};

// Repetition r of epoch e is epoch e * times + r of the input, so that none is met twice.
class RepeatStage final : public Stage {
 public:
  RepeatStage(StagePtr input, int64_t times)
      : Stage(like(input, "repeat", whole_size(*input, times))), times_(times) {}
  std::string describe() const override {
    return times_ == kInfinite ? "repeat" : concat({"repeat(", times_, ")"});
  }
  int64_t epoch(int64_t outer, int64_t repetition) const {
    constexpr int64_t kFar = int64_t(1) << 31;  // epochs of what has no end
    return outer * (times_ == kInfinite ? kFar : times_) + repetition;
  }
  int64_t times() const { return times_; }
  const Stage& repeated() const { return input(); }

 protected:
  Schema make_schema() const override { return input().schema(); }
  Chunk do_read(std::span<const int64_t> indices, int64_t outer) const override {
    const int64_t n = input().size();
    std::vector<Chunk> parts;
    std::vector<int64_t> at;
    for (size_t i = 0; i < indices.size();) {
      const int64_t repetition = indices[i] / n;
      at.clear();
      for (; i < indices.size() && indices[i] / n == repetition; ++i) at.push_back(indices[i] % n);
      parts.push_back(input().read(at, epoch(outer, repetition)));
    }
    return concatenate(parts);
  }
  FeedPtr do_open(const Pass& pass) const override;

 private:
  static int64_t whole_size(const Stage& input, int64_t times) {
    if (!input.size() || !times) return 0;
    if (input.size() == kUnknown) return kUnknown;
    return input.size() > kInfinite / times ? kInfinite : input.size() * times;
  }
  const int64_t times_;
};
class RepeatFeed final : public Feed {
 public:
  RepeatFeed(const RepeatStage& stage, const Pass& pass) : stage_(stage), pass_(pass) { begin(0); }
  Chunk next(int64_t at_most) override {
    while (feed_) {
      if (Chunk c = feed_->next(at_most); c.rows) return is_empty_ = false, c;
      if (is_empty_ || repetition_ + 1 >= stage_.times()) return {};
      begin(repetition_ + 1);
    }
    return {};
  }
  void save(StateWriter& to) const override {
    to.number(repetition_);
    to.number(is_empty_);
    if (feed_) feed_->save(to);
  }
  void load(StateReader& from) override {
    if (const int64_t r = from.number(kInfinite)) begin(r);
    is_empty_ = from.number(1);
    if (feed_) feed_->load(from);
  }

 private:
  void begin(int64_t repetition) {
    repetition_ = repetition, is_empty_ = true;
    if (!stage_.times()) return;
    Pass p = pass_;
    p.epoch = stage_.epoch(pass_.epoch, repetition);
    feed_ = nullptr;
    feed_ = stage_.repeated().open(p);
  }

  const RepeatStage& stage_;
  const Pass pass_;
  FeedPtr feed_;
  int64_t repetition_ = 0;
  bool is_empty_ = true;  // so far: what is empty is not repeated for ever
};
FeedPtr RepeatStage::do_open(const Pass& pass) const {
  return std::make_unique<RepeatFeed>(*this, pass);
}

}  // namespace

StagePtr source_stage(std::shared_ptr<const Source> source, bool cheap) {
  return std::make_shared<SourceStage>(std::move(source), cheap);
}
StagePtr stream_stage(std::shared_ptr<const Stream> stream, int64_t shard, int64_t shards) {
  return std::make_shared<StreamStage>(std::move(stream), shard, shards);
}
StagePtr part_stage(StagePtr input, int64_t skip, int64_t take) {
  return std::make_shared<PartStage>(std::move(input), skip, take);
}
StagePtr order_stage(StagePtr input, std::shared_ptr<const std::vector<int64_t>> order) {
  return std::make_shared<OrderStage>(std::move(input), std::move(order));
}
StagePtr shard_stage(StagePtr input, int64_t shards, int64_t shard) {
  if (auto* stream = dynamic_cast<const StreamStage*>(input.get()))
    if (StagePtr s = stream->sharded(shards, shard)) return s;
  return std::make_shared<ShardStage>(std::move(input), shards, shard);
}
StagePtr shuffle_stage(StagePtr input, uint64_t seed) {
  return std::make_shared<ShuffleStage>(std::move(input), seed);
}
StagePtr window_shuffle_stage(StagePtr input, int64_t window, uint64_t seed) {
  return std::make_shared<WindowShuffleStage>(std::move(input), window, seed);
}
StagePtr repeat_stage(StagePtr input, int64_t times) {
  return std::make_shared<RepeatStage>(std::move(input), times);
}

}  // namespace evenflow::data
