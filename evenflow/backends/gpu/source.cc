// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <set>

#include "evenflow/backends/gpu/gpu.h"

namespace evenflow::gpu {

const SourceEntry*& SourceEntry::head() {
  static constinit const SourceEntry* h = nullptr;
  return h;
}
SourceEntry::SourceEntry(const char* n, const char* t) : name(n), text(t), next(head()) {
  head() = this;
}

namespace {
constexpr std::string_view kShim = "backends/gpu/shim.h";
std::string_view text_of(std::string_view name) {
  for (auto* e = SourceEntry::head(); e; e = e->next)
    if (name == e->name) return e->text;
  fail(Code::Internal, {"kernel source \"", name, "\" is not part of the library"});
}
// A source and what it includes of ours, each once and in front of its user: kernels (.gpu.h), and
// apart from them what has no definitions from outside. What is the system's is left to shim.h.
struct Texts {
  std::string plain, kernels;
  std::set<std::string, std::less<>> seen;

  void add(std::string_view name) {
    if (!seen.emplace(name).second) return;
    std::string_view text = text_of(name);
    std::string own;
    constexpr std::string_view ours = "#include \"evenflow/";
    while (!text.empty()) {
      const size_t end = std::min(text.find('\n'), text.size() - 1) + 1;
      const std::string_view line = text.substr(0, end);
      text.remove_prefix(end);
      if (line.starts_with(ours)) {
        const size_t from = ours.size();
        add(line.substr(from, line.find('"', from) - from));
      } else if (!line.starts_with("#pragma once") &&
                 (name == kShim || !line.starts_with("#include <")))
        own += line;
    }
    (name.ends_with(".gpu.h") ? kernels : plain) += own;
  }
};
}  // namespace

std::string source_of(std::string_view file, const Defines& defines) {
  Texts texts;
  texts.add(kShim);
  texts.add(file);
  std::string s = texts.plain;
  for (auto& [name, value] : defines) s += "#define " + name + " " + value + "\n";
  return s + texts.kernels;
}

std::vector<std::string_view> source_names() {
  std::vector<std::string_view> r;
  for (auto* e = SourceEntry::head(); e; e = e->next) r.push_back(e->name);
  std::sort(r.begin(), r.end());
  return r;
}

}  // namespace evenflow::gpu
