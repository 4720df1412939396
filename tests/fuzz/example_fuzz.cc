// SPDX-License-Identifier: Apache-2.0
// Any bytes at all give an Example or an Error; what is counted fits what is read.
// cmake/Fuzz.cmake says how it is run.
#include "evenflow/format/example.h"

#include "evenflow/core/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace evenflow::format;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  static const ExampleReader reader({"x", "label", "name", "ids", "words"});
  try {
    Feature found[5];
    reader.find(bytes, found);
    for (const Feature& f : found) {
      const size_t n = size_t(f.count());
      if (f.kind == FeatureKind::floats) f.read(std::vector<float>(n).data());
      if (f.kind == FeatureKind::integers) f.read(std::vector<int64_t>(n).data());
      if (f.kind == FeatureKind::bytes) f.read([](std::string_view) {});
    }
  } catch (const evenflow::Error&) {
  }
  return 0;
}
