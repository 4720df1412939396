// SPDX-License-Identifier: Apache-2.0
// Any bytes at all give a value or an Error. cmake/Fuzz.cmake says how it is run.
#include "evenflow/format/json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace evenflow::format;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    const JsonValue value = parse_json(bytes, "json");
    json_text(value.json());
  } catch (const evenflow::Error&) {
  }
  return 0;
}
