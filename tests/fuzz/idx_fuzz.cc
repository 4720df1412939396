// SPDX-License-Identifier: Apache-2.0
// Any bytes at all give an array or an Error. cmake/Fuzz.cmake says how it is run.
#include "evenflow/format/idx.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace evenflow::format;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    parse_idx(bytes);
  } catch (const evenflow::Error&) {
  }
  return 0;
}
