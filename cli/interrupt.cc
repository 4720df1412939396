// SPDX-License-Identifier: Apache-2.0
#include "cli/interrupt.h"

#include <atomic>
#include <csignal>

namespace evenflow::cli {
namespace {

std::atomic<int> listeners{0};
std::atomic<bool> wanted{false};
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free);

void on_interrupt(int signal) {
  if (listeners.load() == 0 || wanted.exchange(true)) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
}

class BetweenBatches : public Callback {
  void on_train_batch_end(TrainingState&, int64_t, const Logs&) override { Interruptible::check(); }
};

}  // namespace

Interruptible::Interruptible() { ++listeners; }
Interruptible::~Interruptible() { --listeners; }
bool Interruptible::asked() { return wanted.load(); }
void Interruptible::check() {
  if (asked()) throw Interrupted();
}
void catch_interrupts() {
  if (std::signal(SIGINT, on_interrupt) == SIG_IGN) std::signal(SIGINT, SIG_IGN);
}
CallbackPtr interrupt_between_batches() { return std::make_shared<BetweenBatches>(); }

}  // namespace evenflow::cli
