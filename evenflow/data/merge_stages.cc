// SPDX-License-Identifier: Apache-2.0
// The stages with several inputs: zip, concatenate, interleave, sample.
#include <algorithm>
#include <utility>

#include "evenflow/core/error.h"
#include "evenflow/core/random.h"
#include "evenflow/data/stage.h"

namespace evenflow::data {
namespace {

bool all_indexed(const std::vector<StagePtr>& inputs) {
  return std::all_of(inputs.begin(), inputs.end(),
                     [](auto& i) { return i->indexed() && i->size() != kInfinite; });
}
int64_t total(const std::vector<StagePtr>& inputs) {
  int64_t n = 0;
  bool is_known = true;
  for (auto& i : inputs) {
    if (i->size() == kInfinite) return kInfinite;
    is_known &= i->size() != kUnknown;
    n = checked_add(n, i->size());
  }
  return is_known ? n : kUnknown;
}
void check_alike(const std::vector<StagePtr>& inputs, std::string_view name) {
  for (size_t i = 1; i < inputs.size(); ++i) {
    if (inputs[i]->batch() != inputs[0]->batch())
      fail({name, ": dataset ", i, " has batches of ", inputs[i]->batch(), ", expected ",
            inputs[0]->batch(), " as dataset 0 (0: none)"});
    const Schema &a = inputs[i]->schema(), &b = inputs[0]->schema();
    bool alike = a.size() == b.size();
    for (size_t k = 0; alike && k < a.size(); ++k)
      alike = a[k].kind == b[k].kind && a[k].dtype == b[k].dtype &&
              a[k].dims.size() == b[k].dims.size();
    if (!alike)
      fail({name, ": dataset ", i, " has ", str(a), ", expected ", str(b), " as dataset 0"});
  }
}

// ---- zip

class ZipFeed final : public Feed {
 public:
  ZipFeed(std::vector<FeedPtr> feeds, bool batched) : feeds_(std::move(feeds)), batched_(batched) {}
  Chunk next(int64_t at_most) override {
    if (ended_) return {};
    Chunk r = feeds_[0]->next(at_most);
    for (size_t i = 1; i < feeds_.size() && r.rows; ++i) {
      Chunk c = batched_ ? feeds_[i]->next(1) : next_exactly(*feeds_[i], r.rows);
      if (c.rows != r.rows) {
        if (batched_ && c.rows)
          fail({"zip: a batch of dataset ", i, " has ", c.rows, " rows, expected ", r.rows,
                " as dataset 0"});
        ended_ = true;
        r = r.slice(0, c.rows);
      }
      for (auto& column : c.columns) r.columns.push_back(std::move(column));
    }
    ended_ |= !r.rows;
    return r.rows ? r : Chunk();
  }
  void save(StateWriter& to) const override {
    to.number(ended_);
    for (auto& f : feeds_) f->save(to);
  }
  void load(StateReader& from) override {
    ended_ = from.number(1);
    for (auto& f : feeds_) f->load(from);
  }

 private:
  std::vector<FeedPtr> feeds_;
  const bool batched_;
  bool ended_ = false;
};
class ZipStage final : public Stage {
 public:
  explicit ZipStage(std::vector<StagePtr> inputs)
      : Stage({.name = "zip",
               .inputs = inputs,
               .indexed = all_indexed(inputs),
               .size = shortest(inputs),
               .batch = inputs[0]->batch()}) {
    for (size_t i = 1; i < inputs.size(); ++i)
      if (inputs[i]->batch() != inputs[0]->batch())
        fail({"zip: dataset ", i, " has batches of ", inputs[i]->batch(), ", expected ",
              inputs[0]->batch(), " as dataset 0 (0: none)"});
  }

 protected:
  Schema make_schema() const override {
    Schema s;
    for (auto& i : inputs()) s.insert(s.end(), i->schema().begin(), i->schema().end());
    return s;
  }
  Chunk do_read(std::span<const int64_t> indices, int64_t epoch) const override {
    Chunk r = input().read(indices, epoch);
    for (size_t i = 1; i < inputs().size(); ++i) {
      Chunk c = input(i).read(indices, epoch);
      if (c.rows != r.rows)
        fail({"zip: a batch of dataset ", i, " has ", c.rows, " rows, expected ", r.rows,
              " as dataset 0"});
      for (auto& column : c.columns) r.columns.push_back(std::move(column));
    }
    return r;
  }
  FeedPtr do_open(const Pass& pass) const override {
    std::vector<FeedPtr> feeds;
    for (auto& i : inputs()) feeds.push_back(i->open(pass));
    return std::make_unique<ZipFeed>(std::move(feeds), batch() > 0);
  }

