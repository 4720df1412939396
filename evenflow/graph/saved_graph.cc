// SPDX-License-Identifier: Apache-2.0
// Writing a saved graph, and running one. saved_graph_reader.cc reads.
#include "evenflow/graph/saved_graph.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <unordered_map>

#include "evenflow/core/checksum.h"
#include "evenflow/graph/saved_graph_format.h"
#include "evenflow/graph/sub_graph.h"

namespace evenflow {

using nlohmann::json;

SavedFunction saved_function(std::string name, const std::vector<NamedSig>& inputs,
                             std::vector<std::string> outputs, const Function::Body& body) {
  Sigs sigs;
  SavedFunction f;
  for (auto& in : inputs) sigs.push_back(in.sig), f.inputs.push_back(in.name);
  Program p = trace(sigs, body);
  if (p.outputs != outputs.size())
    fail({"saved_function: \"", name, "\" returns ", p.outputs, " tensors, expected ",
          outputs.size(), " (the names of its outputs)"});
  f.name = std::move(name), f.outputs = std::move(outputs), f.graph = std::move(p.graph);
  f.fixed_extents = p.shape_seen;
  std::vector<int> leaves(inputs.size(), -1);
  for (size_t i = 0; i < p.leaves.size(); ++i) {
    const int id = f.graph.leaves[i];
    if (p.leaves[i].arg >= 0) {
      leaves[size_t(p.leaves[i].arg)] = id;
      continue;
    }
    std::shared_lock snapshot(state_mutex());
    f.graph.constants.push_back({id, p.leaves[i].var->value});  // held: no commit writes over it
  }
  for (size_t i = 0; i < leaves.size(); ++i)
    if (leaves[i] < 0) leaves[i] = f.graph.add_value(sigs[i]);  // an argument that nobody reads
  f.graph.leaves = leaves;
  return f;
}

namespace {

json number(double v) {
  if (std::isfinite(v)) return v;
  return std::isnan(v) ? "nan" : v > 0 ? "inf" : "-inf";
}
json of_shape(const Shape& s) { return std::vector<int64_t>(s.begin(), s.end()); }
json of_sig(const Sig& s) {
  json r = json::array({std::string(str(s.dtype))});
  for (int64_t d : s.shape) r.push_back(d);
  return r;
}

struct Writer {
  std::vector<std::pair<Sig, BufferPtr>> constants;
  std::unordered_map<const Buffer*, std::vector<size_t>> known;
  std::map<std::string, int> operations;

