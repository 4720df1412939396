// SPDX-License-Identifier: Apache-2.0
// Layers by longest path, order in a layer by the mean position of neighbours (Sugiyama, Tagawa,
// Toda, 1981), long
// edges on threads of their own between the boxes.
#include "evenflow/graph/picture.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <mutex>
#include <numeric>

#include "evenflow/core/log.h"

namespace evenflow {
namespace {

constexpr size_t kMostCalls = 2000, kMostStops = 40000;
constexpr int kWidth = 168, kHeight = 46, kGapX = 22, kGapY = 44;

std::string escaped(std::string_view text) {
  std::string s;
  for (char c : text) {
    if (c == '<')
      s += "&lt;";
    else if (c == '>')
      s += "&gt;";
    else if (c == '&')
      s += "&amp;";
    else if (c == '"')
      s += "&quot;";
    else if (uint8_t(c) >= 32 || c == '\n')
      s += c;
  }
  return s;
}
// At most n characters; never cut inside a UTF-8 character.
std::string shortened(const std::string& s, size_t n) {
  if (s.size() <= n) return s;
  size_t at = s.size() - (n - 1);
  while (at < s.size() && (uint8_t(s[at]) & 0xc0) == 0x80) ++at;
  return "…" + s.substr(at);
}

struct Box {
  std::string title, line, hover, family;
  std::vector<int> from;
  int layer = 0;
  double x = 0;
};

std::string family(const OpDef& op) {
  if (op.traits.random) return "random";
  if (op.traits.reshape || op.traits.alias) return "shape";
  if (op.traits.keeps_float32) return "statistics";
  if (op.traits.pointwise) return "pointwise";
  for (auto& k : op.kernels())
    if (k.costly) return "heavy";
  return op.cost ? "heavy" : "other";
}

std::vector<Box> boxes_of(const Graph& g, size_t calls) {
  std::vector<Box> boxes;
  std::vector<int> producer(g.values.size(), -1);
  std::vector<char> known(g.values.size());
  for (auto& [v, b] : g.constants) known[size_t(v)] = 1;
  for (size_t i = 0; i < g.leaves.size(); ++i) {
    producer[size_t(g.leaves[i])] = int(boxes.size());
    const std::string sig = str(g.values[size_t(g.leaves[i])]);
    boxes.push_back({concat({"input ", i}), sig, concat({"input ", i, " ", sig}), "leaf", {}});
  }
  for (size_t i = 0; i < calls; ++i) {
    const Graph::Call& c = g.calls[i];
    Box b{c.op->name, {}, c.op->name, family(*c.op), {}};
    if (c.name) b.hover += " \"" + *c.name + "\"";
    b.hover += concat({"\n", c.op->summary, "\n"});
    for (int v : c.in) {
      b.hover += "\nin " + str(g.values[size_t(v)]) + (known[size_t(v)] ? " (constant)" : "");
      if (const int p = producer[size_t(v)]; p >= 0 && !std::count(b.from.begin(), b.from.end(), p))
        b.from.push_back(p);
    }
    for (int v : c.out) {
      b.line += (b.line.empty() ? "" : " ") + str(g.values[size_t(v)]);
      b.hover += "\nout " + str(g.values[size_t(v)]);
      producer[size_t(v)] = int(boxes.size());
    }
    const auto attrs = c.op->get_attrs(c.attrs.get());
    for (size_t k = 0; k < attrs.size(); ++k)
      b.hover += "\n" + c.op->attrs[k].name + " = " + str(attrs[k]);
    if (c.where.line()) b.hover += "\nat " + str(c.where);
    if (c.name) b.line = *c.name + "|" + b.line;
    boxes.push_back(std::move(b));
  }
  for (size_t i = 0; i < g.results.size(); ++i) {
    const int p = producer[size_t(g.results[i])];
    const std::string sig = str(g.values[size_t(g.results[i])]);
    boxes.push_back({concat({"result ", i}), sig, concat({"result ", i, " ", sig}), "leaf",
                     p < 0 ? std::vector<int>{} : std::vector<int>{p}});
  }
  return boxes;
}

// Where an edge that crosses layers runs between the boxes: each source has one thread down to its
// last reader.
struct Thread {
  std::vector<int> stops;  // boxes without a face, one a layer
};

// Places boxes (by their middle) and threads; returns the width and the number of layers.
std::pair<double, int> lay_out(std::vector<Box>& boxes, std::vector<Thread>& threads) {
  int layers = 1;
  std::vector<std::vector<int>> to(boxes.size());
  for (size_t i = 0; i < boxes.size(); ++i)
    for (int p : boxes[i].from) {
      boxes[i].layer = std::max(boxes[i].layer, boxes[size_t(p)].layer + 1);
      to[size_t(p)].push_back(int(i));
      layers = std::max(layers, boxes[i].layer + 1);
    }
  for (size_t i = boxes.size(); i--;)  // what comes from nowhere goes near to its first reader
    if (boxes[i].from.empty() && !to[i].empty()) {
      int least = layers;
      for (int t : to[i]) least = std::min(least, boxes[size_t(t)].layer);
      boxes[i].layer = least - 1;
    }
  const size_t faces = boxes.size();
  threads.resize(faces);
  std::vector<std::vector<int>> above(faces), below(faces);  // neighbours of a box or a stop
  for (size_t i = 0; i < faces; ++i) {
    int last = 0;
    for (int t : to[i]) last = std::max(last, boxes[size_t(t)].layer);
    int at = int(i);
    for (int layer = boxes[i].layer + 1; layer < last && boxes.size() < faces + kMostStops;
         ++layer) {
      const int stop = int(boxes.size());
      Box b;
      b.layer = layer, b.family = "stop";
      boxes.push_back(b);
      above.push_back({at}), below.push_back({});
      below[size_t(at)].push_back(stop);
      threads[i].stops.push_back(stop);
      at = stop;
    }
    for (int t : to[i]) {
      const size_t k = size_t(boxes[size_t(t)].layer - boxes[i].layer - 1);
      const int before = threads[i].stops.empty() ? int(i)
                         : k ? threads[i].stops[std::min(k, threads[i].stops.size()) - 1]
                             : int(i);
      above[size_t(t)].push_back(before), below[size_t(before)].push_back(t);
    }
  }
  auto room = [&](int i) {
    return boxes[size_t(i)].family == "stop" ? 10. : double(kWidth + kGapX);
  };
  std::vector<std::vector<int>> rows(static_cast<size_t>(layers));
  for (size_t i = 0; i < boxes.size(); ++i) rows[size_t(boxes[i].layer)].push_back(int(i));
  for (auto& row : rows) {
    double at = 0;
    for (int i : row) boxes[size_t(i)].x = at + room(i) / 2, at += room(i);
  }
  for (int sweep = 0; sweep < 16; ++sweep) {
    const bool down = sweep % 2 == 0;
    for (size_t r = 0; r < rows.size(); ++r) {
      auto& row = rows[down ? r : rows.size() - 1 - r];
      std::vector<std::pair<double, int>> wish;
      for (int i : row) {
        auto& near = down ? above[size_t(i)] : below[size_t(i)];
        double sum = 0;
        for (int n : near) sum += boxes[size_t(n)].x;
        wish.push_back({near.empty() ? boxes[size_t(i)].x : sum / double(near.size()), i});
      }
      std::stable_sort(wish.begin(), wish.end(),
                       [](auto& a, auto& b) { return a.first < b.first; });
      // Push apart from left to right, then move the row back by what it was pushed on average.
      double pushed = 0, at = -1e18;
      for (auto& [x, i] : wish) {
        boxes[size_t(i)].x = std::max(x, at + room(i) / 2);
        pushed += boxes[size_t(i)].x - x;
        at = boxes[size_t(i)].x + room(i) / 2;
      }
      for (size_t k = 0; k < wish.size(); ++k)
        row[k] = wish[k].second, boxes[size_t(row[k])].x -= pushed / double(wish.size());
    }
  }
  double left = 1e18, right = -1e18;
  for (auto& b : boxes) left = std::min(left, b.x), right = std::max(right, b.x);
  for (auto& b : boxes) b.x -= left - kWidth / 2;
  return {boxes.empty() ? kWidth : right - left + kWidth, layers};
}

std::string svg(const Graph& g) {
  const size_t calls = std::min(g.calls.size(), kMostCalls);
  std::vector<Box> boxes = boxes_of(g, calls);
  const size_t faces = boxes.size();
  std::vector<Thread> threads;
  const auto [width, layers] = lay_out(boxes, threads);
  const int w = int(width) + 40, h = layers * (kHeight + kGapY) + 20;
  std::string s =
      concat({"<svg width=\"", w, "\" height=\"", h, "\" viewBox=\"0 0 ", w, " ", h, "\">\n"});
  auto middle = [&](const Box& b) { return int(b.x) + 20; };
  auto top = [&](const Box& b) { return b.layer * (kHeight + kGapY) + 10; };
  auto curve = [&](const Box& a, const Box& b) {  // from the foot of a to the head of b, then
                                                  // straight past b if it is a stop
    const int x1 = middle(a), y1 = top(a) + kHeight, x2 = middle(b), y2 = top(b),
              m = std::min(60, (y2 - y1) / 2 + 10);
    return concat({"M", x1, " ", y1, "C", x1, " ", y1 + m, " ", x2, " ", y2 - m, " ", x2, " ", y2,
                   b.family == "stop" ? concat({"v", kHeight}) : ""});
  };
  for (size_t p = 0; p < faces; ++p) {
    std::vector<size_t> readers;
    for (size_t i = p + 1; i < faces; ++i)
      if (std::count(boxes[i].from.begin(), boxes[i].from.end(), int(p))) readers.push_back(i);
    auto path = [&](const Box& a, const Box& b, int beyond) {  // of all readers behind it
      s += concat({"<path class=\"e f", p});
      for (size_t r : readers)
        if (boxes[r].layer > beyond) s += concat({" t", r});
      s += "\" d=\"" + curve(a, b) + "\"/>\n";
    };
    const Box* at = &boxes[p];
    for (int stop : threads[p].stops)
      path(*at, boxes[size_t(stop)], boxes[size_t(stop)].layer), at = &boxes[size_t(stop)];
    for (size_t r : readers) {
      const size_t k = size_t(boxes[r].layer - boxes[p].layer - 1);
      const Box& before =
          k && !threads[p].stops.empty()
              ? boxes[size_t(threads[p].stops[std::min(k, threads[p].stops.size()) - 1])]
              : boxes[p];
      s += concat({"<path class=\"e f", p, " t", r, "\" d=\"", curve(before, boxes[r]), "\"/>\n"});
    }
  }
  for (size_t i = 0; i < faces; ++i) {
    const Box& b = boxes[i];
    const size_t bar = b.family == "leaf" ? std::string::npos : b.line.find('|');
    const std::string scope = bar == std::string::npos ? "" : b.line.substr(0, bar),
                      sig = bar == std::string::npos ? b.line : b.line.substr(bar + 1);
    s += concat({"<g class=\"n ",
                 b.family,
                 "\" data-i=\"",
                 i,
                 "\" transform=\"translate(",
                 middle(b) - kWidth / 2,
                 " ",
                 top(b),
                 ")\"><title>",
                 escaped(b.hover),
                 "</title><rect width=\"",
                 kWidth,
                 "\" height=\"",
                 kHeight,
                 "\" rx=\"",
                 b.family == "leaf" ? 22 : 6,
                 "\"/><text x=\"",
                 kWidth / 2,
                 "\" y=\"",
                 scope.empty() ? 20 : 15,
                 "\" class=\"o\">",
                 escaped(shortened(b.title, 22)),
                 "</text>"});
    if (!scope.empty())
      s += concat({"<text x=\"", kWidth / 2, "\" y=\"27\" class=\"c\">",
                   escaped(shortened(scope, 30)), "</text>"});
    s += concat({"<text x=\"", kWidth / 2, "\" y=\"", scope.empty() ? 36 : 40, "\" class=\"s\">",
                 escaped(shortened(sig, 27)), "</text></g>\n"});
  }
  s += "</svg>\n";
  if (calls < g.calls.size())
    s += concat({"<p>The first ", calls, " of ", g.calls.size(), " calls.</p>\n"});
  return s;
}

constexpr std::string_view kHead = R"(<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>)";
constexpr std::string_view kStyle = R"(</title><style>
body{font:14px system-ui,sans-serif;margin:24px;color:#1c2430;background:#fff}
h1{font-size:20px}h2{font-size:16px;margin:28px 0 6px}
.g{overflow:auto;border:1px solid #d6dce4;border-radius:8px;max-height:85vh;background:#fbfcfd}
svg{display:block;margin:auto}.e{fill:none;stroke:#9aa7b8;stroke-width:1.3}
.n rect{stroke:#5b6b80;stroke-width:1}.n text{text-anchor:middle}.o{font-weight:600;font-size:13px}.s{font-size:11px;fill:#3c4a5c}.c{font-size:10px;fill:#6a7686}
.leaf rect{fill:#e9edf2}.heavy rect{fill:#bcd7f7}.statistics rect{fill:#ffd9a8}.pointwise rect{fill:#c9ebc9}.shape rect{fill:#f1f1f1;stroke-dasharray:4 3}
.random rect{fill:#e2cdf5}.other rect{fill:#f8f0b8}
.dim{opacity:.18}.hot{stroke:#d0462b;stroke-width:2.4}
.k span{display:inline-block;padding:2px 9px;border-radius:9px;margin-right:8px;font-size:12px}
pre{font-size:12px;background:#f5f7f9;padding:10px;border-radius:8px;overflow:auto;max-height:50vh}
</style></head><body>
)";
constexpr std::string_view kLegend =
    R"(<p class="k"><span style="background:#bcd7f7">heavy</span><span style="background:#ffd9a8">statistics, kept in f32</span><span style="background:#c9ebc9">pointwise</span><span style="background:#f1f1f1">shape, mostly no work</span><span style="background:#e2cdf5">random</span><span style="background:#f8f0b8">other</span><span style="background:#e9edf2">inputs and results</span></p>
)";
constexpr std::string_view kScript = R"(<script>
for(const svg of document.querySelectorAll('svg'))for(const n of svg.querySelectorAll('.n')){
const es=[...svg.querySelectorAll('.f'+n.dataset.i+',.t'+n.dataset.i)];
n.onmouseenter=()=>es.forEach(e=>e.classList.add('hot'));n.onmouseleave=()=>es.forEach(e=>e.classList.remove('hot'));}
</script></body></html>
)";

}  // namespace

std::string pictures_html(const std::vector<Picture>& pictures, const std::string& title) {
  std::string s =
      concat({kHead, escaped(title), kStyle, "<h1>", escaped(title), "</h1>\n", kLegend});
  for (auto& p : pictures) {
    s += concat({"<h2>", escaped(p.title), "</h2>\n"});
    if (p.graph)
      s += concat({"<p>", p.graph->calls.size(), " calls, ", p.graph->leaves.size(), " inputs, ",
                   p.graph->constants.size(), " constants, ", p.graph->results.size(),
                   " results</p><div class=\"g\">\n", svg(*p.graph), "</div>\n"});
    if (!p.text.empty()) s += "<pre>" + escaped(p.text) + "</pre>\n";
  }
  return s + std::string(kScript);
}

std::string picture_html(const Graph& graph, const std::string& title) {
  return pictures_html({{title, "", &graph}}, title);
}

void picture_plan(const std::string& title, const Graph& traced, const Plan& plan) {
  static const char* const path = std::getenv("EVENFLOW_VIZ");
  if (!path || !*path) return;
  struct Kept {
    std::string title, listing;
    Graph traced, lowered;
  };
  static std::mutex mutex;
  static std::deque<Kept> kept;
  static bool written = false;
  std::lock_guard lock(mutex);
  kept.push_back({title, plan.listing(), traced, plan.graph()});
  for (auto* g : {&kept.back().traced, &kept.back().lowered})
    for (auto& [v, b] : g->constants) b.reset();  // a picture holds no weights
  if (kept.size() > 16) kept.pop_front();
  std::vector<Picture> sections;
  for (auto k = kept.rbegin(); k != kept.rend(); ++k) {
    sections.push_back({k->title + ": as traced", "", &k->traced});
    const bool same = k->traced.calls.size() == k->lowered.calls.size();
    sections.push_back({k->title + (same ? ": plan (nothing was lowered)"
                                         : ": lowered to what has kernels, and its plan"),
                        k->listing, same ? nullptr : &k->lowered});
  }
  const std::string temporary = std::string(path) + ".new";
  std::ofstream out(temporary, std::ios::binary);
  out << pictures_html(sections, "Evenflow: compiled functions, newest first");
  out.close();
  const bool good = out && std::rename(temporary.c_str(), path) == 0;
  // The first picture says whether there will be any; a disk that fills later stops no training.
  if (!good && !written)
    fail(Code::FailedPrecondition, {"EVENFLOW_VIZ: ", path, " cannot be written"});
  written = true;
}

}  // namespace evenflow
