// SPDX-License-Identifier: Apache-2.0
// Bilinear resizing of pictures that arrive row by row.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

namespace evenflow::format {

/// Resizes u8 [height, width, channels] to f32 [out_height, out_width, channels], as
/// tf.image.resize(method="bilinear", antialias=False) does it: along the width, then the height,
/// pixels by their centres.
class BilinearRows {
 public:
  /// Extents of at least 1; throws InvalidArgument for others.
  BilinearRows(int64_t height, int64_t width, int64_t channels, int64_t out_height,
               int64_t out_width, float* to);
  /// The next row of the picture.
  void push(const uint8_t* row);

  /// Where an output pixel lies between two of the input.
  struct Between {
    int64_t lower, upper;
    float share;  ///< of upper
  };
  static std::vector<Between> places(int64_t in, int64_t out);

 private:
  float* stretched(int64_t row) { return rows_.data() + (row & 1) * room_; }

  int64_t height_, width_, channels_, out_height_, out_width_;
  float* to_;
  std::vector<Between> vertical_, horizontal_;
  int64_t room_;                // of a stretched row, a vector more than its numbers
  std::vector<float> rows_;     // the last two rows, resized along the width
  std::vector<float> numbers_;  // one row as f32
  int64_t row_ = 0, out_row_ = 0;
};

}  // namespace evenflow::format
