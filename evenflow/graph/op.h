// SPDX-License-Identifier: Apache-2.0
// An operation is declared once, as a data sheet. Argument checks, error texts, hashing, saving,
// the manual page, the tests and the benchmark are derived from it. A kernel is an optional further
// file that may decline, with a reason.
//
//   OP(square, NoAttrs) {
//     return {.summary = "x * x",
//             .inputs = {{"x", numeric, "[...]"}},
//             .outputs = {{"y", "like x"}},
//             .shape = same_as_first,
//             .reference = ..., or .loop = ...,
//             .gradient = ...,
//             .cases = {{"vector", {{3}}}, {"matrix", {{4, 5}}}}};
//   }
#pragma once
#include <functional>
#include <initializer_list>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "evenflow/core/accelerator.h"
#include "evenflow/graph/attrs.h"
#include "evenflow/graph/tensor.h"

namespace evenflow {

// ---- element types of an argument
// ---------------------------------------------------------------------------------------
/// A set of element types. Arguments with the same letter must have the same type; 0 is no letter.
struct Types {
  uint32_t mask = 0;
  char letter = 'T';
  constexpr bool has(DType d) const { return mask >> int(d) & 1; }
  constexpr Types as(char l) const { return {mask, l}; }
  constexpr Types operator|(Types o) const { return {mask | o.mask, letter}; }
};
constexpr Types only(DType d, char letter = 0) { return {1u << int(d), letter}; }
inline constexpr Types floating{0b00001111}, integer{0b01110000}, numeric{0b01111111},
    any_type{0b11111111};
inline constexpr Types f32_only = only(DType::f32), i64_only = only(DType::i64),
                       boolean_only = only(DType::boolean);
inline constexpr Types index_type{0b00110000, 'I'};  ///< i32 or i64

struct Arg {
  std::string_view name;
  Types types;
  std::string_view doc;  ///< shape in brackets, then what it is
};
struct Result {
  std::string_view name, doc;
};

// ---- facts that passes and planners read
// ------------------------------------------------------------------------------
struct Traits {
  bool pointwise = false;   ///< out[i] needs in[i] only (others broadcast) and cannot fail: may run
                            ///< in place, and late
  bool alias = false;       ///< no work when output 0 has the signature of input 0
  bool reshape = false;     ///< output 0 has the bytes of input 0, in another shape: never any work
  uint32_t shape_only = 0;  ///< bit i: input i is read for its shape: no value, no lifetime
  bool cut = false;         ///< differentiation stops here
  bool variadic = false;    ///< the last declared input may repeat (once or more)
  bool promotes = false;    ///< inputs of letter T are cast to one type (promote())
  bool keeps_float32 = false;  ///< mixed precision leaves its statistics and sums in f32
  bool random = false;         ///< never merged with a twin, never folded
  uint32_t optional = 0;       ///< bit i: trailing input i may be absent
};

// ---- memory as a kernel sees it
// -------------------------------------------------------------------------------------------
struct View {
  const Sig* sig = nullptr;
  void* data = nullptr;
  template <class T = float>
  T* as() const {
    return static_cast<T*>(data);
  }
  const Shape& shape() const { return sig->shape; }
  DType dtype() const { return sig->dtype; }
  int64_t count() const { return sig->shape.count(); }
};
/// One call of a kernel: inputs (row-major, contiguous), outputs to fill, scratch memory as asked
/// for.
struct Call {
  std::span<const View> in, out;
  void* scratch = nullptr;
  bool accumulate = false;    ///< add to the outputs; only kernels that say so are asked for it
  Accelerator* on = nullptr;  ///< whose memory this is; null: the host's
};
/// What a kernel is chosen by; nothing else may matter.
struct CallSig {
  std::span<const Sig> in, out;
  Accelerator* on = nullptr;  ///< where it is to run; null: the host
};
/// A kernel made ready for one signature. `run` may be called by several threads at once, each with
/// its own scratch.
struct Prepared {
  std::function<void(const Call&)> run;
  int64_t scratch_bytes = 0;
};

// ---- test cases, from which tests and benchmarks are derived
// -----------------------------------------------------------
struct CaseInput {
  Shape shape;
  enum class Fill : uint8_t { normal, uniform, integers, values } fill = Fill::normal;
  double a = 0, b = 1;  ///< mean and deviation / low and high / low and high (high excluded)
  std::vector<double> values = {};
  std::optional<DType> dtype = {};  ///< fixed, else each type of the argument's letter
  CaseInput(std::initializer_list<int64_t> dims) : shape(dims) {}
  CaseInput(Shape s, Fill f, double a, double b, std::vector<double> v = {})
      : shape(s), fill(f), a(a), b(b), values(std::move(v)) {}
  CaseInput of(DType d) const {
    CaseInput c = *this;
    c.dtype = d;
    return c;
  }
};
inline CaseInput normal(Shape s, double mean = 0, double deviation = 1) {
  return {s, CaseInput::Fill::normal, mean, deviation};
}
inline CaseInput uniform(Shape s, double low, double high) {
  return {s, CaseInput::Fill::uniform, low, high};
}
inline CaseInput integers(Shape s, int64_t low, int64_t high) {
  return {s, CaseInput::Fill::integers, double(low), double(high)};
}
inline CaseInput values(Shape s, std::vector<double> v) {
  return {s, CaseInput::Fill::values, 0, 0, std::move(v)};
}

/// What a case is for, besides being right.
struct CaseFlags {
  bool bench = false;           ///< also a benchmark
  bool no_gradient = false;     ///< not differentiable at these values (kinks, ties)
  std::string_view fails = {};  ///< the call is refused, and the message holds this
};

/// An estimate of the work, for benchmarks and layout choices.
struct Cost {
  double bytes = 0, flops = 0;
};

/// A call over a batch as calls over parts of it, cut along the leading axis.
struct BatchRule {
  enum Join : uint8_t { rows, sum, statistics };
  uint64_t whole = 0;  ///< bit i: input i is given to every part as it is; the others are cut
  Join join = rows;  ///< outputs of the parts: one behind the other; added up; (n, mean, M2) merged
                     ///< by Chan's formula
  AttrPtr part =
      {};  ///< attributes of the call on a part, where they differ: outputs may be of a wider type
};

// ---- the sheet as the rest of the system sees it: attributes erased
// ---------------------------------------------------
struct OpDef;
struct KernelDef {
  std::string name;  ///< "welford"
  int priority = 0;  ///< higher is tried first
  std::function<std::string(const CallSig&, const void*)>
      declines;  ///< empty text: accepts; empty function: always
  std::function<Prepared(const CallSig&, const void*)> prepare;
  bool accumulates = false;  ///< honours Call::accumulate
  bool costly = false;       ///< preparing takes long: kept for calls outside plans
};
struct OpDef {
  struct Case {
    std::string name;
    std::vector<CaseInput> in;
    AttrPtr attrs;
    CaseFlags flags;
  };
  std::string name;
  std::string_view summary, doc;
  std::vector<Arg> inputs;
  std::vector<Result> outputs;
  std::vector<AttrInfo> attrs;
  Traits traits;
  int since = 1;
  std::string_view no_gradient;  ///< why there is none
  std::function<Sigs(std::span<const Sig>, const void*)> shape;
  std::function<Tensors(const Tensors&, const void*)> reference;
  std::function<Tensors(const Tensors& in, const Tensors& out, const Tensors& grad, const void*)>
      gradient;
  std::function<void(const Call&, const void*)> loop;
  std::function<Cost(const CallSig&, const void*)> cost;
  /// How the call is cut along the batch, if it can be.
  std::function<std::optional<BatchRule>(const CallSig&, const void*)> batch;
  std::vector<Case> cases;
  AttrPtr defaults;
  std::function<std::vector<AttrValue>(const void*)> get_attrs;  ///< in the order of `attrs`
  std::function<AttrPtr(std::span<const AttrValue>)>
      make_attrs;  ///< the inverse; throws on a wrong type
  /// Kernels for the host, or for accelerators, in the order in which they are tried.
  const std::vector<KernelDef>& kernels(bool gpu = false) const;
};

// ---- what an author writes: attributes typed
// --------------------------------------------------------------------------------
template <class A>
struct Op {
  std::string_view summary, doc = {};
  std::vector<Arg> inputs;
  std::vector<Result> outputs;
  /// Signatures of the outputs; throws with the mismatch. Element types were checked before. Never
  /// called with too few inputs.
  Sigs (*shape)(std::span<const Sig> in, const A&) = nullptr;
  /// A composition of operations: definition, fallback on every device, oracle of the tests.
  Tensors (*reference)(const Tensors& in, const A&) = nullptr;
  /// Or, for a primitive, a plain loop.
  void (*loop)(const Call&, const A&) = nullptr;
  /// grad[i] may be empty (zero); the result has an entry an input, empty where there is none.
  /// Absent: the reference's.
  Tensors (*gradient)(const Tensors& in, const Tensors& out, const Tensors& grad,
                      const A&) = nullptr;
  std::string_view no_gradient = {};  ///< why it has none; then a gradient through it is zero
  Traits traits = {};
  Cost (*cost)(const CallSig&, const A&) = nullptr;
  /// Absent: a pointwise call is cut by rows, another is not.
  std::optional<BatchRule> (*batch)(const CallSig&, const A&) = nullptr;
  int since = 1;  ///< raised when the meaning changes
  struct Case {
    std::string_view name;
    std::vector<CaseInput> in;
    A attrs;
    CaseFlags flags;
    Case(std::string_view n, std::vector<CaseInput> i, A a = A(), CaseFlags f = CaseFlags())
        : name(n), in(std::move(i)), attrs(std::move(a)), flags(f) {}
  };
  std::vector<Case> cases = {};