  size_t constant(const Sig& sig, const BufferPtr& buffer) {
    auto& same = known[buffer.get()];
    for (size_t i : same)
      if (constants[i].first == sig) return i;
    same.push_back(constants.size());
    constants.push_back({sig, buffer});
    return same.back();
  }
  json value(const AttrValue& v) {
    return std::visit(
        [&](const auto& x) -> json {
          using T = std::decay_t<decltype(x)>;
          if constexpr (std::is_same_v<T, double>)
            return number(x);
          else if constexpr (std::is_same_v<T, DType>)
            return std::string(str(x));
          else if constexpr (std::is_same_v<T, Shape>)
            return of_shape(x);
          else if constexpr (std::is_same_v<T, SubGraphPtr>)
            return x ? graph(x->graph) : json();
          else if constexpr (std::is_same_v<T, std::vector<double>>) {
            json r = json::array();
            for (double y : x) r.push_back(number(y));
            return r;
          } else
            return x;
        },
        v);
  }
  json graph(const Graph& g) {
    json r = {{"values", json::array()},
              {"constants", json::array()},
              {"calls", json::array()},
              {"leaves", g.leaves},
              {"results", g.results}};
    for (auto& s : g.values) r["values"].push_back(of_sig(s));
    for (auto& [id, buffer] : g.constants)
      r["constants"].push_back({id, constant(g.values[size_t(id)], buffer)});
    for (auto& c : g.calls) {
      operations[c.op->name] = c.op->since;
      json call = {{"op", c.op->name}, {"in", c.in}, {"out", c.out}};
      const auto attrs = c.op->get_attrs(c.attrs.get());
      for (size_t i = 0; i < attrs.size(); ++i)
        call["attrs"][c.op->attrs[i].name] = value(attrs[i]);
      if (c.name) call["name"] = *c.name;
      r["calls"].push_back(std::move(call));
    }
    return r;
  }
};

int64_t aligned(int64_t n) {
  return checked_mul(checked_add(n, efg::kAlign - 1) / efg::kAlign, efg::kAlign);
}

}  // namespace

void write_saved_graph(const std::vector<SavedFunction>& functions,
                       const std::map<std::string, std::string>& metadata,
                       FunctionRef<void(std::string_view)> append) {
  static_assert(std::endian::native == std::endian::little,
                "numbers are stored as they lie in memory");
  if (functions.empty()) fail({"write_saved_graph: functions is empty, expected at least one"});
  Writer w;
  json header = {{"format", efg::kFormat}, {"metadata", metadata}, {"functions", json::array()}};
  std::set<std::string> names;
  for (auto& f : functions) {
    if (f.name.empty()) fail({"write_saved_graph: a function has no name"});
    if (!names.insert(f.name).second)
      fail({"write_saved_graph: two functions are named \"", f.name, "\""});
    if (f.inputs.size() != f.graph.leaves.size() || f.outputs.size() != f.graph.results.size())
      fail({"write_saved_graph: \"", f.name, "\" names ", f.inputs.size(), " inputs and ",
            f.outputs.size(), " outputs, expected ", f.graph.leaves.size(), " and ",
            f.graph.results.size()});
    header["functions"].push_back({{"name", f.name},
                                   {"inputs", f.inputs},
                                   {"outputs", f.outputs},
                                   {"fixed_extents", f.fixed_extents},
                                   {"graph", w.graph(f.graph)}});
  }
  header["operations"] = w.operations;
  header["constants"] = json::array();
  int64_t offset = 0;
  for (auto& [sig, buffer] : w.constants) {
    const int64_t bytes = sig.bytes();
    header["constants"].push_back({{"sig", of_sig(sig)},
                                   {"offset", offset},
                                   {"bytes", bytes},
                                   {"crc32c", crc32c(buffer->data(), size_t(bytes))}});
    offset = aligned(checked_add(offset, bytes));
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const json::exception&) {
    fail({"write_saved_graph: a name or a text attribute is not UTF-8"});
  }
  std::string start(efg::kMagic);
  efg::put(start, uint32_t(efg::kFormat));
  efg::put(start, crc32c(text.data(), text.size()));
  efg::put(start, uint64_t(text.size()));
  const std::string zeros(size_t(efg::kAlign), '\0');
  auto pad = [&](int64_t n) { append(std::string_view(zeros).substr(0, size_t(aligned(n) - n))); };
  append(start), append(text), pad(int64_t(start.size() + text.size()));
  for (auto& [sig, buffer] : w.constants) {
    append({static_cast<const char*>(buffer->data()), size_t(sig.bytes())});
    pad(sig.bytes());
  }
}

std::string saved_graph_bytes(const std::vector<SavedFunction>& functions,
                              const std::map<std::string, std::string>& metadata) {
  std::string r;
  write_saved_graph(functions, metadata, [&](std::string_view piece) { r += piece; });
  return r;
}

// ---- running
// ------------------------------------------------------------------------------------------------------------

SavedGraph::Signature efg::Loaded::signature() const {
  SavedGraph::Signature s{function.name, {}, {}, function.fixed_extents};
  const Graph& g = function.graph;
  for (size_t i = 0; i < g.leaves.size(); ++i)
    s.inputs.push_back({function.inputs[i], g.values[size_t(g.leaves[i])]});
  for (size_t i = 0; i < g.results.size(); ++i)
    s.outputs.push_back({function.outputs[i], g.values[size_t(g.results[i])]});
  return s;
}

std::shared_ptr<const Plan> efg::Loaded::plan(const Sigs& sigs, const LoadLimits& limits) {
  Key key;
  for (auto& s : sigs) append(key, s);
  std::lock_guard lock(mutex);
  for (size_t i = 0; i < plans.size(); ++i)
    if (plans[i].first == key) {
      std::rotate(plans.begin(), plans.begin() + long(i), plans.begin() + long(i) + 1);
      return plans[0].second;
    }
  Graph g = function.graph;
  g.respecialise(sigs);
  auto made = std::make_shared<const Plan>(g, std::vector<Role>(g.results.size()));
  int64_t bytes = made->arena_bytes();
  for (size_t i = 0; i < g.results.size(); ++i)
    bytes = checked_add(bytes, made->result_sig(i).bytes());
  if (bytes > limits.run_bytes)
    fail(Code::ResourceExhausted,
         {"a run takes ", bytes, " bytes, expected at most ", limits.run_bytes});
  plans.insert(plans.begin(), {std::move(key), made});
  if (plans.size() > std::max<size_t>(1, limits.max_plans)) plans.pop_back();
  return made;
}

efg::Loaded& SavedGraph::Impl::find(std::string_view name) {
  std::string all;
  for (auto& f : functions) {
    if (f->function.name == name) return *f;
    all += (all.empty() ? "\"" : ", \"") + f->function.name + "\"";
  }
  fail(Code::NotFound, {"the saved graph has no function \"", name, "\"; it has ", all});
}

std::vector<SavedGraph::Signature> SavedGraph::signatures() const {
  std::vector<Signature> r;
  for (auto& f : impl_->functions) r.push_back(f->signature());
  return r;
}
SavedGraph::Signature SavedGraph::signature(std::string_view name) const {
  return impl_->find(name).signature();
}
const std::map<std::string, std::string>& SavedGraph::metadata() const { return impl_->metadata; }
const Graph& SavedGraph::graph(std::string_view name) const {
  return impl_->find(name).function.graph;
}
int64_t SavedGraph::weight_bytes() const { return impl_->weight_bytes; }

Tensors SavedGraph::operator()(std::string_view name, const Tensors& inputs) const {
  efg::Loaded& f = impl_->find(name);
  const Graph& g = f.function.graph;
  if (inputs.size() != g.leaves.size())
    fail({name, ": ", inputs.size(), " inputs were given, expected ", g.leaves.size()});
  Sigs sigs;
  std::vector<Edge> edges;
  bool inlined = false;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Sig& expected = g.values[size_t(g.leaves[i])];
    if (!inputs[i]) fail({name, ": input \"", f.function.inputs[i], "\" is an empty tensor"});
    const Sig& found = inputs[i].sig();
    if (found.dtype != expected.dtype || found.shape.rank() != expected.shape.rank() ||
        (f.function.fixed_extents && found != expected))
      fail({name, ": input \"", f.function.inputs[i], "\" is ", str(found), ", expected ",
            str(expected),
            f.function.fixed_extents ? " (it was traced for these extents only)"
                                     : " or other extents"});
    sigs.push_back(found), edges.push_back(inputs[i].edge());
    inlined |= inputs[i].edge().node->symbolic || inputs[i].edge().node->tracked;
  }
  if (inlined) return instantiate(g, inputs);
  std::vector<BufferPtr> in = evaluate(edges);
  const std::shared_ptr<const Plan> plan = f.plan(sigs, impl_->limits);
  auto run = plan->acquire();
  plan->bind(*run, std::move(in));
  plan->execute(*run, false);
  plan->execute(*run, true);
  Tensors r;
  for (size_t i = 0; i < run->results.size(); ++i)
    r.push_back(tensor(plan->result_sig(i), run->results[i]));
  return r;
}

}  // namespace evenflow
