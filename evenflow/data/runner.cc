// SPDX-License-Identifier: Apache-2.0
#include "evenflow/data/runner.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <utility>

namespace evenflow::data {
namespace {
using Clock = std::chrono::steady_clock;
constexpr int64_t kMostSlots = 64;  // delivered out of order, they are bits of one number
constexpr int64_t kMostRows = 4096, kMostChunkBytes = int64_t(1) << 20;

[[noreturn]] void fail_cancelled() {
  fail(Code::FailedPrecondition, {"dataset: the pass was cancelled"});
}
thread_local const Runner* works_for = nullptr;
}  // namespace

WorksFor::WorksFor(const Runner* runner) : outer_(std::exchange(works_for, runner)) {}
WorksFor::~WorksFor() { works_for = outer_; }
void Runner::check_cancelled() {
  if (works_for && works_for->cancelled()) fail_cancelled();
}

// The chunks that were begun and not all given out. The feed and what belongs to it are used under
// pull_, all else under mutex_; who holds both took pull_ first.
class Window {
 public:
  Window(const Pass& pass, Work work, bool batched, int64_t elements)
      : runner_(pass.runner),
        work_(std::move(work)),
        depth_(pass.depth),
        epoch_(pass.epoch),
        batched_(batched),
        any_order_(runner_ && runner_->any_order()),
        fixed_(elements > 0),
        room_(!runner_ ? 1
              : fixed_ ? std::min(elements, kMostSlots)
                       : runner_->threads() + 1) {}
  int depth() const { return depth_; }

  /// Begins and finishes one chunk; false: there is no room or no more, or somebody else pulls.
  bool work_once();
  Chunk next(int64_t at_most);
  void save(StateWriter& to);
  void load(StateReader& from);
  /// Nobody asks any more.
  void close();

 private:
  struct Slot {
    std::string before;  // the position before it
    int64_t pulled = 0;  // rows that the feed gave for it
    bool ready = false, gone = false;
    bool resumed = false;  // the one that was being given out when the state was saved
    Chunk chunk;
    std::exception_ptr error;
    int64_t bytes = 0;
  };
  using SlotPtr = std::shared_ptr<Slot>;

  std::string position() const;
  bool has_room();
  SlotPtr pull();
  void take_steps(Slot& slot, int64_t index);
  Slot* ready_slot();
  void drop(Slot& slot);
  Chunk give(Slot& slot, int64_t at_most);

  Runner* const runner_;
  Work work_;
  const int depth_;
  const int64_t epoch_;
  const bool batched_, any_order_, fixed_;

  std::mutex pull_;
  int64_t index_ = 0;       // of the next row that the feed gives
  std::deque<Slot> again_;  // what a state in any order says of the next slots: pulled, gone