  OpDef define(const char* name) const;
};
template <class A>
struct KernelSheet {
  int priority = 0;
  bool accumulates = false;  ///< the kernel can add to its outputs (Call::accumulate)
  std::string (*declines)(const CallSig&, const A&) = nullptr;
  void (*run)(const Call&, const A&) = nullptr;             ///< simple form
  int64_t (*scratch)(const CallSig&, const A&) = nullptr;   ///< bytes that `run` needs
  Prepared (*prepare)(const CallSig&, const A&) = nullptr;  ///< or: make ready once for a signature
  KernelDef define(const char* name) const;
};

// ---- registry: an intrusive list whose head is one exported symbol; definitions are made on first
// use ------------------
struct OpEntry {
  const char* name;
  const OpDef& (*def)();
  const OpEntry* next;
  OpEntry(const char* name, const OpDef& (*def)());
  static const OpEntry*& head();
};
struct KernelEntry {
  const char *op, *name;
  KernelDef (*make)();
  bool gpu;
  const KernelEntry* next;
  KernelEntry(const char* op, const char* name, KernelDef (*make)(), bool gpu = false);
  static const KernelEntry*& head();
};
/// A kernel that suits operations by what they declare: made for each of them, absent where it does
/// not suit. An operation's own kernels are tried before it.
struct GenericKernelEntry {
  std::optional<KernelDef> (*make)(const OpDef&);
  bool gpu;
  const GenericKernelEntry* next;
  GenericKernelEntry(std::optional<KernelDef> (*make)(const OpDef&), bool gpu);
  static const GenericKernelEntry*& head();
};
/// By name; throws NotFound with the nearest name.
const OpDef& find_op(std::string_view name);
/// All, sorted by name.
std::vector<const OpDef*> all_ops();

/// The first kernel for where the call is to run that accepts, on the host else the loop; the
/// reason of each that declines goes to the log. Empty: lower to the reference.
struct Selected {
  Prepared prepared;
  std::string kernel;  ///< its name, "loop", or "" for none
  bool accumulates = false;
};
Selected select_kernel(const OpDef& op, const CallSig& sig, const AttrPtr& attrs);
/// Whether there is one.
bool has_kernel(const OpDef& op, const CallSig& sig, const void* attrs);

/// Declares an operation; defines `const OpDef& <name>_op()`.
#define OP(op_name, Attrs)                                                   \
  static ::evenflow::Op<Attrs> op_name##_sheet();                            \
  const ::evenflow::OpDef& op_name##_op() {                                  \
    static const ::evenflow::OpDef def = op_name##_sheet().define(#op_name); \
    return def;                                                              \
  }                                                                          \
  static const ::evenflow::OpEntry op_name##_entry{#op_name, op_name##_op};  \
  static ::evenflow::Op<Attrs> op_name##_sheet()
