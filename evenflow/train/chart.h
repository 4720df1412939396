// SPDX-License-Identifier: Apache-2.0
// Charts of a training: drawn as SVG for a report, or as text for a terminal.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace evenflow {

/// Points joined by a line; a y that is not finite interrupts it.
struct Series {
  std::string name;
  std::vector<double> x, y;
  int color = 0;        ///< 0..5: the same number is the same colour in all charts of a page
  bool dashed = false;  ///< a second quantity of the same thing
};
/// Lines of quantiles, the outer ones filled between.
struct Band {
  std::string name;
  std::vector<double> x, low, middle, high;
  int color = 0;
};
struct LineChart {
  std::string title, x_label, y_label;
  std::vector<Series> series = {};
  std::vector<Band> bands = {};
  std::optional<double> y_min = {}, y_max = {};  ///< else those of the values
  bool percent = false;                          ///< y is a share: 0.98 is written 98 %
};

/// A table of shares, 0..1, as colours. What is not finite is a training that diverged.
struct HeatMap {
  std::string title, x_label, y_label;
  std::vector<std::string> columns, rows;
  std::vector<double> values;  ///< row-major
};

/// Points against a diagonal: what should be equal.
struct ScatterChart {
  std::string title, x_label, y_label;
  std::vector<Series> series;
};

/// A grey picture, row-major, 0 (paper) to 1 (ink).
struct Image {
  int64_t height = 0, width = 0;
  std::vector<float> pixels;
  std::string label, note;  ///< shown below it
  bool wrong = false;
};

/// HTML with the chart as SVG, coloured by the style sheet of a Report: title, legend, picture.
std::string chart_html(const LineChart& chart);
std::string chart_html(const HeatMap& chart);
std::string chart_html(const ScatterChart& chart);
std::string images_html(const std::vector<Image>& images);

/// Braille dots in `columns` x `rows` characters, axes and legend around; colours are ANSI escapes.
std::string chart_text(const LineChart& chart, int columns, int rows, bool colors);
/// A number a cell, on a coloured ground when there are colours.
std::string chart_text(const HeatMap& chart, bool colors);
/// Shades of ink, two characters a pixel, side by side, with label and note below.
std::string images_text(const std::vector<Image>& images);

}  // namespace evenflow
