// SPDX-License-Identifier: Apache-2.0
// JPEG (libjpeg-turbo) and PNG (libpng) pictures. What a file is, its bytes say, not its name.
#pragma once
#include <string>
#include <string_view>

#include "evenflow/core/array.h"

namespace evenflow::format {

enum class ImageKind : uint8_t { jpeg, png };
std::string_view str(ImageKind kind);

/// What a header says.
struct ImageInfo {
  ImageKind kind = ImageKind::jpeg;
  int64_t height = 0, width = 0;
  int channels = 0;  ///< 1 grey, 2 grey with alpha, 3 RGB, 4 RGB with alpha (or CMYK, of a JPEG)
};

struct ImageOptions {
  /// Channels of the result: 1 grey, 2 with alpha, 3 RGB, 4 with alpha; 0: as in the file (CMYK
  /// becomes RGB). A JPEG has no alpha. Conversions are those of tf.io.decode_image.
  int channels = 0;
  int64_t max_pixels = int64_t(1) << 26;  ///< larger pictures are refused by their header
  /// Of a JPEG: the exact inverse transform (as Pillow has it) instead of TensorFlow's fast one;
  /// some values differ by a few of 255.
  bool accurate = false;
};

/// By the header alone; nothing is decoded. `name` stands for the picture in errors. Throws
/// DataLoss for what is neither JPEG nor PNG or is damaged, and ResourceExhausted above max_pixels.
ImageInfo image_info(std::string_view bytes, std::string_view name = "image",
                     const ImageOptions& options = {});

/// The picture as u8 [height, width, channels]; 16-bit samples are cut to 8. Throws what image_info
/// throws, DataLoss for a damaged or truncated picture, InvalidArgument for channels that it cannot
/// have.
Array decode_image(std::string_view bytes, std::string_view name = "image",
                   const ImageOptions& options = {});

/// The picture in f32 0..255, resized to [height, width, options.channels] as tf.image.resize does
/// it (bilinear, pixels by their centres, no antialiasing), each row as soon as it is decoded.
/// `channels` must be given. Throws what decode_image throws.
void decode_image_resized(std::string_view bytes, std::string_view name,
                          const ImageOptions& options, int64_t height, int64_t width, float* to);

/// A picture u8 [height, width, channels] of 1 to 4 channels as the bytes of a PNG file. Throws
/// InvalidArgument for another array.
std::string png_bytes(const Array& picture);

}  // namespace evenflow::format