 private:
  static int64_t shortest(const std::vector<StagePtr>& inputs) {
    int64_t n = kInfinite;
    for (auto& i : inputs) {
      if (i->size() == kUnknown) return kUnknown;
      n = std::min(n, i->size());
    }
    return n;
  }
};

// ---- feeds of several inputs, each opened when its turn comes

// Which inputs are open, and which have ended.
class Turns {
 public:
  Turns(const Stage& stage, const Pass& pass) : stage_(stage), pass_(pass) {}
  size_t size() const { return stage_.inputs().size(); }
  Feed& open(size_t input) {
    if (open_.size() < size()) open_.resize(size());
    if (!open_[input]) open_[input] = stage_.inputs()[input]->open(pass_);
    return *open_[input];
  }
  void close(size_t input) {
    if (input < open_.size()) open_[input] = nullptr;
  }
  void save(size_t input, StateWriter& to) const {
    const bool is_open = input < open_.size() && open_[input];
    to.number(is_open);
    if (is_open) open_[input]->save(to);
  }
  void load(size_t input, StateReader& from) {
    if (from.number(1)) open(input).load(from);
  }

 private:
  const Stage& stage_;
  const Pass pass_;
  std::vector<FeedPtr> open_;
};

class ConcatenateFeed final : public Feed {
 public:
  ConcatenateFeed(const Stage& stage, const Pass& pass) : turns_(stage, pass) {}
  Chunk next(int64_t at_most) override {
    for (; at_ < turns_.size(); turns_.close(at_++))
      if (Chunk c = turns_.open(at_).next(at_most); c.rows) return c;
    return {};
  }
  void save(StateWriter& to) const override {
    to.number(int64_t(at_));
    turns_.save(at_, to);
  }
  void load(StateReader& from) override {
    at_ = size_t(from.number(int64_t(turns_.size())));
    turns_.load(at_, from);
  }

 private:
  Turns turns_;
  size_t at_ = 0;
};
class ConcatenateStage final : public Stage {
 public:
  // Indexed only without batches: a short batch amid others has no index.
  explicit ConcatenateStage(std::vector<StagePtr> inputs)
      : Stage({.name = "concatenate",
               .inputs = inputs,
               .indexed = all_indexed(inputs) && !inputs[0]->batch(),
               .size = total(inputs),
               .batch = inputs[0]->batch()}) {
    check_alike(inputs, name());
    for (int64_t end = 0; auto& i : inputs) ends_.push_back(end += i->size());
  }

 protected:
  Schema make_schema() const override { return input().schema(); }
  Chunk do_read(std::span<const int64_t> indices, int64_t epoch) const override {
    // By input, then back in order.
    std::vector<std::vector<int64_t>> of(inputs().size());
    std::vector<std::pair<size_t, int64_t>> from;
    for (int64_t index : indices) {
      const size_t k = size_t(std::upper_bound(ends_.begin(), ends_.end(), index) - ends_.begin());
      from.emplace_back(k, int64_t(of[k].size()));
      of[k].push_back(index - (k ? ends_[k - 1] : 0));
    }
    std::vector<Chunk> parts;
    std::vector<int64_t> begins;
    int64_t rows = 0;
    for (size_t k = 0; k < of.size(); ++k) {
      begins.push_back(rows);
      if (of[k].empty()) continue;
      parts.push_back(input(k).read(of[k], epoch));
      rows += parts.back().rows;
    }
    Chunk all = concatenate(parts);
    std::vector<int64_t> order;
    bool is_in_order = true;
    for (auto& [k, i] : from) {
      order.push_back(begins[k] + i);
      is_in_order &= order.back() == int64_t(order.size()) - 1;
    }
    return is_in_order ? all : all.gather(order);
  }
  FeedPtr do_open(const Pass& pass) const override {
    return std::make_unique<ConcatenateFeed>(*this, pass);
  }

 private:
  std::vector<int64_t> ends_;
};

class InterleaveFeed final : public Feed {
 public:
  InterleaveFeed(const Stage& stage, const Pass& pass, int64_t cycle, int64_t block)
      : turns_(stage, pass), block_(block), batched_(stage.batch() > 0) {
    const size_t n = std::min(size_t(cycle), turns_.size());
    for (; next_ < n; ++next_) cycle_.push_back(int64_t(next_));
  }
  Chunk next(int64_t at_most) override {
    while (!cycle_.empty()) {
      const size_t input = size_t(cycle_[at_]);
      Chunk c = turns_.open(input).next(std::min(at_most, block_ - given_));
      if (c.rows) {
        given_ += batched_ ? 1 : c.rows;
        if (given_ == block_) turn(at_ + 1);
        return c;
      }
      // Who has ended makes place for the next of the list, or for nobody.
      turns_.close(input);
      if (next_ < turns_.size()) {
        cycle_[at_] = int64_t(next_++);
        turn(at_ + 1);
      } else {
        cycle_.erase(cycle_.begin() + int64_t(at_));
        turn(at_);
      }
    }
    return {};
  }
  void save(StateWriter& to) const override {
    to.number(int64_t(next_));
    to.number(int64_t(cycle_.size()));
    to.number(int64_t(at_));
    to.number(given_);
    for (int64_t input : cycle_) {
      to.number(input);
      turns_.save(size_t(input), to);
    }
  }
  void load(StateReader& from) override {
    const int64_t inputs = int64_t(turns_.size());
    next_ = size_t(from.number(inputs));
    cycle_.resize(size_t(from.number(inputs)));
    at_ = size_t(from.number(std::max<int64_t>(int64_t(cycle_.size()) - 1, 0)));
    given_ = from.number(block_);
    for (auto& input : cycle_) {
      input = from.number(inputs - 1);
      turns_.load(size_t(input), from);
    }
  }

