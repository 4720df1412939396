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
std::string_view text_of(std::string_view name) {
  for (auto* e = SourceEntry::head(); e; e = e->next)
    if (name == e->name) return e->text;
  fail(Code::Internal, {"kernel source \"", name, "\" is not part of the library"});
}
// Includes of ours are put in place, once; those of the system are left to shim.h.
void append(std::string& out, std::string_view name, std::set<std::string, std::less<>>& seen) {
  if (!seen.emplace(name).second) return;
  std::string_view text = text_of(name);
  constexpr std::string_view ours = "#include \"evenflow/";
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size() - 1) + 1;
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end);
    if (line.starts_with(ours)) {
      const size_t from = ours.size();
      append(out, line.substr(from, line.find('"', from) - from), seen);
    } else if (!line.starts_with("#include <") && !line.starts_with("#pragma once"))
      out += line;
  }
}
}  // namespace

std::string source_of(std::string_view file, const Defines& defines) {
  std::string s;
  for (auto& [name, value] : defines) s += "#define " + name + " " + value + "\n";
  std::set<std::string, std::less<>> seen;
  append(s, "backends/gpu/shim.h", seen);
  append(s, file, seen);
  return s;
}

std::vector<std::string_view> source_names() {
  std::vector<std::string_view> r;
  for (auto* e = SourceEntry::head(); e; e = e->next) r.push_back(e->name);
  std::sort(r.begin(), r.end());
  return r;
}

}  // namespace evenflow::gpu