  std::atomic<int64_t> rows_a_chunk_{16};

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<SlotPtr> slots_;
  Slot* current_ = nullptr;  // the one that is being given out,
  int64_t given_ = 0;        // and how many of its rows were
  int64_t skip_ = 0;         // rows that were given out before the state was saved
  bool resumes_ = false;     // ... of a slot that is marked so
  int64_t room_;
  int64_t last_bytes_ = 0;
  bool ended_ = false, closed_ = false, has_given_ = false;
};

std::string Window::position() const {
  StateWriter w;
  w.number(index_);
  work_.feed->save(w);
  return w.take();
}

bool Window::has_room() {
  std::lock_guard lock(mutex_);
  if (ended_ || closed_ || int64_t(slots_.size()) >= room_) return false;
  return !runner_ || slots_.empty() || runner_->has_memory_for(last_bytes_);
}

Window::SlotPtr Window::pull() {
  if (!has_room()) return nullptr;
  auto slot = std::make_shared<Slot>();
  slot->before = position();
  try {
    if (!again_.empty()) {
      slot->gone = again_.front().gone, slot->resumed = again_.front().resumed;
      slot->chunk = next_exactly(*work_.feed, again_.front().pulled);
      again_.pop_front();
    } else {
      slot->chunk = work_.feed->next(batched_ ? 1 : rows_a_chunk_.load());
    }
    slot->pulled = slot->chunk.rows;
  } catch (...) {
    slot->error = std::current_exception();
  }
  std::lock_guard lock(mutex_);
  if (!slot->pulled) ended_ = true;
  if (slot->pulled || slot->error)
    slots_.push_back(slot);
  else
    slot = nullptr;
  changed_.notify_all();
  return slot;
}

void Window::take_steps(Slot& slot, int64_t index) {
  if (work_.steps.empty() || slot.error || slot.gone) return;
  const auto start = Clock::now();
  try {
    Rows rows{std::move(slot.chunk), std::vector<int64_t>(size_t(slot.pulled)), epoch_};
    std::iota(rows.indices.begin(), rows.indices.end(), index);
    for (auto& step : work_.steps)
      if (rows.chunk.rows) step(rows);
    slot.chunk = std::move(rows.chunk);
  } catch (...) {
    slot.error = std::current_exception();
    slot.chunk = {};
  }
  // Chunks of a length that takes about half a millisecond.
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  const int64_t rows = slot.pulled;
  if (rows != rows_a_chunk_) return;
  if (seconds < 2.5e-4 && slot.chunk.bytes() < kMostChunkBytes)
    rows_a_chunk_ = std::min(rows * 2, kMostRows);
  else if (seconds > 1e-3)
    rows_a_chunk_ = std::max<int64_t>(rows / 2, 1);
}

bool Window::work_once() {
  std::unique_lock pull_lock(pull_, std::try_to_lock);
  if (!pull_lock) return false;
  const SlotPtr slot = pull();
  if (!slot) return false;
  const int64_t index = index_;
  index_ += slot->pulled;
  pull_lock.unlock();
  if (runner_) runner_->wake();  // another may pull now
  take_steps(*slot, index);
  std::lock_guard lock(mutex_);
  if (slot->gone) slot->chunk = {};
  slot->ready = true;
  last_bytes_ = slot->chunk.bytes();
  if (!closed_ && runner_) runner_->hold(slot->bytes = last_bytes_);
  changed_.notify_all();
  return true;
}

// Under mutex_, as what follows: it is given out.
void Window::drop(Slot& slot) {
  if (runner_) runner_->hold(-std::exchange(slot.bytes, 0));
  slot.gone = true;
  current_ = nullptr, given_ = 0;
  while (!slots_.empty() && slots_.front()->gone && slots_.front()->ready) slots_.pop_front();
}

// The slot to give out now, or null: none is ready.
Window::Slot* Window::ready_slot() {
  while (!slots_.empty() && slots_.front()->gone && slots_.front()->ready) slots_.pop_front();
  if (current_) return current_;
  const size_t look = any_order_ ? slots_.size() : std::min<size_t>(slots_.size(), 1);
  for (size_t i = 0; i < look; ++i) {
    Slot& s = *slots_[i];
    if (s.ready && !s.gone && (!resumes_ || s.resumed)) return &s;
  }
  return nullptr;
}

Chunk Window::give(Slot& slot, int64_t at_most) {
  const int64_t left = slot.chunk.rows - given_;
  const int64_t rows = batched_ ? left : std::min(left, at_most);
  Chunk r =
      rows == slot.chunk.rows ? std::move(slot.chunk) : slot.chunk.slice(given_, given_ + rows);
  given_ += rows;
  if (rows == left) drop(slot);
  return r;
}

Chunk Window::next(int64_t at_most) {
  std::unique_lock lock(mutex_);
  for (bool waits = false;;) {
    if (closed_ || (runner_ && runner_->cancelled())) fail_cancelled();
    if (Slot* slot = ready_slot()) {
      if (slot->error) std::rethrow_exception(slot->error);
      current_ = slot, resumes_ = false;
      if (const int64_t skip = std::min(skip_, slot->chunk.rows - given_)) {
        skip_ -= skip, given_ += skip;
      }
      if (given_ == slot->chunk.rows) {
        drop(*slot);
        continue;
      }
      Chunk r = give(*slot, at_most);
      has_given_ = true;
      lock.unlock();
      if (runner_) runner_->wake();
      return r;
    }
    if (slots_.empty() && ended_) return {};
    // The caller begins what is not begun; what a worker has it waits for.
    if (slots_.empty() || !runner_ || !runner_->threads()) {
      lock.unlock();
      const bool did = work_once();
      lock.lock();
      if (!did && slots_.empty() && !ended_) changed_.wait_for(lock, std::chrono::milliseconds(1));
      continue;
    }
    if (has_given_ && !waits && !fixed_) {
      room_ = std::min(room_ + 1, kMostSlots);
      runner_->wake();
    }
    waits = true;
    changed_.wait_for(lock, std::chrono::milliseconds(20));
  }
}

void Window::save(StateWriter& to) {
  std::lock_guard pull_lock(pull_);
  std::lock_guard lock(mutex_);
  to.text(slots_.empty() ? position() : slots_.front()->before);
  to.number(skip_ + given_);
  if (!any_order_) return to.number(0);
  auto put = [&](const Slot& s) {
    to.number(s.pulled * 4 + (s.gone ? 2 : 0) + (&s == current_ || s.resumed ? 1 : 0));
  };
  to.number(int64_t(slots_.size() + again_.size()));
  for (auto& s : slots_) put(*s);
  for (auto& s : again_) put(s);
}

void Window::load(StateReader& from) {
  std::lock_guard pull_lock(pull_);
  std::lock_guard lock(mutex_);
  if (!slots_.empty() || index_ || ended_)
    fail(Code::Internal, {"dataset: a feed was restored after its use"});
  StateReader position(from.text());
  index_ = position.number(kInfinite);
  work_.feed->load(position);
  skip_ = from.number(kInfinite);
  const int64_t slots = from.number(kMostSlots);
  if (slots && !any_order_)
    fail(Code::FailedPrecondition,
         {"dataset: the state is of a pass in any order, expected one in order"});
  for (int64_t i = 0; i < slots; ++i) {
    const int64_t v = from.number(kInfinite);
    Slot s;
    s.pulled = v / 4, s.gone = v & 2, s.resumed = v & 1;
    resumes_ |= s.resumed;
    again_.push_back(std::move(s));
  }
  room_ = std::max(room_, slots);
}

void Window::close() {
  std::lock_guard lock(mutex_);
  closed_ = true;
  for (auto& s : slots_)
    if (runner_) runner_->hold(-std::exchange(s->bytes, 0));
  changed_.notify_all();
}

namespace {
class AheadFeed final : public Feed {
 public:
  AheadFeed(Runner* runner, std::shared_ptr<Window> window)
      : runner_(runner), window_(std::move(window)) {
    if (runner_) runner_->add(window_);
  }
  ~AheadFeed() override {
    window_->close();
    if (runner_) runner_->remove(window_.get());
  }
  Chunk next(int64_t at_most) override { return window_->next(at_most); }
  void save(StateWriter& to) const override { window_->save(to); }
  void load(StateReader& from) override { window_->load(from); }

