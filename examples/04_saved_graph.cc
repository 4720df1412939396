// SPDX-License-Identifier: Apache-2.0
// Lesson 4: run a saved graph with the runtime alone, as a program does that only predicts. It
// knows nothing of models and training, and links neither. First make the graph:
//   evenflow export digits.keras digits.efg
//   04_saved_graph digits.efg               a digit drawn below
//   04_saved_graph digits.efg x.npy y.npy   predictions of an array
#include <evenflow/format/file.h>
#include <evenflow/format/npy.h>
#include <evenflow/graph/saved_graph.h>

#include <algorithm>
#include <cstdio>

using namespace evenflow;

namespace {

constexpr const char* kDigit =
    "  ####  "
    "  #  #  "
    "     #  "
    "    ##  "
    "  ##### "
    "    #   "
    "    #   "
    "    #   ";

Tensor drawn() {
  std::vector<float> ink;
  for (const char* c = kDigit; *c; ++c) ink.push_back(*c == '#' ? 1 : 0);
  return tensor(ink, {1, 8, 8, 1});
}

int run(int argc, char** argv) {
  const SavedGraph graph = load_graph(format::read_file(argc > 1 ? argv[1] : "digits.efg"));
  for (auto& s : graph.signatures())
    std::printf("%s: %s %s -> %s %s\n", s.name.c_str(), s.inputs[0].name.c_str(),
                str(s.inputs[0].sig).c_str(), s.outputs[0].name.c_str(),
                str(s.outputs[0].sig).c_str());
  if (argc == 4) {
    const Array x = format::read_npy(argv[2]);
    const Tensor y = graph("predict", {tensor(x.sig, x.data)})[0];  // any size of batch
    format::write_npy(argv[3], {y.sig(), y.buffer()});
    return 0;
  }
  const std::vector<float> p = graph("predict", {drawn()})[0].to_vector();
  const auto best = std::max_element(p.begin(), p.end());
  std::printf("this is a %d (%.1f %%)\n", int(best - p.begin()), 100 * double(*best));
  return 0;
}

}  // namespace

int main(int argc, char** argv) try { return run(argc, argv); } catch (const Error& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 1;
}
