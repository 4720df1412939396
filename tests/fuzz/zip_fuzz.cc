// SPDX-License-Identifier: Apache-2.0
// Any bytes at all give a value or an Error. cmake/Fuzz.cmake says how it is run.
#include "evenflow/format/zip.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace evenflow::format;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    const ZipReader zip{std::string(bytes), "zip", {.max_bytes = 64 << 20}};
    for (const ZipMember& member : zip.members()) zip.read(member.name);
  } catch (const evenflow::Error&) {
  }
  return 0;
}
