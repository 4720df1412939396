// SPDX-License-Identifier: Apache-2.0
// Iterator: a pass over a dataset, with its threads, its position and its account of the time.
#include <algorithm>
#include <chrono>
#include <map>
#include <utility>

#include "evenflow/core/checksum.h"
#include "evenflow/core/log.h"
#include "evenflow/core/parallel.h"
#include "evenflow/data/dataset.h"
#include "evenflow/data/runner.h"
#include "evenflow/data/stage.h"

namespace evenflow {
namespace {
constexpr int64_t kStateVersion = 1;
using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point t) {
  return std::chrono::duration<double>(Clock::now() - t).count();
}
std::string text(const char* format, double v) {
  char s[64];
  std::snprintf(s, sizeof s, format, v);
  return s;
}
// Every stage once, the last first.
void collect(const data::Stage& stage, std::vector<const data::Stage*>& all) {
  if (std::find(all.begin(), all.end(), &stage) != all.end()) return;
  all.push_back(&stage);
  for (auto& i : stage.inputs()) collect(*i, all);
}
}  // namespace

struct Iterator::Impl {
  Impl(const Dataset& d, IteratorOptions o) : stage(d.stage()), options(o), epoch(o.epoch) {
    if (o.threads && (*o.threads < 0 || *o.threads > 1024))
      fail({"iterator: threads is ", *o.threads, ", expected 0..1024"});
    if (o.memory < 0) fail({"iterator: memory is ", o.memory, ", expected at least 0"});
    collect(*stage, stages);
    for (auto* s : stages) began.push_back({s->times().nanoseconds, s->times().rows});
    anew();
  }
  ~Impl() {
    if (rows && logs(Topic::data)) log(Topic::data, report());
    runner->cancel();  // those who wait
    feed = nullptr;
  }
  void anew() {
    if (runner) runner->cancel();
    feed = nullptr;
    const int threads = options.threads ? *options.threads : stage->cheap() ? 0 : thread_count();
    runner = std::make_unique<data::Runner>(threads, options.memory, options.any_order);
    open();
  }
  void open() {
    feed = nullptr;
    const data::Pass pass{.epoch = epoch, .runner = runner.get()};
    data::Pass inside = pass;
    ++inside.depth;
    feed = data::ahead(pass, stage->work(inside), stage->batch() > 0);
  }
  data::Chunk next(int64_t at_most) {
    const auto start = Clock::now();
    if (!rows) first = start;
    runner->start();
    data::WorksFor me(runner.get());
    data::Chunk c = feed->next(at_most);
    waited += seconds_since(start);
    rows += c.rows;
    return c;
  }
  uint32_t fingerprint() const {
    const std::string s = data::describe(*stage);
    return crc32c(s.data(), s.size());
  }
  std::string report() const;

  const data::StagePtr stage;
  const IteratorOptions options;
  int64_t epoch;
  std::unique_ptr<data::Runner> runner;
  data::FeedPtr feed;

  std::vector<const data::Stage*> stages;
  std::vector<std::pair<int64_t, int64_t>> began;  // their times when this pass began
  Clock::time_point first;
  double waited = 0;
  int64_t rows = 0;
};

std::string Iterator::Impl::report() const {
  const double all = seconds_since(first);
  std::string s = "data: " + std::to_string(rows) + " rows in " + text("%.3f s", all) +
                  ", of which the caller waited " + text("%.3f s", waited) + " (" +
                  text("%.0f %%", all > 0 ? 100 * waited / all : 0) + ")";
  double most = 0;
  std::string slowest;
  for (size_t i = 0; i < stages.size(); ++i) {
    const double seconds = double(stages[i]->times().nanoseconds - began[i].first) * 1e-9;
    const int64_t n = stages[i]->times().rows - began[i].second;
    if (!n) continue;
    s += "\n  " + stages[i]->describe() + ": " + std::to_string(n) + " rows, " +
         text("%.3f s", seconds) +
         text(", %.3g rows/s a thread", double(n) / std::max(seconds, 1e-9));
    if (seconds > most) most = seconds, slowest = stages[i]->describe();
  }
  constexpr double kIdle = .05;
  if (all > 0 && waited / all < kIdle) return s + "\n  bottleneck: the caller";
  return slowest.empty() ? s : s + "\n  bottleneck: " + slowest;
}

Iterator::Iterator(const Dataset& dataset, IteratorOptions options)
    : impl_(std::make_unique<Impl>(dataset, options)) {}
Iterator::Iterator(Iterator&&) noexcept = default;
Iterator& Iterator::operator=(Iterator&&) noexcept = default;
Iterator::~Iterator() = default;

data::Chunk Iterator::next_chunk(int64_t at_most) {
  if (at_most < 1) fail({"iterator: at_most is ", at_most, ", expected at least 1"});
  return impl_->next(at_most);
}
Tensors Iterator::next() {
  const data::Chunk c = next_chunk();
  return c.rows ? c.tensors() : Tensors();
}
std::string Iterator::state() const {
  data::StateWriter w;
  w.number(kStateVersion);
  w.number(impl_->fingerprint());
  w.number(impl_->epoch);
  impl_->feed->save(w);
  return w.take();
}
void Iterator::restore(std::string_view state) {
  data::StateReader r(state);
  if (const int64_t version = r.number(); version != kStateVersion)
    fail({"iterator: the state has version ", version, ", expected ", kStateVersion});
  if (r.number() != int64_t(impl_->fingerprint()))
    fail(Code::FailedPrecondition, {"iterator: the state is of another pipeline, expected one of ",
                                    data::describe(*impl_->stage)});
  impl_->epoch = r.number();
  impl_->anew();
  impl_->feed->load(r);
  if (!r.at_end()) fail({"iterator: the state goes on behind its end"});
}
void Iterator::restart(int64_t epoch) {
  impl_->epoch = epoch;
  impl_->open();
}
int64_t Iterator::epoch() const { return impl_->epoch; }
void Iterator::cancel() { impl_->runner->cancel(); }
std::string Iterator::report() const { return impl_->report(); }

IteratorPlace::IteratorPlace(const Dataset& dataset)
    : iterator_(std::make_shared<Iterator>(dataset)) {
  ++*this;
}
IteratorPlace& IteratorPlace::operator++() {
  batch_ = iterator_->next();
  return *this;
}

}  // namespace evenflow
