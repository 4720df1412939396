// SPDX-License-Identifier: Apache-2.0
// Any bytes at all give a picture or an Error. cmake/Fuzz.cmake says how it is run.
#include "evenflow/format/image.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace evenflow::format;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  constexpr int64_t kPixels = 1 << 16;
  try {
    decode_image(bytes, "image", {.max_pixels = kPixels});
  } catch (const evenflow::Error&) {
  }
  try {
    float to[7 * 5 * 3];
    decode_image_resized(bytes, "image", {.channels = 3, .max_pixels = kPixels}, 7, 5, to);
  } catch (const evenflow::Error&) {
  }
  return 0;
}
