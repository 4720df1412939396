// SPDX-License-Identifier: Apache-2.0
// Any bytes at all (gzip data among them) give files or an Error. cmake/Fuzz.cmake says how it is
// run.
#include "evenflow/format/tar.h"

namespace {
// The checksums of headers, made right: no mutation would get past them.
std::string signed_again(std::string bytes) {
  for (size_t at = 0; at + 512 <= bytes.size(); at += 512) {
    if (bytes.compare(at + 257, 5, "ustar") != 0) continue;
    bytes.replace(at + 148, 8, "        ");
    unsigned sum = 0;
    for (size_t i = at; i < at + 512; ++i) sum += uint8_t(bytes[i]);
    for (size_t i = at + 153; i >= at + 148; --i, sum /= 8) bytes[i] = char('0' + sum % 8);
    bytes[at + 154] = '\0';
  }
  return bytes;
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace evenflow::format;
  const std::string raw(reinterpret_cast<const char*>(data), size);
  for (const std::string& bytes : {raw, signed_again(raw)}) {
    try {
      TarReader tar(InputStream(bytes, "tar", {.max_bytes = 64 << 20}));
      for (TarEntry entry; tar.next(&entry);) tar.read();
    } catch (const evenflow::Error&) {
    }
  }
  return 0;
}
