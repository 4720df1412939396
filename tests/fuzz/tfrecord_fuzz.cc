// SPDX-License-Identifier: Apache-2.0
// Any bytes at all give records or an Error, and any record an Example or an Error.
// cmake/Fuzz.cmake says how it is run.
#include "evenflow/format/tfrecord.h"

#include <bit>
#include <cstring>

#include "evenflow/core/checksum.h"
#include "evenflow/format/example.h"

namespace {
using namespace evenflow;

// The checksums, made right: no mutation would get past them.
std::string signed_again(std::string bytes) {
  const auto sign = [&](size_t from, size_t n) {
    const uint32_t sum = std::rotr(crc32c(bytes.data() + from, n), 15) + 0xa282ead8u;
    std::memcpy(bytes.data() + from + n, &sum, 4);
  };
  for (size_t at = 0; at + 16 <= bytes.size();) {
    uint64_t length;
    std::memcpy(&length, bytes.data() + at, 8);
    sign(at, 8);
    if (length > bytes.size() - at - 16) break;
    sign(at + 12, length);
    at += 16 + length;
  }
  return bytes;
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace evenflow::format;
  const std::string raw(reinterpret_cast<const char*>(data), size);
  for (const std::string& bytes : {raw, signed_again(raw)}) {
    try {
      TfRecordReader reader(InputStream(bytes, "tfrecord", {.max_bytes = 64 << 20}));
      for (std::string_view record; reader.next(&record);)
        for (const auto& [name, feature] : example_features(record)) feature.count();
    } catch (const Error&) {
    }
  }
  return 0;
}
