// SPDX-License-Identifier: Apache-2.0
#include "evenflow/model/layer.h"

#include <cctype>
#include <map>
#include <mutex>
#include <random>
#include <regex>

#include "evenflow/core/random.h"
#include "evenflow/graph/op.h"
#include "evenflow/ops/elementwise.h"

namespace evenflow {
namespace {
struct Globals {
  std::mutex mutex;
  std::map<std::string, int64_t> names;
  uint64_t seed = 0, counter = 0;
  bool seeded = false;
  std::string policy = "float32";
};
Globals& globals() {
  static Globals g;
  return g;
}
}  // namespace

void set_random_seed(uint64_t seed) {
  std::lock_guard l(globals().mutex);
  globals().seed = seed, globals().counter = 0, globals().seeded = true;
}
uint64_t next_seed() {
  Globals& g = globals();
  std::lock_guard l(g.mutex);
  if (!g.seeded)
    g.seed = (uint64_t(std::random_device{}()) << 32) | std::random_device{}(), g.seeded = true;
  const auto w = Philox{g.seed}(0x6c61796572, g.counter++);
  return uint64_t(w[0]) << 32 | w[1];
}
void set_dtype_policy(std::string policy) {
  if (policy != "float32" && policy != "float64" && policy != "mixed_bfloat16" &&
      policy != "mixed_float16")
    fail({"dtype policy is \"", policy,
          "\", expected float32, float64, mixed_bfloat16 or mixed_float16"});
  std::lock_guard l(globals().mutex);
  globals().policy = std::move(policy);
}
const std::string& dtype_policy() { return globals().policy; }

std::string snake_case(std::string_view name) {
  static const std::regex word("(.)([A-Z][a-z]+)"), hump("([a-z])([A-Z])");
  std::string s =
      std::regex_replace(std::regex_replace(std::string(name), word, "$1_$2"), hump, "$1_$2");
  for (char& c : s) c = char(std::tolower(c));
  return s;
}
std::string automatic_name(std::string_view class_name) {
  const std::string base = snake_case(class_name);
  std::lock_guard l(globals().mutex);
  const int64_t n = globals().names[base]++;
  return n ? base + "_" + std::to_string(n) : base;
}

// ---- registry
// -----------------------------------------------------------------------------------------------------------
const LayerEntry*& LayerEntry::head() {
  static constinit const LayerEntry* h = nullptr;
  return h;
}
LayerEntry::LayerEntry(const char* n, std::shared_ptr<LayerImpl> (*m)())
    : name(n), make(m), next(head()) {
  head() = this;
}
std::shared_ptr<LayerImpl> make_layer(std::string_view class_name) {
  for (auto* e = LayerEntry::head(); e; e = e->next)
    if (class_name == e->name) return e->make();
  fail(Code::Unimplemented, {"layer class \"", class_name.substr(0, 80), "\" is not known here"});
}

// ---- state
// -----------------------------------------------------------------------------------------------------------------
DType LayerImpl::compute_dtype() const {
  return dtype == "mixed_bfloat16"  ? DType::bf16
         : dtype == "mixed_float16" ? DType::f16
         : dtype == "float64"       ? DType::f64
                                    : DType::f32;
}
DType LayerImpl::variable_dtype() const { return dtype == "float64" ? DType::f64 : DType::f32; }
void LayerImpl::set_mode(std::string_view mode) {
  if (!mode.empty()) fail({class_name(), " \"", name, "\": mode is \"", mode, "\", expected none"});
}
void LayerImpl::refuse(std::string_view what, const Dims& found, std::string_view expected) const {
  fail({class_name(), " \"", name, "\": ", what, " is ", str_dims(found), ", expected ", expected});
}
Variable LayerImpl::add_weight(const std::string& weight_name, const Shape& shape,
                               const Initializer& init, bool weight_trainable,
                               Regularizer regularizer) {
  const auto w = Philox{seed}(0x776569676874, weights.size());
  Tensor value = tensor(init(shape, uint64_t(w[0]) << 32 | w[1]), shape);
  if (variable_dtype() != DType::f32) value = cast(value, variable_dtype());
  weights.push_back({weight_name, Variable(value, {.name = name + "/" + weight_name}),
                     weight_trainable, regularizer});
  return weights.back().variable;
}
void LayerImpl::ensure_built(const std::vector<Dims>& inputs) {
  if (built) {
    for (size_t i = 0; i < inputs.size() && i < input_dims.size(); ++i)
      if (inputs[i].size() != input_dims[i].size())
        refuse(inputs.size() > 1 ? concat({"input ", i}) : "input", inputs[i],
               "the rank of " + str_dims(input_dims[i]) + ", for which it was built");
    output_dims(inputs);
    return;
  }
  if (inputs.size() != 1 && !takes_many_inputs())
    fail({class_name(), " \"", name, "\": ", inputs.size(), " inputs were given, expected 1"});
  output_dims(inputs);
  build(inputs);
  input_dims = inputs;
  built = true;
}
Tensor LayerImpl::operator()(const Tensors& given, const CallContext& context) {
  NameScope scope(name);
  Tensors inputs = given;
  for (Tensor& x : inputs)
    if (is_floating(x.dtype()) && x.dtype() != compute_dtype()) x = cast(x, compute_dtype());
  return call(inputs, context);
}

// ---- handles
// --------------------------------------------------------------------------------------------------------------
SymbolicTensor Layer::operator()(const std::vector<SymbolicTensor>& xs) const {
  if (!impl_) fail({"layer: it is empty"});
  std::vector<Dims> dims;
  for (auto& x : xs) dims.push_back(x.dims);
  impl_->ensure_built(dims);
  return {std::make_shared<SymbolicTensor::Source>(SymbolicTensor::Source{impl_, xs}),
          impl_->output_dims(dims)};
}
Tensor Layer::operator()(const Tensors& xs, CallContext context) const {
  if (!impl_) fail({"layer: it is empty"});
  std::vector<Dims> dims;
  for (auto& x : xs) {
    dims.emplace_back(x.sig().shape.begin(), x.sig().shape.end());
    if (!dims.back().empty()) dims.back()[0] = -1;
  }
  impl_->ensure_built(dims);
  return (*impl_)(xs, context);
}
const std::string& Layer::name() const {
  if (!impl_) fail({"layer: it is empty"});
  return impl_->name;
}
Layer& Layer::set_name(std::string n) {
  if (!impl_) fail({"layer: it is empty"});
  impl_->name = std::move(n);
  return *this;
}
bool Layer::trainable() const { return impl_ && impl_->trainable.get(); }
void Layer::set_trainable(bool t) {
  if (!impl_) fail({"layer: it is empty"});
  impl_->trainable.set(t);
}
const std::vector<Weight>& Layer::weights() const {
  if (!impl_) fail({"layer: it is empty"});
  return impl_->weights;
}

}  // namespace evenflow
