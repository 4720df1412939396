// SPDX-License-Identifier: Apache-2.0
#include "evenflow/format/resize.h"

#include <algorithm>
#include <cmath>

#include "evenflow/core/error.h"

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "evenflow/format/resize.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace evenflow::format::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;
using Between = BilinearRows::Between;

/// a + (b - a) * share
template <class V>
HWY_INLINE V blend(V a, V b, V share) {
  return hn::Add(a, hn::Mul(hn::Sub(b, a), share));
}

void to_numbers(const uint8_t* from, float* to, int64_t n) {
  const hn::ScalableTag<float> d;
  const hn::Rebind<int32_t, decltype(d)> di;
  const hn::Rebind<uint8_t, decltype(d)> d8;
  const int64_t lanes = int64_t(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    hn::StoreU(hn::ConvertTo(d, hn::PromoteTo(di, hn::LoadU(d8, from + i))), d, to + i);
  for (; i < n; ++i) to[i] = float(from[i]);
}

/// Rows have room for a vector behind their end: three channels are read and written as four.
void along_width(const float* from, const Between* places, int64_t n, int64_t channels, float* to) {
#if HWY_TARGET != HWY_SCALAR
  if (channels == 3 || channels == 4) {
    const hn::FixedTag<float, 4> d;
    for (int64_t i = 0; i < n; ++i) {
      const Between& p = places[i];
      hn::StoreU(blend(hn::LoadU(d, from + p.lower * channels),
                       hn::LoadU(d, from + p.upper * channels), hn::Set(d, p.share)),
                 d, to + i * channels);
    }
    return;
  }
#endif
  for (int64_t i = 0; i < n; ++i)
    for (int64_t c = 0; c < channels; ++c) {
      const float a = from[places[i].lower * channels + c],
                  b = from[places[i].upper * channels + c];
      to[i * channels + c] = a + (b - a) * places[i].share;
    }
}

void along_height(const float* a, const float* b, float share, float* to, int64_t n) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = int64_t(hn::Lanes(d));
  const auto s = hn::Set(d, share);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    hn::StoreU(blend(hn::LoadU(d, a + i), hn::LoadU(d, b + i), s), d, to + i);
  for (; i < n; ++i) to[i] = a[i] + (b[i] - a[i]) * share;
}

}  // namespace
}  // namespace evenflow::format::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace evenflow::format {
namespace {
HWY_EXPORT(to_numbers);
HWY_EXPORT(along_width);
HWY_EXPORT(along_height);
constexpr int64_t kVector = 4;  // floats behind the end of a row
}  // namespace

std::vector<BilinearRows::Between> BilinearRows::places(int64_t in, int64_t out) {
  std::vector<Between> all(size_t(out), Between{});
  const float scale = float(in) / float(out);
  for (int64_t i = 0; i < out; ++i) {
    const float at = (float(i) + 0.5f) * scale - 0.5f, whole = std::floor(at);
    const int64_t upper = std::min(int64_t(std::ceil(at)), in - 1);
    all[size_t(i)] = {std::min(std::max(int64_t(whole), int64_t(0)), upper), upper, at - whole};
  }
  return all;
}

BilinearRows::BilinearRows(int64_t height, int64_t width, int64_t channels, int64_t out_height,
                           int64_t out_width, float* to)
    : height_(height),
      width_(width),
      channels_(channels),
      out_height_(out_height),
      out_width_(out_width),
      to_(to) {
  for (const int64_t n : {height, width, channels, out_height, out_width})
    if (n < 1)
      fail({"resize: from [", height, ",", width, ",", channels, "] to [", out_height, ",",
            out_width, "], expected extents of at least 1"});
  vertical_ = places(height, out_height);
  horizontal_ = places(width, out_width);
  room_ = out_width * channels + kVector;
  rows_.resize(size_t(2 * room_));
  numbers_.resize(size_t(width * channels + kVector));
}

void BilinearRows::push(const uint8_t* row) {
  if (row_ == height_) fail({"resize: more than ", height_, " rows"});
  // A row between those that are wanted is passed over.
  if (out_row_ < out_height_ && row_ >= vertical_[size_t(out_row_)].lower) {
    HWY_DYNAMIC_DISPATCH(to_numbers)(row, numbers_.data(), width_ * channels_);
    HWY_DYNAMIC_DISPATCH(along_width)
    (numbers_.data(), horizontal_.data(), out_width_, channels_, stretched(row_));
    for (; out_row_ < out_height_ && vertical_[size_t(out_row_)].upper <= row_; ++out_row_) {
      const Between& p = vertical_[size_t(out_row_)];
      HWY_DYNAMIC_DISPATCH(along_height)
      (stretched(p.lower), stretched(p.upper), p.share, to_ + out_row_ * out_width_ * channels_,
       out_width_ * channels_);
    }
  }
  ++row_;
}

}  // namespace evenflow::format
#endif