 private:
  Runner* runner_;
  std::shared_ptr<Window> window_;
};
}  // namespace

FeedPtr ahead(const Pass& pass, Work work, bool batched, int64_t elements) {
  return std::make_unique<AheadFeed>(
      pass.runner, std::make_shared<Window>(pass, std::move(work), batched, elements));
}

Runner::Runner(int threads, int64_t memory, bool any_order)
    : threads_wanted_(threads), memory_(memory), any_order_(any_order) {}
Runner::~Runner() {
  cancel();
  for (auto& w : workers_) w.join();
}
void Runner::add(std::shared_ptr<Window> window) {
  {
    std::lock_guard lock(mutex_);
    auto at = std::find_if(windows_.begin(), windows_.end(),
                           [&](auto& w) { return w->depth() > window->depth(); });
    windows_.insert(at, std::move(window));
  }
  wake();
}
void Runner::remove(const Window* window) {
  std::shared_ptr<Window> last;  // its feed may hold windows, so it goes when the lock is free
  std::lock_guard lock(mutex_);
  auto at =
      std::find_if(windows_.begin(), windows_.end(), [&](auto& w) { return w.get() == window; });
  if (at == windows_.end()) return;
  last = std::move(*at);
  windows_.erase(at);
}
void Runner::start() {
  std::lock_guard lock(mutex_);
  while (int(workers_.size()) < threads_wanted_) workers_.emplace_back([this] { serve(); });
}
void Runner::wake() {
  {
    std::lock_guard lock(mutex_);
    ++calls_;
  }
  work_.notify_all();
}
void Runner::cancel() {
  cancelled_ = true;
  wake();
}
void Runner::serve() {
  WorksFor me(this);
  for (uint64_t seen = 0;;) {
    std::vector<std::shared_ptr<Window>> windows;
    {
      std::lock_guard lock(mutex_);
      if (cancelled_) return;
      windows = windows_, seen = calls_;
    }
    if (std::any_of(windows.begin(), windows.end(), [](auto& w) { return w->work_once(); }))
      continue;
    windows.clear();
    std::unique_lock lock(mutex_);
    work_.wait(lock, [&] { return cancelled_ || calls_ != seen; });
  }
}

}  // namespace evenflow::data
