// SPDX-License-Identifier: Apache-2.0
// What is declared in the sources is what is registered (an archive or a linker may lose objects
// that nobody calls by name), and every sheet is complete.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>

#include "evenflow/graph/op.h"
#include "tests/op_checks.h"

namespace evenflow {
namespace {
namespace fs = std::filesystem;
using testing::HasSubstr;

std::string text_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// The names that a source declares: OP(name, ...) at the start of a line, and uses of the file's
// own macros whose body holds an OP(...). A name in such a macro may be put together:
// OP(name##_grad, ...).
std::vector<std::string> declared(std::string text) {
  text = std::regex_replace(text, std::regex("\\\\\n"), " ");  // macros as one line
  struct Macro {
    std::vector<std::string> parameters, names;
  };
  std::map<std::string, Macro> macros{{"OP", {{"name"}, {"name"}}}};
  const std::regex definition("(?:^|\n)[ \t]*#[ \t]*define[ \t]+(\\w+)\\(([^)]*)\\)([^\n]*)"),
      op("\\bOP\\(([\\w#]+)"), word("\\w+"), argument("[^,]+");
  for (auto it = std::sregex_iterator(text.begin(), text.end(), definition);
       it != std::sregex_iterator(); ++it) {
    Macro m;
    const std::string parameters = (*it)[2], body = (*it)[3];
    for (auto p = std::sregex_iterator(parameters.begin(), parameters.end(), word);
         p != std::sregex_iterator(); ++p)
      m.parameters.push_back(p->str());
    for (auto o = std::sregex_iterator(body.begin(), body.end(), op); o != std::sregex_iterator();
         ++o)
      m.names.push_back((*o)[1]);
    if (!m.names.empty()) macros[(*it)[1]] = m;
  }
  std::vector<std::string> r;
  const std::regex use("(?:^|\n)([A-Z][A-Z0-9_]*)\\(\\s*([^)]*)");
  for (auto it = std::sregex_iterator(text.begin(), text.end(), use); it != std::sregex_iterator();
       ++it) {
    auto m = macros.find((*it)[1]);
    if (m == macros.end()) continue;
    std::vector<std::string> arguments;
    const std::string list = (*it)[2];
    for (auto a = std::sregex_iterator(list.begin(), list.end(), argument);
         a != std::sregex_iterator(); ++a) {
      std::string s = a->str();
      s.erase(0, s.find_first_not_of(" \t"));
      arguments.push_back(s.substr(0, s.find_last_not_of(" \t") + 1));
    }
    for (const std::string& name : m->second.names) {
      std::string made;
      for (auto w = std::sregex_iterator(name.begin(), name.end(), word);
           w != std::sregex_iterator(); ++w) {
        const auto p =
            std::find(m->second.parameters.begin(), m->second.parameters.end(), w->str());
        const size_t i = size_t(p - m->second.parameters.begin());
        made += i < m->second.parameters.size() && i < arguments.size() ? arguments[i] : w->str();
      }
      r.push_back(made);
    }
  }
  return r;
}

TEST(Registry, declarations_are_found_in_a_source) {
  EXPECT_EQ(
      declared(
          "OP(a, NoAttrs) {\n"
          "#define TWO(name, text) \\\n  OP(name, NoAttrs) {} \\\n  OP(name##_grad, NoAttrs) {}\n"
          "#define KERNELS(name) KERNEL(name, NoAttrs, x)\n"
          "  OP(not_at_the_start, NoAttrs)\n"
          "TWO(b, \"x\")\nKERNELS(c)\n"),
      (std::vector<std::string>{"a", "b", "b_grad"}));
}
TEST(Registry, holds_what_the_sources_declare) {
  std::multiset<std::string> sources, registered;
  for (auto* room : {"graph", "ops"})
    for (auto& entry :
         fs::recursive_directory_iterator(fs::path(EVENFLOW_SOURCE_DIR) / "evenflow" / room)) {
      const std::string name = entry.path().filename().string();
      if (entry.path().extension() != ".cc" || name.find("_test.cc") != std::string::npos) continue;
      for (auto& op : declared(text_of(entry.path()))) sources.insert(op);
    }
  for (auto* op : all_ops()) registered.insert(op->name);
  EXPECT_EQ(sources, registered);
  EXPECT_EQ(registered.size(), std::set<std::string>(registered.begin(), registered.end()).size())
      << "two operations of one name";
}
TEST(Registry, every_sheet_is_complete) {
  for (auto* op : all_ops())
    for (auto& complaint : checks::sheet(*op)) ADD_FAILURE() << complaint;
}
TEST(Registry, every_kernel_belongs_to_an_operation) {
  for (auto* e = KernelEntry::head(); e; e = e->next) EXPECT_NO_THROW(find_op(e->op)) << e->name;
}
TEST(Registry, an_unknown_name_is_refused_with_the_nearest) {
  const std::string name = all_ops().front()->name;
  EXPECT_EQ(&find_op(name), all_ops().front());
  try {
    find_op(name + "x");
    FAIL() << "accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::NotFound);
    EXPECT_THAT(e.what(), HasSubstr("\"" + name + "x\" is not known; the nearest is \"" + name));
  }
  EXPECT_THROW(find_op(""), Error);
  EXPECT_THROW(find_op(std::string(100000, 'x')), Error);
}

}  // namespace
}  // namespace evenflow