 private:
  void turn(size_t to) { at_ = cycle_.empty() ? 0 : to % cycle_.size(), given_ = 0; }

  Turns turns_;
  const int64_t block_;
  const bool batched_;
  std::vector<int64_t> cycle_;  // the inputs that take turns
  size_t at_ = 0, next_ = 0;    // whose turn it is; the first input that was not in the cycle
  int64_t given_ = 0;           // elements in this turn
};
class InterleaveStage final : public Stage {
 public:
  InterleaveStage(std::vector<StagePtr> inputs, int64_t cycle, int64_t block)
      : Stage({.name = "interleave",
               .inputs = inputs,
               .size = total(inputs),
               .batch = inputs[0]->batch()}),
        cycle_(cycle),
        block_(block) {
    check_alike(inputs, name());
  }
  std::string describe() const override {
    return concat({"interleave(", cycle_, ", ", block_, ")"});
  }

 protected:
  Schema make_schema() const override { return input().schema(); }
  FeedPtr do_open(const Pass& pass) const override {
    return std::make_unique<InterleaveFeed>(*this, pass, cycle_, block_);
  }

 private:
  const int64_t cycle_, block_;
};

class SampleFeed final : public Feed {
 public:
  SampleFeed(const Stage& stage, const Pass& pass, const std::vector<double>& weights,
             uint64_t seed)
      : turns_(stage, pass),
        weights_(weights),
        draws_{seed},
        epoch_(uint64_t(pass.epoch)),
        batched_(stage.batch() > 0) {}
  Chunk next(int64_t at_most) override {
    for (size_t input; (input = drawn(at_)) < weights_.size();) {
      // One input's elements as long as it is drawn.
      int64_t run = 1;
      while (!batched_ && run < at_most && drawn(at_ + run) == input) ++run;
      Chunk c = turns_.open(input).next(run);
      if (c.rows) {
        at_ += batched_ ? 1 : c.rows;
        return c;
      }
      turns_.close(input);
      weights_[input] = 0;
    }
    return {};
  }
  void save(StateWriter& to) const override {
    to.number(at_);
    for (size_t i = 0; i < weights_.size(); ++i) {
      to.number(weights_[i] > 0);
      turns_.save(i, to);
    }
  }
  void load(StateReader& from) override {
    at_ = from.number(kInfinite);
    for (size_t i = 0; i < weights_.size(); ++i) {
      if (!from.number(1)) weights_[i] = 0;
      turns_.load(i, from);
    }
  }

 private:
  // Which input gives element `at`; weights_.size(): none is left.
  size_t drawn(int64_t at) const {
    double all = 0;
    for (double w : weights_) all += w;
    const auto words = draws_(epoch_, uint64_t(at));
    double u = uniform_f64(words[0], words[1]) * all;
    size_t last = weights_.size();
    for (size_t i = 0; i < weights_.size(); ++i) {
      if (!(weights_[i] > 0)) continue;
      last = i;
      if (u < weights_[i]) break;
      u -= weights_[i];
    }
    return last;
  }

  Turns turns_;
  std::vector<double> weights_;  // 0: has ended
  const Philox draws_;
  const uint64_t epoch_;
  const bool batched_;
  int64_t at_ = 0;
};
class SampleStage final : public Stage {
 public:
  SampleStage(std::vector<StagePtr> inputs, std::vector<double> weights, uint64_t seed)
      : Stage({.name = "sample",
               .inputs = inputs,
               .size = total(inputs),
               .batch = inputs[0]->batch()}),
        weights_(std::move(weights)),
        seed_(seed) {
    check_alike(inputs, name());
  }
  std::string describe() const override {
    std::string s = concat({"sample(", seed_});
    for (double w : weights_) s += concat({", ", w});
    return s + ")";
  }

 protected:
  Schema make_schema() const override { return input().schema(); }
  FeedPtr do_open(const Pass& pass) const override {
    return std::make_unique<SampleFeed>(*this, pass, weights_, seed_);
  }

 private:
  const std::vector<double> weights_;
  const uint64_t seed_;
};

}  // namespace

StagePtr zip_stage(std::vector<StagePtr> inputs) {
  return std::make_shared<ZipStage>(std::move(inputs));
}
StagePtr concatenate_stage(std::vector<StagePtr> inputs) {
  return std::make_shared<ConcatenateStage>(std::move(inputs));
}
StagePtr interleave_stage(std::vector<StagePtr> inputs, int64_t cycle, int64_t block) {
  return std::make_shared<InterleaveStage>(std::move(inputs), cycle, block);
}
StagePtr sample_stage(std::vector<StagePtr> inputs, std::vector<double> weights, uint64_t seed) {
  return std::make_shared<SampleStage>(std::move(inputs), std::move(weights), seed);
}

}  // namespace evenflow::data
