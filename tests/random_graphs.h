// SPDX-License-Identifier: Apache-2.0
// Random graphs with random proposals: the same whether they run kernel by kernel, recorded in a
// Step, or compiled.
#pragma once
#include <cstdint>
#include <string>

namespace evenflow::engine {

/// What went wrong with the graph of this seed; empty: nothing. Bits are compared, and values with
/// those by the references.
std::string differences(uint32_t seed);

}  // namespace evenflow::engine
