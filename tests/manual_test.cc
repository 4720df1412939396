// SPDX-License-Identifier: Apache-2.0
// docs/ops is what the declarations say. `manual_test --write` (make docs) writes it.
#include "evenflow/graph/manual.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

namespace evenflow {
namespace {
namespace fs = std::filesystem;
using testing::HasSubstr;

const fs::path kFolder = fs::path(EVENFLOW_SOURCE_DIR) / "docs" / "ops";

std::string text_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(Manual, is_current) {
  const auto pages = manual_pages();
  std::set<std::string> stale;
  for (auto& [name, text] : pages)
    if (text_of(kFolder / name) != text) stale.insert(name);
  for (auto& entry : fs::directory_iterator(kFolder))
    if (!pages.count(entry.path().filename().string()))
      stale.insert(entry.path().filename().string());
  EXPECT_EQ(stale, std::set<std::string>{}) << "run `make docs`";
}

struct SampleAttrs {
  std::vector<int64_t> strides = {1, 1};
  std::string padding = "valid";
  static void fields(auto& self, auto&& field) {
    field("strides", self.strides, "steps | of the window");
    field("padding", self.padding, "\"valid\" or \"same\"");
  }
};
const OpDef& sample() {
  static const OpDef op = Op<SampleAttrs>{.summary = "A sample",
                                          .inputs = {{"x", floating, "[n, h, w, c]"},
                                                     {"kernel", floating, "[h, w, c, f]"}},
                                          .outputs = {{"y", "like x"}},
                                          .shape = same_as_first,
                                          .no_gradient = "it is not real",
                                          .traits = {.pointwise = true},
                                          .cases = {{"usual", {{2, 3}, {3}}, {.strides = {2, 2}}},
                                                    {"wrong", {{2}, {3}}, {}, {.fails = "never"}}}}
                              .define("sample");
  return op;
}
TEST(Manual, a_page_tells_what_the_sheet_tells) {
  EXPECT_EQ(python_signature(sample()),
            "sample(x, kernel, *, strides: ints = [1, 1], padding: string = \"valid\")");
  const std::string page = manual_page(sample());
  for (auto* text :
       {"A sample.", "| x | any float (T) | [n, h, w, c] |",
        "| strides | ints | [1, 1] | steps \\| of the window |", "- no gradient: it is not real",
        "| usual | `sample(f32[2,3], f32[3], strides=[2, 2])` | f32[2,3] |", "refused: never",
        "- since version 1"})
    EXPECT_THAT(page, HasSubstr(text));
}

}  // namespace
}  // namespace evenflow

int main(int argc, char** argv) {
  if (argc == 2 && std::string(argv[1]) == "--write") {
    using namespace evenflow;
    fs::create_directories(kFolder);
    const auto pages = manual_pages();
    for (auto& entry : fs::directory_iterator(kFolder))
      if (!pages.count(entry.path().filename().string())) fs::remove(entry.path());
    for (auto& [name, text] : pages)
      if (text_of(kFolder / name) != text) std::ofstream(kFolder / name, std::ios::binary) << text;
    std::printf("wrote %zu pages to docs/ops\n", pages.size());
    return 0;
  }
  testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
