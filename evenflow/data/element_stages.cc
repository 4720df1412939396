// SPDX-License-Identifier: Apache-2.0
// The stages that work on each element: map, filter, skip_errors, prefetch.
#include <utility>

#include "evenflow/core/error.h"
#include "evenflow/data/runner.h"
#include "evenflow/data/stage.h"

namespace evenflow::data {
namespace {

Chunk mapped(const ChunkMap& f, const Chunk& chunk, const Place& place) {
  Chunk r = f(chunk, place);
  for (size_t i = 0; i < r.columns.size(); ++i)
    if (r.columns[i].rows() != chunk.rows)
      fail({"map: column ", i, " of the function's result has ", r.columns[i].rows(),
            " rows, expected the ", chunk.rows, " of its argument"});
  if (r.columns.empty()) fail({"map: the function's result has no column"});
  r.rows = chunk.rows;
  return r;
}

class MapStage final : public Stage {
 public:
  MapStage(std::string name, StagePtr input, ChunkMap f)
      : Stage({.name = std::move(name),
               .inputs = {input},
               .indexed = input->indexed(),
               .size = input->size(),
               .batch = input->batch(),
               .cheap = false}),
        f_(std::move(f)) {}
  Work work(const Pass& pass) const override {
    if (indexed()) return Stage::work(pass);
    Work w = input().work(pass);
    w.steps.push_back([this](Rows& rows) {
      Timed timed(*this);
      rows.chunk = mapped(f_, rows.chunk, {rows.epoch, rows.indices});
      timed.rows(rows.chunk.rows);
    });
    return w;
  }

 protected:
  Chunk do_read(std::span<const int64_t> indices, int64_t epoch) const override {
    const Chunk c = input().read(indices, epoch);
    if (!batch()) return mapped(f_, c, {epoch, indices});
    std::vector<int64_t> rows(size_t(c.rows));
    for (size_t i = 0; i < rows.size(); ++i) rows[i] = indices[0] * batch() + int64_t(i);
    return mapped(f_, c, {epoch, rows});
  }

 private:
  ChunkMap f_;
};

class FilterStage final : public Stage {
 public:
  FilterStage(std::string name, StagePtr input, ChunkFilter f)
      : Stage({.name = std::move(name), .inputs = {input}, .cheap = false}), f_(std::move(f)) {}
  Work work(const Pass& pass) const override {
    Work w = input().work(pass);
    w.steps.push_back([this](Rows& rows) { filter(rows); });
    return w;
  }

 protected:
  Schema make_schema() const override { return input().schema(); }

 private:
  void filter(Rows& rows) const {
    Timed timed(*this);
    const std::vector<uint8_t> keep = f_(rows.chunk, {rows.epoch, rows.indices});
    if (int64_t(keep.size()) != rows.chunk.rows)
      fail({"filter: the function's result has ", keep.size(), " values, expected one for each of ",
            rows.chunk.rows, " rows"});
    std::vector<int64_t> stay;
    for (size_t i = 0; i < keep.size(); ++i)
      if (keep[i]) stay.push_back(int64_t(i));
    timed.rows(rows.chunk.rows);
    if (stay.size() == keep.size()) return;
    rows.chunk = rows.chunk.gather(stay);
    for (size_t i = 0; i < stay.size(); ++i) rows.indices[i] = rows.indices[size_t(stay[i])];
    rows.indices.resize(stay.size());
  }
  ChunkFilter f_;
};

class SkipErrorsStage final : public Stage {
 public:
  SkipErrorsStage(StagePtr input, std::shared_ptr<std::atomic<int64_t>> skipped, int64_t most)
      : Stage({.name = "skip_errors", .inputs = {input}, .cheap = false}),
        skipped_(std::move(skipped)),
        most_(most) {}
  Work work(const Pass& pass) const override {
    Work w = input().work(pass);
    auto steps = std::make_shared<std::vector<std::function<void(Rows&)>>>(std::move(w.steps));
    w.steps = {[this, steps](Rows& rows) { run(*steps, rows); }};
    return w;
  }

 protected:
  Schema make_schema() const override { return input().schema(); }

 private:
  // All rows together; when that fails each row alone.
  void run(const std::vector<std::function<void(Rows&)>>& steps, Rows& rows) const {
    auto through = [&](Rows r) {
      for (auto& s : steps)
        if (r.chunk.rows) s(r);
      return r;
    };
    try {
      rows = through(rows);
      return;
    } catch (const Error&) {
    }
    std::vector<Chunk> good;
    std::vector<int64_t> indices;
    for (int64_t i = 0; i < rows.chunk.rows; ++i) {
      try {
        Rows one = through({rows.chunk.slice(i, i + 1), {rows.indices[size_t(i)]}, rows.epoch});
        if (!one.chunk.rows) continue;
        good.push_back(std::move(one.chunk));
        indices.insert(indices.end(), one.indices.begin(), one.indices.end());
      } catch (const Error&) {
        if (skipped_->fetch_add(1) >= most_) throw;
      }
    }
    rows = {concatenate(good), std::move(indices), rows.epoch};
  }

  std::shared_ptr<std::atomic<int64_t>> skipped_;
  const int64_t most_;
};

class PrefetchStage final : public Stage {
 public:
  PrefetchStage(StagePtr input, int64_t elements)
      : Stage({.name = "prefetch",
               .inputs = {input},
               .indexed = input->indexed(),
               .size = input->size(),
               .batch = input->batch(),
               .cheap = false}),
        elements_(elements) {}
  Work work(const Pass& pass) const override { return {do_open(pass), {}}; }

 protected:
  Schema make_schema() const override { return input().schema(); }
  Chunk do_read(std::span<const int64_t> indices, int64_t epoch) const override {
    return input().read(indices, epoch);
  }
  FeedPtr do_open(const Pass& pass) const override {
    Pass inside = pass;
    ++inside.depth;
    return ahead(pass, input().work(inside), batch() > 0, elements_);
  }

 private:
  const int64_t elements_;
};

}  // namespace

StagePtr map_stage(std::string name, StagePtr input, ChunkMap f) {
  return std::make_shared<MapStage>(std::move(name), std::move(input), std::move(f));
}
StagePtr filter_stage(std::string name, StagePtr input, ChunkFilter f) {
  return std::make_shared<FilterStage>(std::move(name), std::move(input), std::move(f));
}
StagePtr skip_errors_stage(StagePtr input, std::shared_ptr<std::atomic<int64_t>> skipped,
                           int64_t most) {
  return std::make_shared<SkipErrorsStage>(std::move(input), std::move(skipped), most);
}
StagePtr prefetch_stage(StagePtr input, int64_t elements) {
  return std::make_shared<PrefetchStage>(std::move(input), elements);
}

}  // namespace evenflow::data
