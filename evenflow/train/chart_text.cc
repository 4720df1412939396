// SPDX-License-Identifier: Apache-2.0
// Charts in a terminal.
#include <algorithm>
#include <cmath>

#include "evenflow/core/error.h"
#include "evenflow/train/chart_scale.h"

namespace evenflow {
namespace {

constexpr const char* kColors[] = {"\x1b[33m", "\x1b[36m", "\x1b[35m", "\x1b[32m"};
constexpr const char* kPlain = "\x1b[0m";

std::string painted(const std::string& text, int color, bool colors) {
  return colors ? kColors[size_t(color) % 4] + text + kPlain : text;
}
// Characters, not bytes, of UTF-8.
size_t width(std::string_view s) {
  return size_t(std::count_if(s.begin(), s.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}
std::string padded(const std::string& s, size_t n, bool left = false) {
  const std::string space(n > width(s) ? n - width(s) : 0, ' ');
  return left ? space + s : s + space;
}
std::string braille(int dots) {
  const int c = 0x2800 + dots;
  return {char(0xe0 | c >> 12), char(0x80 | (c >> 6 & 63)), char(0x80 | (c & 63))};
}

// Dots, 2 x 4 a character; of two lines in one character the later one gives the colour.
class Canvas {
 public:
  Canvas(int columns, int rows)
      : columns_(columns), rows_(rows), cells_(size_t(columns) * size_t(rows)) {}
  int width() const { return columns_ * 2; }
  int height() const { return rows_ * 4; }
  void dot(int x, int y, int color) {
    if (x < 0 || y < 0 || x >= width() || y >= height()) return;
    static constexpr int kBits[4][2] = {{1, 8}, {2, 16}, {4, 32}, {64, 128}};
    Cell& c = cells_[size_t(y / 4 * columns_ + x / 2)];
    c.dots |= kBits[y % 4][x % 2], c.color = color;
  }
  std::string row(int r, bool colors) const {
    std::string s;
    for (int i = 0; i < columns_; ++i) {
      const Cell& c = cells_[size_t(r * columns_ + i)];
      s += c.dots ? painted(braille(c.dots), c.color, colors) : " ";
    }
    return s;
  }

 private:
  struct Cell {
    int dots = 0, color = 0;
  };
  int columns_, rows_;
  std::vector<Cell> cells_;
};

}  // namespace

std::string chart_text(const LineChart& chart, int columns, int rows, bool colors) {
  if (columns < 2 || rows < 2)
    fail({"chart_text: it is ", columns, " x ", rows, ", expected at least 2 x 2"});
  Canvas canvas(columns, rows);
  // Without colours the first line is told from the others by its dots.
  auto broken = [&](const Series& s) { return s.dashed || (!colors && s.color == 0); };
  const Range xs = x_range(chart), ys = y_range(chart);
  auto px = [&](double x) { return xs.at(x) * (canvas.width() - 1); };
  auto py = [&](double y) { return (1 - ys.at(y)) * (canvas.height() - 1); };
  for (auto& s : chart.series) {
    const size_t n = std::min(s.x.size(), s.y.size());
    for (size_t i = 0; i < n; ++i) {
      if (!std::isfinite(s.y[i])) continue;
      const double x = px(s.x[i]), y = std::clamp(py(s.y[i]), -1e6, 1e6);
      canvas.dot(int(std::lround(x)), int(std::lround(y)), s.color);
      if (i + 1 == n || !std::isfinite(s.y[i + 1])) continue;
      const double x2 = px(s.x[i + 1]), y2 = std::clamp(py(s.y[i + 1]), -1e6, 1e6);
      const int steps = int(std::min(1e4, std::max(std::abs(x2 - x), std::abs(y2 - y)))) + 1;
      for (int k = 1; k < steps; ++k) {
        const double t = double(k) / steps;
        if (broken(s) && k / 2 % 2) continue;
        canvas.dot(int(std::lround(x + (x2 - x) * t)), int(std::lround(y + (y2 - y) * t)), s.color);
      }
    }
  }
  // The text of a tick stands at the row that its value falls into.
  std::vector<std::string> labels(static_cast<size_t>(rows));
  const std::vector<double> y_ticks = ticks(ys, std::max(2, rows / 2));
  const double y_step = y_ticks.size() > 1 ? y_ticks[1] - y_ticks[0] : 1;
  size_t margin = 0;
  for (double v : y_ticks) {
    const int row = std::clamp(int(std::lround(py(v))) / 4, 0, rows - 1);
    labels[size_t(row)] = tick_text(v, y_step, chart.percent);
    margin = std::max(margin, width(labels[size_t(row)]));
  }
  std::string out = "  " + chart.title;
  for (auto& s : chart.series)
    out += "   " + painted(broken(s) ? "┈┈ " : "── ", s.color, colors) + s.name;
  out += "\n";
  for (int r = 0; r < rows; ++r)
    out += "  " + padded(labels[size_t(r)], margin, true) +
           (labels[size_t(r)].empty() ? " │" : " ┤") + canvas.row(r, colors) + "\n";
  std::string axis, numbers(size_t(columns) + 8, ' ');
  for (int i = 0; i < columns; ++i) axis += "─";
  const std::vector<double> x_ticks = ticks(xs, std::max(2, columns / 8));
  const double x_step = x_ticks.size() > 1 ? x_ticks[1] - x_ticks[0] : 1;
  for (double v : x_ticks) {
    const std::string text = tick_text(v, x_step, false);
    const int at =
        std::clamp(int(std::lround(px(v))) / 2 - int(text.size()) / 2, 0, int(numbers.size()) - 8);
    numbers.replace(size_t(at), text.size(), text);
  }
  numbers.erase(numbers.find_last_not_of(' ') + 1);
  const std::string indent(margin + 4, ' ');
  out += "  " + std::string(margin, ' ') + " └" + axis + "\n" + indent + numbers + "  " +
         chart.x_label + "\n";
  return out;
}

std::string chart_text(const HeatMap& chart, bool colors) {
  constexpr size_t kCell = 6;
  size_t margin = width(chart.y_label);
  for (auto& r : chart.rows) margin = std::max(margin, width(r));
  std::string out = "  " + chart.title + "\n  " + padded(chart.y_label, margin) + " ";
  for (auto& c : chart.columns) out += padded(c, kCell, true);
  out += "  " + chart.x_label + "\n";
  for (size_t r = 0; r < chart.rows.size(); ++r) {
    out += "  " + padded(chart.rows[r], margin, true) + " ";
    for (size_t c = 0; c < chart.columns.size(); ++c) {
      const double v = chart.values[r * chart.columns.size() + c];
      const std::string text =
          std::isfinite(v) ? std::to_string(std::lround(v * 100)) : std::string("×");
      if (!colors || !std::isfinite(v)) {
        out += padded(text, kCell, true);
        continue;
      }
      const auto [red, green, blue] = heat_color(v);
      out += concat({"\x1b[48;2;", red, ";", green, ";", blue, v > 0.6 ? "m\x1b[30m" : "m\x1b[97m",
                     padded(text, kCell - 2, true), "  ", kPlain});
    }
    out += "\n";
  }
  return out;
}

std::string images_text(const std::vector<Image>& images) {
  static constexpr const char* kShades[] = {" ", "░", "▒", "▓", "█"};
  std::string out;
  int64_t height = 0;
  for (auto& p : images) height = std::max(height, p.height);
  for (int64_t y = 0; y < height; ++y) {
    out += " ";
    for (auto& p : images) {
      out += " ";
      for (int64_t x = 0; x < p.width; ++x) {
        const double ink = y < p.height ? double(p.pixels[size_t(y * p.width + x)]) : 0;
        const char* shade = kShades[std::clamp(int(ink * 5), 0, 4)];
        out += shade, out += shade;
      }
      out += " ";
    }
    out += "\n";
  }
  for (auto line : {&Image::label, &Image::note}) {
    out += " ";
    for (auto& p : images) out += " " + padded(p.*line, size_t(p.width * 2)) + " ";
    out.erase(out.find_last_not_of(' ') + 1);
    out += "\n";
  }
  return out;
}

}  // namespace evenflow
