// SPDX-License-Identifier: Apache-2.0
// summary() against Keras's (tests/reference/texts.json). Ours says the mode of a batch norm too.
#include <gmock/gmock.h>

#include "evenflow/model/batch_normalization.h"
#include "evenflow/model/layers.h"
#include "tests/keras_nets.h"

namespace evenflow {
namespace {
using nlohmann::json;

std::string without(std::string text, const std::string& what) {
  for (size_t at; (at = text.find(what)) != std::string::npos;) text.erase(at, what.size());
  return text;
}
// Rows as words, whatever the widths of the columns: broken cells are put together.
std::vector<std::vector<std::string>> table(const std::string& text) {
  std::vector<std::vector<std::string>> rows;
  std::vector<std::string> row;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("│", 0) != 0 && line.rfind("┃", 0) != 0) {
      if (!row.empty()) rows.push_back(row), row.clear();
      if (line.rfind("┏", 0) && line.rfind("┡", 0) && line.rfind("├", 0) && line.rfind("└", 0))
        rows.push_back({line});
      continue;
    }
    size_t cell = 0;
    for (size_t at = 3; at < line.size(); ++cell) {
      size_t end = std::min(line.find("│", at), line.find("┃", at));
      if (end == std::string::npos) break;
      std::istringstream words(line.substr(at, end - at));
      if (row.size() <= cell) row.emplace_back();
      for (std::string w; words >> w;) row[cell] += (row[cell].empty() ? "" : " ") + w;
      at = end + 3;
    }
  }
  return rows;
}

TEST(Summary, IsKerass) {
  int n = 0;
  for (const json& c : reference::document("texts.json")["summaries"]) {
    SCOPED_TRACE(c["model"].dump());
    const std::string want = c["text"];
    const Model m = c["model"].is_null()
                        ? Sequential({Dense({.units = 3, .name = "dense"})}, "sequential")
                        : load_model(reference::net_file(c["model"]));
    const std::string got = m.summary();
    EXPECT_EQ(table(without(got, " [train/plain]")), table(want));
    if (c["exact"].get<bool>() && got.find("[train/") == std::string::npos) {
      EXPECT_EQ(got, want);
    }
    ++n;
  }
  EXPECT_EQ(n, 12);
}

TEST(Summary, SaysTheModeOfEachBatchNorm) {
  const Sequential m({to_layer(Input({2})), BatchNormalization({.name = "ours"}),
                      BatchNormalization({.name = "theirs"})});
  auto& theirs = static_cast<BatchNormalizationImpl&>(*m.layers()[1].impl());
  theirs.adopt_keras_weights(), theirs.set_mode(BatchNormMode::frozen_statistics);
  const auto rows = table(m.summary());
  EXPECT_EQ(rows[2][0], "ours (BatchNormalization) [train/exponential]");
  EXPECT_EQ(rows[3][0], "theirs (BatchNormalization) [frozen_statistics/plain]");
}

TEST(Summary, LongNamesWidenTheTable) {
  const Sequential m({to_layer(Input({2})), Dense({.units = 1, .name = std::string(60, 'x')}),
                      Dense({.units = 1, .name = "zwölf"})});
  std::istringstream in(m.summary());
  std::string line;
  std::getline(in, line);
  size_t width = 0;
  while (std::getline(in, line) && line[0] != ' ') {
    size_t columns = 0;
    for (char c : line) columns += (c & 0xc0) != 0x80;
    if (width) {
      EXPECT_EQ(columns, width) << line;
    }
    width = columns;
  }
  EXPECT_GT(width, 60u);
}

}  // namespace
}  // namespace evenflow
