// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdio>
#include <set>

#include "evenflow/model/model.h"

namespace evenflow {
namespace {
std::string grouped(int64_t n) {
  std::string s = std::to_string(n);
  for (int i = int(s.size()) - 3; i > 0; i -= 3) s.insert(size_t(i), 1, ',');
  return s;
}
std::string memory(int64_t bytes) {
  char b[40];
  const double n = double(bytes);
  if (bytes < 1024)
    std::snprintf(b, sizeof b, "%.2f B", n);
  else if (bytes < 1 << 20)
    std::snprintf(b, sizeof b, "%.2f KB", n / 1024);
  else if (bytes < 1 << 30)
    std::snprintf(b, sizeof b, "%.2f MB", n / (1 << 20));
  else
    std::snprintf(b, sizeof b, "%.2f GB", n / (1 << 30));
  return b;
}
size_t width(const std::string& s) {  // columns of UTF-8 text
  size_t n = 0;
  for (char c : s) n += (c & 0xc0) != 0x80;
  return n;
}
// Broken at spaces into lines of at most `columns`, where words allow it.
std::vector<std::string> lines(const std::string& text, size_t columns) {
  std::vector<std::string> r{""};
  for (size_t i = 0; i < text.size();) {
    const size_t end = std::min(text.find(' ', i), text.size());
    const std::string word = text.substr(i, end - i);
    if (r.back().empty())
      r.back() = word;
    else if (width(r.back()) + 1 + width(word) <= columns)
      r.back() += " " + word;
    else
      r.push_back(word);
    i = end + 1;
  }
  return r;
}
size_t widest_word(const std::string& text) {
  size_t n = 0;
  for (auto& w : lines(text, 0)) n = std::max(n, width(w));
  return n;
}
int64_t parameters(const LayerImpl& layer) {
  int64_t n = 0;
  if (const ModelImpl* m = layer.model()) {
    for (auto& l : m->leaves()) n += parameters(*l.layer);
    return n;
  }
  for (auto& w : layer.weights) n += w.variable.sig().shape.count();
  if (auto w = layer.wrapped()) n += parameters(*w);
  return n;
}
// Whether each layer has one input and one use, so that nothing need be said of connections.
bool is_chain(const ModelImpl& m) {
  std::set<int> used;
  for (auto& c : m.calls) {
    if (c.number || c.inputs.size() > 1) return false;
    for (int i : c.inputs)
      if (!used.insert(i).second) return false;
  }
  return m.inputs.size() == 1 && m.outputs.size() == 1;
}
struct Total {
  int64_t count = 0, bytes = 0;
  void add(const Variable& v) { count += v.sig().shape.count(), bytes += v.sig().bytes(); }
  std::string text() const { return grouped(count) + " (" + memory(bytes) + ")\n"; }
};
}  // namespace

std::string Model::summary() const {
  const ModelImpl& m = impl();
  const bool functional = m.class_name == "Functional", chain = !functional || is_chain(m);
  std::vector<std::vector<std::string>> rows{{"Layer (type)", "Output Shape", "Param #"}};
  std::vector<size_t> columns{31, 22, 13};  // Keras's on a terminal of 80; words can widen them
  if (!chain) rows[0].push_back("Connected to"), columns = {26, 18, 10, 20};
  for (auto& l : m.layers) {
    if (!functional && l->class_name() == "InputLayer") continue;
    std::string kind = l->name + " (" + std::string(l->class_name()) + ")", dims = "?", from;
    if (const std::string note = l->summary_note(); !note.empty()) kind += " [" + note + "]";
    for (auto& c : m.calls) {
      if (c.layer != l) continue;
      dims = str_dims(c.dims);
      for (int i : c.inputs) {
        const ModelImpl::Call& source = m.calls[size_t(i)];
        from += concat({from.empty() ? "" : ", ", source.layer->name, "[", source.number, "][0]"});
      }
    }
    rows.push_back({kind, dims, l->built ? grouped(parameters(*l)) : "0 (unbuilt)"});
    if (!chain) rows.back().push_back(from.empty() ? "-" : from);
  }
  for (auto& r : rows)
    for (size_t i = 0; i < r.size(); ++i)
      columns[i] = std::max(columns[i], i == 0 || i == 3 ? widest_word(r[i]) : width(r[i]));
  std::string s = concat({"Model: \"", m.name, "\"\n"});
  auto line =
      [&](std::initializer_list<std::string_view> glyphs) {  // left, filling, between, right
        auto glyph = glyphs.begin();
        s += glyph[0];
        for (size_t i = 0; i < columns.size(); ++i) {
          for (size_t k = 0; k < columns[i] + 2; ++k) s += glyph[1];
          s += glyph[i + 1 < columns.size() ? 2 : 3];
        }
        s += '\n';
      };
  line({"┏", "━", "┳", "┓"});
  for (size_t r = 0; r < rows.size(); ++r) {
    const std::string_view bar = r ? "│" : "┃";
    std::vector<std::vector<std::string>> cells;
    size_t height = 1;
    for (size_t i = 0; i < columns.size(); ++i) {
      cells.push_back(lines(rows[r][i], columns[i]));
      height = std::max(height, cells.back().size());
    }
    for (size_t k = 0; k < height; ++k) {
      for (size_t i = 0; i < columns.size(); ++i) {
        const std::string text = k < cells[i].size() ? cells[i][k] : "";
        const std::string pad(columns[i] - width(text), ' ');
        s += concat({bar, " ", i == 2 ? pad : text, i == 2 ? text : pad, " "});
      }
      s += concat({bar, "\n"});
    }
    if (r + 1 == rows.size())
      line({"└", "─", "┴", "┘"});
    else if (r)
      line({"├", "─", "┼", "┤"});
    else
      line({"┡", "━", "╇", "┩"});
  }
  Total trainable, others, optimizer;
  for (auto& w : trainable_weights()) trainable.add(w.variable);
  for (auto& w : non_trainable_weights()) others.add(w.variable);
  for (auto& v : m.optimizer_variables) optimizer.add(v);
  const Total all{trainable.count + others.count + optimizer.count,
                  trainable.bytes + others.bytes + optimizer.bytes};
  s += " Total params: " + all.text();
  s += " Trainable params: " + trainable.text();
  s += " Non-trainable params: " + others.text();
  if (!m.optimizer_variables.empty()) s += " Optimizer params: " + optimizer.text();
  return s;
}

}  // namespace evenflow
