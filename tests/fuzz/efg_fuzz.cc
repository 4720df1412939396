// SPDX-License-Identifier: Apache-2.0
// Any bytes at all give a saved graph or an Error, and what is accepted runs, or is refused by an
// Error. cmake/Fuzz.cmake says how it is run.
#include <cstring>

#include "evenflow/core/checksum.h"
#include "evenflow/graph/saved_graph.h"
#include "evenflow/graph/sub_graph.h"

namespace {
using namespace evenflow;

// The checksum of the header, made right: no mutation would get past it.
std::string signed_again(std::string bytes) {
  uint64_t size;
  if (bytes.size() < 24) return bytes;
  std::memcpy(&size, bytes.data() + 16, 8);
  if (size > bytes.size() - 24) return bytes;
  const uint32_t sum = crc32c(bytes.data() + 24, size);
  std::memcpy(bytes.data() + 12, &sum, 4);
  return bytes;
}
// Loops may run for ever: the format's page says so.
bool has_sub_graphs(const Graph& g) {
  for (auto& c : g.calls)
    for (auto& v : c.op->get_attrs(c.attrs.get()))
      if (std::holds_alternative<SubGraphPtr>(v)) return true;
  return false;
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr int64_t kRun = 1 << 16;
  try {
    const SavedGraph g =
        load_graph(signed_again({reinterpret_cast<const char*>(data), size}),
                   {.header_bytes = 1 << 20, .depth = 4, .run_bytes = kRun, .max_plans = 2});
    for (auto& s : g.signatures()) try {
        if (has_sub_graphs(g.graph(s.name))) continue;
        int64_t bytes = 0;
        for (auto& in : s.inputs) bytes = checked_add(bytes, in.sig.bytes());
        if (bytes > kRun) continue;
        Tensors inputs;
        for (auto& in : s.inputs) inputs.push_back(zeros(in.sig.shape, in.sig.dtype));
        for (auto& y : g(s.name, inputs)) y.data();
      } catch (const Error&) {
      }
  } catch (const Error&) {
  }
  return 0;
}
