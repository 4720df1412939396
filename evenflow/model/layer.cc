// SPDX-License-Identifier: Apache-2.0
#include "evenflow/model/layer.h"

#include <map>
#include <mutex>
#include <random>

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
void check_policy(std::string_view what, std::string_view policy) {
  if (policy != "float32" && policy != "float64" && policy != "mixed_bfloat16" &&
      policy != "mixed_float16")
    fail({what, ": dtype policy is \"", policy.substr(0, 80),
          "\", expected float32, float64, mixed_bfloat16 or mixed_float16"});
}
void set_dtype_policy(std::string policy) {
  check_policy("set_dtype_policy", policy);
  std::lock_guard l(globals().mutex);
  globals().policy = std::move(policy);
}
const std::string& dtype_policy() { return globals().policy; }

std::string snake_case(std::string_view name) {
  auto upper = [](char c) { return c >= 'A' && c <= 'Z'; };
  auto lower = [](char c) { return c >= 'a' && c <= 'z'; };
  std::string s;
  for (size_t i = 0; i < name.size(); ++i) {
    const bool word = i + 1 < name.size() && lower(name[i + 1]);
    if (i && upper(name[i]) && (word || lower(name[i - 1]))) s += '_';
    s += upper(name[i]) ? char(name[i] - 'A' + 'a') : name[i];
  }
  return s;
}
std::string automatic_name(std::string_view class_name) {
  const std::string base = snake_case(class_name);
  std::lock_guard l(globals().mutex);
  const int64_t n = globals().names[base]++;
  return n ? base + "_" + std::to_string(n) : base;
}

void check_name(std::string_view what, std::string_view name) {
  bool good = !name.empty() && name.size() <= 500;
  for (size_t i = 0; good && i < name.size();) {  // UTF-8, RFC 3629
    const auto c = static_cast<unsigned char>(name[i]);
    const size_t n = c < 0x80                ? 1
                     : c >= 0xc2 && c < 0xe0 ? 2
                     : c >= 0xe0 && c < 0xf0 ? 3
                     : c >= 0xf0 && c < 0xf5 ? 4
                                             : 0;
    good = n && i + n <= name.size() && c && c != '/';
    for (size_t k = 1; good && k < n; ++k)
      good = (static_cast<unsigned char>(name[i + k]) & 0xc0) == 0x80;
    if (good && n > 2) {  // no overlong forms, no surrogates, nothing above U+10FFFF
      const auto d = static_cast<unsigned char>(name[i + 1]);
      good = !(c == 0xe0 && d < 0xa0) && !(c == 0xed && d > 0x9f) && !(c == 0xf0 && d < 0x90) &&
             !(c == 0xf4 && d > 0x8f);
    }
    i += n;
  }
  if (!good)
    fail({what, ": the name has ", name.size(),
          " bytes, expected 1 to 500 of UTF-8 without a slash or a zero"});
}

// ---- registry ----
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

// ---- state ----
DType LayerImpl::compute_dtype() const {
  return dtype == "mixed_bfloat16"  ? DType::bf16
         : dtype == "mixed_float16" ? DType::f16
         : dtype == "float64"       ? DType::f64
                                    : DType::f32;
}
DType LayerImpl::variable_dtype() const { return dtype == "float64" ? DType::f64 : DType::f32; }
void LayerImpl::refuse(std::string_view what, const Dims& found, std::string_view expected) const {
  fail({class_name(), " \"", name, "\": ", what, " is ", str_dims(found), ", expected ", expected});
}
thread_local BuildLimit* BuildLimit::current = nullptr;
BuildLimit::BuildLimit(int64_t elements) : left_(elements) { current = this; }
BuildLimit::~BuildLimit() { current = nullptr; }

Variable LayerImpl::add_weight(const std::string& weight_name, const Shape& shape,
                               const Initializer& init, bool weight_trainable,
                               Regularizer regularizer, const Constraint& constraint,
                               std::optional<DType> weight_dtype) {
  try {
    constraint.check(shape.rank());
  } catch (const Error& e) {
    fail(e.code(), {class_name(), " \"", name, "\": ", weight_name, ": ", e.what()});
  }
  const DType type = weight_dtype.value_or(variable_dtype());
  Tensor value;
  if (BuildLimit* limit = BuildLimit::current) {
    int64_t& left = limit->left_;
    if (shape.count() > left)
      fail({class_name(), " \"", name, "\": ", weight_name, " has the shape ", str(shape),
            ", expected at most the ", left, " numbers for it in the file"});
    left -= shape.count();
    value = zeros(shape, type);
  } else {
    const auto w = Philox{seed}(0x776569676874, weights.size());
    value = cast(tensor(init(shape, uint64_t(w[0]) << 32 | w[1]), shape), type);
  }
  weights.push_back({weight_name, Variable(value, {.name = name + "/" + weight_name}),
                     weight_trainable, regularizer, constraint});
  return weights.back().variable;
}
void LayerImpl::ensure_built(const std::vector<Dims>& inputs) {
  if (inputs.size() != 1 && !takes_many_inputs())
    fail({class_name(), " \"", name, "\": ", inputs.size(), " inputs were given, expected 1"});
  if (built)
    for (size_t i = 0; i < inputs.size() && i < input_dims.size(); ++i)
      if (inputs[i].size() != input_dims[i].size())
        refuse(inputs.size() > 1 ? concat({"input ", i}) : "input", inputs[i],
               "the rank of " + str_dims(input_dims[i]) + ", for which it was built");
  check();
  output_dims(inputs);
  if (built) return;
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

// ---- handles ----
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
  check_name(impl_->class_name(), n);
  impl_->name = std::move(n);
  return *this;
}
bool Layer::trainable() const { return impl_ && impl_->trainable.get(); }
void Layer::set_trainable(bool t) {
  if (!impl_) fail({"layer: it is empty"});
  impl_->set_trainable(t);
}
const std::vector<Weight>& Layer::weights() const {
  if (!impl_) fail({"layer: it is empty"});
  return impl_->weights;
}

}  // namespace evenflow
