// SPDX-License-Identifier: Apache-2.0
// What drawing in SVG and in text share: ranges, round ticks, numbers, the colours of a heat map.
#pragma once
#include <array>
#include <string>
#include <vector>

#include "evenflow/train/chart.h"

namespace evenflow {

struct Range {
  double low = 0, high = 1;
  void add(double v);  ///< widens it; what is not finite is left out
  double at(double v) const { return (v - low) / (high - low); }
};
Range x_range(const LineChart& chart);
/// Of all finite values, or as the chart says; a little room around, never empty.
Range y_range(const LineChart& chart);
/// About `count` round numbers inside.
std::vector<double> ticks(const Range& r, int count);
/// A tick's text with the digits that its distance to the next asks for.
std::string tick_text(double v, double step, bool percent);
/// Red, green, blue of a share 0..1: dark violet to yellow, evenly in lightness.
std::array<int, 3> heat_color(double share);

}  // namespace evenflow