/// Declares a kernel of an operation: KERNEL(matmul, MatmulAttrs, onednn) { return {.priority = 10,
/// .run = ...}; }
#define KERNEL(op_name, Attrs, kernel_name)                                   \
  static ::evenflow::KernelSheet<Attrs> op_name##_##kernel_name##_sheet();    \
  static const ::evenflow::KernelEntry op_name##_##kernel_name##_entry{       \
      #op_name, #kernel_name,                                                 \
      [] { return op_name##_##kernel_name##_sheet().define(#kernel_name); }}; \
  static ::evenflow::KernelSheet<Attrs> op_name##_##kernel_name##_sheet()
/// The same for accelerators: GPU_KERNEL(softmax, SoftmaxAttrs, rows) { ... } is named gpu_rows.
#define GPU_KERNEL(op_name, Attrs, kernel_name)                                                \
  static ::evenflow::KernelSheet<Attrs> op_name##_gpu_##kernel_name##_sheet();                 \
  static const ::evenflow::KernelEntry op_name##_gpu_##kernel_name##_entry{                    \
      #op_name, "gpu_" #kernel_name,                                                           \
      [] { return op_name##_gpu_##kernel_name##_sheet().define("gpu_" #kernel_name); }, true}; \
  static ::evenflow::KernelSheet<Attrs> op_name##_gpu_##kernel_name##_sheet()

// ---- calling
// ------------------------------------------------------------------------------------------------------------------
/// Makes a node (checks, promotion, shape rule) and, outside a step or trace, runs it.
Tensors apply(const OpDef& op, AttrPtr attrs, std::span<const In> in);
template <class A = NoAttrs>
Tensors call(const OpDef& op, std::initializer_list<In> in, A attrs = {}) {
  if constexpr (std::is_same_v<A, NoAttrs>)
    return apply(op, op.defaults, {in.begin(), in.size()});
  else
    return apply(op, std::make_shared<const A>(std::move(attrs)), {in.begin(), in.size()});
}
template <class A = NoAttrs>
Tensors call(const OpDef& op, const std::vector<In>& in, A attrs = {}) {
  return apply(op, std::make_shared<const A>(std::move(attrs)), in);
}
/// Number and element types of the inputs as declared, what apply() checks before the shape rule;
/// throws InvalidArgument.
void check_inputs(const OpDef& op, std::span<const Sig> in);
std::vector<In> to_inputs(const Tensors& tensors, Where where = Where::current());

/// Of a pointwise call: inputs that are broadcast along the batch are whole.
std::optional<BatchRule> pointwise_batch(const CallSig& sig);

// ---- common shape rules
// ------------------------------------------------------------------------------------------------------
template <class A = NoAttrs>
Sigs same_as_first(std::span<const Sig> in, const A&) {
  return {in[0]};
}
template <class A = NoAttrs>
Sigs broadcast_of_all(std::span<const Sig> in, const A&) {
  Sig r = in[0];
  for (const Sig& s : in.subspan(1)) r.shape = broadcast(r.shape, s.shape);
  return {r};
}

// ---- common batch rules
// --------------------------------------------------------------------------------------------------------
/// Rows of the first inputs; bit i of kWhole: input i is whole.
template <class A, uint64_t kWhole = 0, BatchRule::Join kJoin = BatchRule::rows>
std::optional<BatchRule> batch_of(const CallSig&, const A&) {
  return BatchRule{kWhole, kJoin, {}};
}
/// A change of shape that keeps the leading axis.
template <class A>
std::optional<BatchRule> batch_if_leading(const CallSig& c, const A&) {
  const Shape &in = c.in[0].shape, &out = c.out[0].shape;
  if (!in.rank() || !out.rank() || in[0] != out[0]) return {};
  return BatchRule{};
}

// ---- implementation of the templates
// ----------------------------------------------------------------------------------------
namespace detail {
template <class A>
const A& typed(const void* a) {
  return *static_cast<const A*>(a);
}
template <class A>
std::vector<AttrValue> values_of(const A& attrs) {
  std::vector<AttrValue> r;
  A copy = attrs;
  A::fields(copy, [&](std::string_view, auto& v, std::string_view) { r.push_back(to_value(v)); });
  return r;
}
template <class A>
AttrPtr made_from(std::span<const AttrValue> values) {
  auto a = std::make_shared<A>();
  size_t i = 0;
  A::fields(*a, [&](std::string_view name, auto& v, std::string_view) {
    if (i < values.size()) from_value(name, values[i], v);
    ++i;
  });
  return a;
}
}  // namespace detail

template <class A>
OpDef Op<A>::define(const char* op_name) const {
  OpDef d;
  d.name = op_name;
  d.summary = summary, d.doc = doc, d.inputs = inputs, d.outputs = outputs, d.traits = traits,
  d.since = since, d.no_gradient = no_gradient;
  A defaults{};
  A::fields(defaults, [&](std::string_view n, auto& v, std::string_view text) {
    d.attrs.push_back({std::string(n), detail::to_value(v), std::string(text)});
  });
  d.defaults = std::make_shared<const A>();
  if (shape)
    d.shape = [f = shape](std::span<const Sig> s, const void* a) {
      return f(s, detail::typed<A>(a));
    };
  if (reference)
    d.reference = [f = reference](const Tensors& t, const void* a) {
      return f(t, detail::typed<A>(a));
    };
  if (gradient)
    d.gradient = [f = gradient](const Tensors& i, const Tensors& o, const Tensors& g,
                                const void* a) { return f(i, o, g, detail::typed<A>(a)); };
  if (loop) d.loop = [f = loop](const Call& c, const void* a) { f(c, detail::typed<A>(a)); };
  if (batch)
    d.batch = [f = batch](const CallSig& c, const void* a) { return f(c, detail::typed<A>(a)); };
  else if (traits.pointwise && !traits.random)
    d.batch = [](const CallSig& c, const void*) { return pointwise_batch(c); };
  if (cost)
    d.cost = [f = cost](const CallSig& c, const void* a) { return f(c, detail::typed<A>(a)); };
  for (const Case& c : cases)
    d.cases.push_back({std::string(c.name), c.in, std::make_shared<const A>(c.attrs), c.flags});
  d.get_attrs = [](const void* a) { return detail::values_of(detail::typed<A>(a)); };
  d.make_attrs = [](std::span<const AttrValue> v) { return detail::made_from<A>(v); };
  return d;
}
template <class A>
KernelDef KernelSheet<A>::define(const char* kernel_name) const {
  KernelDef d{kernel_name, priority, {}, {}, accumulates, prepare != nullptr};
  if (declines)
    d.declines = [f = declines](const CallSig& c, const void* a) {
      return f(c, detail::typed<A>(a));
    };
  if (prepare)
    d.prepare = [f = prepare](const CallSig& c, const void* a) {
      return f(c, detail::typed<A>(a));
    };
  else
    d.prepare = [f = run, s = scratch](const CallSig& c, const void* a) {
      return Prepared{[f, attrs = detail::typed<A>(a)](const Call& call) { f(call, attrs); },
                      s ? s(c, detail::typed<A>(a)) : 0};
    };
  return d;
}

}  // namespace evenflow
