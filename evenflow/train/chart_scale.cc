// SPDX-License-Identifier: Apache-2.0
#include "evenflow/train/chart_scale.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace evenflow {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

Range settled(Range r) {
  if (!(r.low <= r.high)) return {0, 1};
  if (r.low == r.high) return {r.low - 0.5, r.high + 0.5};
  return r;
}

}  // namespace

void Range::add(double v) {
  if (std::isfinite(v)) low = std::min(low, v), high = std::max(high, v);
}

Range x_range(const LineChart& chart) {
  Range r{kInf, -kInf};
  for (auto& s : chart.series)
    for (double v : s.x) r.add(v);
  for (auto& b : chart.bands)
    for (double v : b.x) r.add(v);
  return settled(r);
}

Range y_range(const LineChart& chart) {
  Range r{kInf, -kInf};
  for (auto& s : chart.series)
    for (double v : s.y) r.add(v);
  for (auto& b : chart.bands)
    for (auto* line : {&b.low, &b.middle, &b.high})
      for (double v : *line) r.add(v);
  r = settled(r);
  const double room = (r.high - r.low) * 0.04;
  return settled({chart.y_min.value_or(r.low - room), chart.y_max.value_or(r.high + room)});
}

std::vector<double> ticks(const Range& r, int count) {
  const double rough = (r.high - r.low) / std::max(1, count);
  const double power = std::pow(10, std::floor(std::log10(rough)));
  double step = power * 10;
  for (double m : {1., 2., 5.})
    if (m * power >= rough * 0.999) {
      step = m * power;
      break;
    }
  std::vector<double> all;
  const double first = std::ceil(r.low / step - 1e-9);
  for (int i = 0; (first + i) * step <= r.high + step * 1e-9 && i < 100; ++i)
    all.push_back((first + i) * step);
  return all;
}

std::string tick_text(double v, double step, bool percent) {
  if (percent) v *= 100, step *= 100;
  const int digits = std::clamp(int(std::ceil(-std::log10(std::abs(step)) - 1e-9)), 0, 9);
  char text[40];
  std::snprintf(text, sizeof text, "%.*f", digits, v == 0 ? 0. : v);
  return text + std::string(percent ? " %" : "");
}

std::array<int, 3> heat_color(double share) {
  // Seven points of a curve through CIELAB from dark blue-violet by teal to light yellow.
  static constexpr double kPoints[7][3] = {{52, 28, 92},   {58, 72, 134},  {46, 110, 142},
                                           {38, 144, 138}, {78, 180, 110}, {162, 208, 76},
                                           {248, 228, 84}};
  const double at = std::clamp(share, 0., 1.) * 6;
  const int i = std::min(int(at), 5);
  std::array<int, 3> c{};
  for (size_t k = 0; k < 3; ++k)
    c[k] = int(std::lround(kPoints[i][k] + (kPoints[i + 1][k] - kPoints[i][k]) * (at - i)));
  return c;
}

}  // namespace evenflow
