// SPDX-License-Identifier: Apache-2.0
// Ctrl-C: a command that has something to put in order asks between two pieces of its work, and
// ends itself. A second Ctrl-C, or the first where nobody asks, ends the process at once.
#pragma once
#include "evenflow/train/callbacks.h"

namespace evenflow::cli {

/// Thrown by Interruptible::check(); main() then ends the process as the signal would have.
struct Interrupted {};

/// While one lives, Ctrl-C waits for the next check().
class Interruptible {
 public:
  Interruptible();
  ~Interruptible();
  Interruptible(const Interruptible&) = delete;
  static bool asked();
  static void check();
};
/// Installs the handler.
void catch_interrupts();
/// Asks after every batch of a training.
CallbackPtr interrupt_between_batches();

}  // namespace evenflow::cli
