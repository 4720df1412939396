// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "cli/commands.h"
#include "evenflow/format/file.h"
#include "evenflow/graph/picture.h"
#include "evenflow/graph/saved_graph.h"
#include "evenflow/model/export.h"
#include "evenflow/train/memory.h"

namespace evenflow::cli {
namespace {

std::string number(double v) {
  char text[40];
  std::snprintf(text, sizeof text, "%.6g", v);
  return text;
}

void print_batch_norms(const Model& model) {
  std::vector<std::vector<std::string>> rows{
      {"Batch normalization", "mode", "averages", "momentum", "epsilon", "updates", "trainable"}};
  for (auto& l : model.layers())
    if (auto* b = dynamic_cast<const BatchNormalizationImpl*>(l.impl().get()))
      rows.push_back({l.name(), std::string(name_of(b->mode())),
                      std::string(name_of(b->averages())), number(b->config.momentum),
                      number(b->config.epsilon),
                      b->built ? number(b->update_count.read().item()) : "-",
                      l.trainable() ? "yes" : "no (uses its averages)"});
  if (rows.size() == 1) return;
  std::printf("\n");
  print_table(rows);
}

// Each choice of what the backward pass keeps.
void print_memory(const Model& model, int64_t batch) {
  std::vector<std::vector<std::string>> rows{
      {"A training step, batch " + std::to_string(batch), "arena MB", "ms"}};
  const std::vector<MemoryUse> uses = training_memory(model, batch);
  auto of = [&](Activations a) {
    return *std::find_if(uses.begin(), uses.end(), [&](auto& u) { return u.choice == a; });
  };
  const MemoryUse least = *std::min_element(
      uses.begin(), uses.end(), [](auto& a, auto& b) { return a.arena_bytes < b.arena_bytes; });
  for (auto& u : uses) {
    std::string name(str(u.choice));
    if (u.choice == Activations::automatic) {
      const bool less = u.arena_bytes < of(Activations::keep).arena_bytes;
      name += less ? " (the default; here it makes outputs again in parts of the batch)"
                   : " (the default; here it keeps all)";
    }
    if (u.choice == least.choice) name += " <- least";
    rows.push_back({name, number(double(u.arena_bytes) / 1e6), number(u.milliseconds)});
  }
  std::printf("\n");
  print_table(rows);
}

void print_saved_graph(const SavedGraph& g) {
  for (auto& [key, value] : g.metadata()) std::printf(" %s: %s\n", key.c_str(), value.c_str());
  for (auto& s : g.signatures()) {
    std::printf(" %s, %zu operations%s\n", s.name.c_str(), g.graph(s.name).calls.size(),
                s.fixed_extents ? ", for these extents only"
                                : ", traced for these extents, others may come");
    for (auto& x : s.inputs) std::printf("   in  %s %s\n", x.name.c_str(), str(x.sig).c_str());
    for (auto& x : s.outputs) std::printf("   out %s %s\n", x.name.c_str(), str(x.sig).c_str());
  }
  std::printf(" weights: %lld bytes\n", static_cast<long long>(g.weight_bytes()));
}

}  // namespace

void add_inspect(CLI::App& app) {
  struct Options {
    std::string model, graph;
    bool memory = false;
    int64_t batch = 32;
  };
  auto o = std::make_shared<Options>();
  auto* c = app.add_subcommand("inspect", "Shows what a model or a saved graph is made of");
  c->add_option("model", o->model, "what to look at")
      ->required()
      ->type_name("MODEL.keras|GRAPH.efg");
  c->add_option("--graph", o->graph, "draws the operations of its inference into this page")
      ->type_name("OUT.html");
  auto* memory = c->add_flag("--memory", o->memory,
                             "what a training step needs, by what its backward pass keeps");
  c->add_option("--batch", o->batch, "samples of that step")
      ->needs(memory)
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->type_name("N");
  c->callback([o] {
    if (!o->graph.empty()) check_writable(o->graph);
    std::vector<Picture> pictures;
    if (std::string_view(o->model).ends_with(".efg")) {
      const SavedGraph g = load_graph(format::read_file(o->model));
      print_saved_graph(g);
      for (auto& s : g.signatures()) pictures.push_back({s.name, "", &g.graph(s.name)});
      if (!o->graph.empty())
        format::write_file_atomically(o->graph, pictures_html(pictures, o->model));
      return;
    }
    const Model model = load_model(o->model);
    std::printf("%s", model.summary().c_str());
    print_batch_norms(model);
    if (o->memory) print_memory(model, o->batch);
    if (o->graph.empty()) return;
    const SavedFunction f = inference_function(model);
    const std::string what = "inference, drawn for a batch of " +
                             std::to_string(f.graph.values[size_t(f.graph.leaves[0])].shape[0]);
    format::write_file_atomically(o->graph, pictures_html({{what, "", &f.graph}}, model.name()));
  });
}

}  // namespace evenflow::cli
