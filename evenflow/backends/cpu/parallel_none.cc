// SPDX-License-Identifier: Apache-2.0
// No threads: everything runs where it is called. The chunks, and so the bits, are the same.
#include "evenflow/backends/cpu/threads.h"

namespace evenflow {

bool cpu::lead(int, FunctionRef<void(int)>) { return false; }
void on_executor(FunctionRef<void()> f) { f(); }

}  // namespace evenflow
