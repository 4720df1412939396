// SPDX-License-Identifier: Apache-2.0
// Charts as SVG. A drawing is 380 units wide, so that its letters are readable on a telephone too.
#include <algorithm>
#include <cmath>

#include "evenflow/core/error.h"
#include "evenflow/train/chart_scale.h"
#include "evenflow/train/report.h"

namespace evenflow {
namespace {

constexpr double kWidth = 380, kLeft = 46, kRight = 10, kTop = 8, kBottom = 40;

std::string n1(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", v == 0 ? 0. : v);
  return text;
}
std::string n4(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", v);
  return text;
}
std::string text_at(double x, double y, std::string_view cls, std::string_view text,
                    std::string_view more = "") {
  return concat({"<text x=\"", n1(x), "\" y=\"", n1(y), "\" class=\"", cls, "\"", more, ">",
                 html_text(text), "</text>"});
}
std::string legend_of(const std::string& name, int color, std::string_view kind) {
  return concat({"<span class=\"key c", color, "\"><i class=\"", kind, "\"></i>", html_text(name),
                 "</span>"});
}
std::string figure(std::string_view title, const std::string& legend, double height,
                   const std::string& drawing) {
  return concat({"<div class=\"chart\"><h3>", html_text(title), "</h3>",
                 legend.empty() ? "" : "<p class=\"keys\">" + legend + "</p>",
                 "<svg viewBox=\"0 0 ", n1(kWidth), " ", n1(height),
                 "\" role=\"img\" aria-label=\"", html_text(title), "\">\n", drawing,
                 "</svg></div>\n"});
}

// Axes with their ticks and labels, and where a value falls.
struct Frame {
  Range xs, ys;
  double height;
  double px(double x) const { return kLeft + xs.at(x) * (kWidth - kLeft - kRight); }
  double py(double y) const {
    return std::clamp(kTop + (1 - ys.at(y)) * (height - kTop - kBottom), -1e4, 1e4);
  }
  std::string axes(std::string_view x_label, std::string_view y_label, bool percent,
                   bool y_on_top) const {
    std::string s;
    const std::vector<double> yt = ticks(ys, 5), xt = ticks(xs, 7);
    for (double v : yt) {
      s += concat({"<path class=\"grid\" d=\"M", n1(kLeft), " ", n1(py(v)), "H",
                   n1(kWidth - kRight), "\"/>"});
      s += text_at(kLeft - 6, py(v) + 3.5, "tick end",
                   tick_text(v, yt.size() > 1 ? yt[1] - yt[0] : 1, percent));
    }
    for (double v : xt) {
      s += concat({"<path class=\"axis\" d=\"M", n1(px(v)), " ", n1(height - kBottom), "v4\"/>"});
      s += text_at(px(v), height - kBottom + 15, "tick mid",
                   tick_text(v, xt.size() > 1 ? xt[1] - xt[0] : 1, false));
    }
    s += concat({"<path class=\"axis\" d=\"M", n1(kLeft), " ", n1(height - kBottom), "H",
                 n1(kWidth - kRight), "\"/>"});
    s += text_at((kLeft + kWidth - kRight) / 2, height - 8, "label mid", x_label);
    if (!y_on_top)
      s += text_at(0, 0, "label mid", y_label,
                   concat({" transform=\"translate(9 ", n1((kTop + height - kBottom) / 2),
                           ") rotate(-90)\""}));
    return s + "\n";
  }
};

// "M.. L.." through the points whose y is finite.
std::string path_of(const Frame& f, const std::vector<double>& x, const std::vector<double>& y) {
  std::string d;
  bool pen = false;
  for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
    if (!std::isfinite(y[i])) {
      pen = false;
      continue;
    }
    d += concat({pen ? "L" : "M", n1(f.px(x[i])), " ", n1(f.py(y[i]))});
    pen = true;
  }
  return d;
}

}  // namespace

std::string chart_html(const LineChart& chart) {
  const Frame f{x_range(chart), y_range(chart), 230};
  std::string s = f.axes(chart.x_label, chart.y_label, chart.percent, false), legend;
  for (auto& b : chart.bands) {
    legend += legend_of(b.name, b.color, "area");
    std::string back;
    for (size_t i = b.x.size(); i--;)
      if (std::isfinite(b.low[i])) back += concat({"L", n1(f.px(b.x[i])), " ", n1(f.py(b.low[i]))});
    s += concat(
        {"<path class=\"area c", b.color, "\" d=\"", path_of(f, b.x, b.high), back, "Z\"/>"});
    for (auto* line : {&b.low, &b.high})
      s +=
          concat({"<path class=\"line thin c", b.color, "\" d=\"", path_of(f, b.x, *line), "\"/>"});
    s += concat({"<path class=\"line c", b.color, "\" d=\"", path_of(f, b.x, b.middle), "\"/>\n"});
  }
  for (auto& l : chart.series) {
    legend += legend_of(l.name, l.color, l.dashed ? "dashed" : "line");
    s += concat({"<path class=\"line", l.dashed ? " dashed" : "", " c", l.color, "\" d=\"",
                 path_of(f, l.x, l.y), "\"/>"});
    const size_t n = std::min(l.x.size(), l.y.size());
    for (size_t i = 0; i < n && n <= 40; ++i)
      if (std::isfinite(l.y[i]))
        s +=
            concat({"<circle class=\"dot c", l.color, "\" cx=\"", n1(f.px(l.x[i])), "\" cy=\"",
                    n1(f.py(l.y[i])), "\" r=\"", l.dashed ? "1.8" : "2.6", "\"><title>",
                    html_text(concat({l.name, ", ", chart.x_label, " ", n4(l.x[i]), ": ",
                                      chart.percent ? tick_text(l.y[i], 1e-3, true) : n4(l.y[i])})),
                    "</title></circle>"});
    s += "\n";
  }
  return figure(chart.title, legend, f.height, s);
}

std::string chart_html(const HeatMap& chart) {
  const double left = 50, top = 4, cell_w = (kWidth - left - 2) / double(chart.columns.size()),
               cell_h = 30, bottom = top + cell_h * double(chart.rows.size());
  std::string s;
  for (size_t r = 0; r < chart.rows.size(); ++r) {
    const double y = top + cell_h * double(r);
    s += text_at(left - 6, y + cell_h / 2 + 3.5, "tick end", chart.rows[r]);
    for (size_t c = 0; c < chart.columns.size(); ++c) {
      const double v = chart.values[r * chart.columns.size() + c], x = left + cell_w * double(c);
      const bool finite = std::isfinite(v);
      const auto [red, green, blue] = heat_color(finite ? v : 0);
      const std::string what = concat(
          {chart.y_label, " ", chart.rows[r], ", ", chart.x_label, " ", chart.columns[c], ": "});
      s += concat({"<g><title>", html_text(what), finite ? tick_text(v, 1e-3, true) : "diverged",
                   "</title><rect x=\"", n1(x + 1), "\" y=\"", n1(y + 1), "\" width=\"",
                   n1(cell_w - 2), "\" height=\"", n1(cell_h - 2), "\" rx=\"3\" ",
                   finite ? concat({"fill=\"rgb(", red, ",", green, ",", blue, ")\""})
                          : std::string("class=\"none\""),
                   "/>"});
      s += text_at(x + cell_w / 2, y + cell_h / 2 + 4,
                   !finite   ? "cell mid gone"
                   : v > 0.6 ? "cell mid dark"
                             : "cell mid light",
                   finite ? std::to_string(std::lround(v * 100)) : "×");
      s += "</g>";
    }
    s += "\n";
  }
  for (size_t c = 0; c < chart.columns.size(); ++c)
    s += text_at(left + cell_w * (double(c) + 0.5), bottom + 14, "tick mid", chart.columns[c]);
  s += text_at((left + kWidth) / 2, bottom + 31, "label mid", chart.x_label);
  s += text_at(0, 0, "label mid", chart.y_label,
               concat({" transform=\"translate(9 ", n1((top + bottom) / 2), ") rotate(-90)\""}));
  return figure(chart.title, "", bottom + 38, s);
}

std::string chart_html(const ScatterChart& chart) {
  Range both{1e300, -1e300};
  for (auto& p : chart.series)
    for (auto* values : {&p.x, &p.y})
      for (double v : *values) both.add(v);
  if (!(both.low <= both.high)) both = {0, 1};
  const double room = std::max((both.high - both.low) * 0.05, 1e-9);
  both.low -= room, both.high += room;
  const Frame f{both, both, 300};
  std::string s = f.axes(chart.x_label, chart.y_label, false, false), legend;
  s += concat({"<path class=\"diagonal\" d=\"M", n1(f.px(both.low)), " ", n1(f.py(both.low)), "L",
               n1(f.px(both.high)), " ", n1(f.py(both.high)), "\"/>\n"});
  for (auto& p : chart.series) {
    legend += legend_of(p.name, p.color, "point");
    for (size_t i = 0; i < std::min(p.x.size(), p.y.size()); ++i)
      if (std::isfinite(p.x[i]) && std::isfinite(p.y[i]))
        s += concat({"<circle class=\"point c", p.color, "\" cx=\"", n1(f.px(p.x[i])), "\" cy=\"",
                     n1(f.py(p.y[i])), "\" r=\"3\"><title>",
                     html_text(concat({p.name, ", channel ", i, ": ", chart.x_label, " ",
                                       n4(p.x[i]), ", ", chart.y_label, " ", n4(p.y[i])})),
                     "</title></circle>"});
    s += "\n";
  }
  return figure(chart.title, legend, f.height, s);
}

std::string images_html(const std::vector<Image>& images) {
  constexpr int kLevels = 16;
  std::string s = "<div class=\"images\">\n";
  for (auto& p : images) {
    s += concat({"<div class=\"image", p.wrong ? " wrong" : "", "\"><svg viewBox=\"-0.5 -0.5 ",
                 p.width + 1, " ", p.height + 1,
                 "\" shape-rendering=\"crispEdges\" role=\"img\" aria-label=\"", html_text(p.label),
                 "\">"});
    for (int level = 1; level <= kLevels; ++level) {  // a path for each shade
      std::string d;
      for (int64_t i = 0; i < int64_t(p.pixels.size()); ++i)
        if (std::lround(std::clamp(p.pixels[size_t(i)], 0.f, 1.f) * kLevels) == level)
          d += concat({"M", i % p.width, " ", i / p.width, "h1v1h-1z"});
      if (!d.empty())
        s += concat({"<path opacity=\"", n4(double(level) / kLevels), "\" d=\"", d, "\"/>"});
    }
    s += concat(
        {"</svg><b>", html_text(p.label), "</b><small>", html_text(p.note), "</small></div>\n"});
  }
  return s + "</div>\n";
}

}  // namespace evenflow
