// SPDX-License-Identifier: Apache-2.0
// In inference batch norm is a line for each channel. Its slope goes into the kernel of the linear
// call before it, or behind it (Jacob et al. 2018, arXiv:1712.05877); biases and other batch norms
// around it take the rest. What is left of that is added where the residual and the ReLU are. All
// that is made of variables alone is hoisted.
#include <map>
#include <optional>

#include "evenflow/graph/hoist.h"
#include "evenflow/graph/op.h"
#include "evenflow/graph/pass.h"
#include "evenflow/graph/program.h"
#include "evenflow/ops/batch_norm.h"
#include "evenflow/ops/compare.h"
#include "evenflow/ops/conv_rules.h"
#include "evenflow/ops/conv_transpose.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/matmul_attrs.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/shape.h"

namespace evenflow {
namespace {
Tensor wide(const Tensor& t) { return cast(t, DType::f64); }

// activation(slope (x - mean) + shift + residual). All are values of the graph; mean, slope and
// shift are f64 [channels].
struct Norm {
  int x, mean, slope, shift;
  int residual = -1;
  std::string activation;
  bool is_plain() const { return residual < 0 && activation == "linear"; }
};
// A linear call, and how its kernel is seen: [taps, inputs of a group, groups, outputs of a group].
struct Product {
  int call, x, kernel;
  std::vector<int64_t> seen;
  bool transposed = false;  // outputs come before inputs
  bool uneven = false;      // a shift of x does not reach all outputs alike
};
// x + shift, channel by channel.
struct Shifted {
  int x, shift;
};

class Folder {
 public:
  Folder(Graph& g, const std::vector<char>& steady) : r_(g), known_(known_values(g, steady)) {}
  void run() {
    const int n = r_.calls();
    for (int i = 0; i < n; ++i)
      if (const auto norm = norm_of(i)) fold(*norm, i);
    r_.finish();
  }

 private:
  void fold(Norm norm, int i) {
    std::vector<int> gone{i};
    take_before(norm, gone);
    take_residual(norm, gone);
    bool scales = true;
    if (const auto p = product(r_.producer(norm.x)); p && has_one_reader(norm.x)) {
      norm.shift = part({norm.shift, norm.mean, norm.slope}, i,
                        [](const Tensors& t) { return t[0] - t[1] * t[2]; });
      norm.x = scale_outputs(*p, norm.slope), scales = false;
      gone.push_back(p->call);
    }
    const int y = r_.call(i).out[0];
    if (norm.is_plain() && pass_on(norm, scales, y, gone)) return;
    if (scales && gone.size() == 1) return;
    r_.replace(y, emit(norm, scales, i));
    for (int c : gone) r_.erase(c);
  }

  // ---- what is there
  bool is_known(int value) const { return known_[size_t(value)]; }
  bool has_one_reader(int value) const {
    return r_.readers(value).size() == 1 && !r_.is_result(value);
  }
  // Rounded from a wider type: that.
  int source(int value) const {
    const int p = r_.made_by(value, "cast");
    if (p < 0) return value;
    const DType from = r_.sig(r_.call(p).in[0]).dtype, to = r_.sig(value).dtype;
    return is_floating(from) && size_of(from) > size_of(to) ? source(r_.call(p).in[0]) : value;
  }
  std::optional<Norm> norm_of(int i) {
    if (i < 0 || !r_.alive(i) || r_.call(i).op->name != "batch_normalize") return {};
    const std::vector<int> in = r_.call(i).in;
    const BatchNormAttrs a = *static_cast<const BatchNormAttrs*>(r_.call(i).attrs.get());
    const Sig x = r_.sig(in[0]);
    // f16 has no room for a kernel times 1 / sqrt(epsilon).
    if (x.dtype == DType::f16 || a.weighted || a.virtual_batch_size || a.axis.size() != 1 ||
        (a.axis[0] != -1 && a.axis[0] != x.shape.rank() - 1))
      return {};
    const long parameters = 3 + a.scale + a.center;
    if (is_known(in[0]) ||
        !std::all_of(in.begin() + 1, in.begin() + parameters, [&](int v) { return is_known(v); }))
      return {};
    const std::vector<int> lines =
        parts({in.begin() + 1, in.begin() + parameters}, i, [&](const Tensors& t) -> Tensors {
          const Tensor v = wide(t[1]) + a.epsilon, none = equal(v, 0);
          const Tensor inverse =
              select(none, fill_like(v, 0), 1 / sqrt(select(none, fill_like(v, 1), v)));
          return {wide(t[0]), a.scale ? inverse * wide(t[2]) : inverse,
                  a.center ? wide(t.back()) : fill_like(v, 0)};
        });
    return Norm{in[0], lines[0], lines[1], lines[2], a.residual ? in.back() : -1, a.activation};
  }
  std::optional<Product> product(int i) const {
    if (i < 0 || !r_.alive(i)) return {};
    const Graph::Call& c = r_.call(i);
    const bool deep = c.op->name == "depthwise_conv2d", flat = c.op->name == "matmul",
               spreads = c.op->name == "conv2d_transpose";
    if ((!deep && !flat && !spreads && c.op->name != "conv2d") || !is_known(c.in[1])) return {};
    Product p{i, c.in[0], c.in[1], {}};
    const Shape& k = r_.sig(p.kernel).shape;
    if (flat) {
      const auto& a = *static_cast<const MatmulAttrs*>(c.attrs.get());
      if (k.rank() != 2 || a.transpose_a) return {};
      p.transposed = a.transpose_b;
      p.seen = {1, k[p.transposed], 1, k[!p.transposed]};
    } else if (spreads) {
      const auto& a = *static_cast<const Conv2DTransposeAttrs*>(c.attrs.get());
      p.transposed = p.uneven = true;
      p.seen = {k[0] * k[1], k[3] / a.groups, a.groups, k[2]};
    } else {
      const auto& a = *static_cast<const Conv2DAttrs*>(c.attrs.get());
      const ConvGeometry g = conv_geometry(r_.sig(p.x), r_.sig(p.kernel), a, deep);
      p.uneven = g.h.before || g.h.after || g.w.before || g.w.after;
      const int64_t groups = std::max<int64_t>(1, g.groups);
      p.seen = {k[0] * k[1], deep ? 1 : k[2], groups, g.filters / groups};
    }
    return p;
  }
  // A bias that is added, or what is left of another batch norm.
  std::optional<Shifted> shifted(int i) {
    if (i < 0 || !r_.alive(i)) return {};
    const Graph::Call c = r_.call(i);
    if (const auto it = shifts_.find(c.out[0]); it != shifts_.end())
      return Shifted{c.in[0], it->second};
    if (c.op->name != "add" || r_.sig(c.out[0]).dtype == DType::f16) return {};
    for (size_t k : {0, 1}) {
      const int x = c.in[1 - k], b = c.in[k];
      const Shape& s = r_.sig(b).shape;
      if (r_.sig(x) != r_.sig(c.out[0]) || is_known(x) || !is_known(b) || s.rank() == 0 ||
          s.dim(-1) != r_.sig(x).shape.dim(-1) || s.count() != s.dim(-1))
        continue;
      return Shifted{x, part({source(b)}, i, [n = s.count()](const Tensors& t) {
                       return reshape(wide(t[0]), {n});
                     })};
    }
    return {};
  }

  // ---- what batch norm takes in
  void take_before(Norm& norm, std::vector<int>& gone) {
    while (has_one_reader(norm.x)) {
      const int i = r_.producer(norm.x);
      if (const auto s = shifted(i)) {
        norm.x = s->x;
        norm.mean = part({norm.mean, s->shift}, i, [](const Tensors& t) { return t[0] - t[1]; });
      } else if (const auto n = norm_of(i); n && n->is_plain()) {
        norm.shift = part({norm.shift, norm.slope, n->shift, norm.mean}, i,
                          [](const Tensors& t) { return t[0] + t[1] * (t[2] - t[3]); });
        norm.slope = part({norm.slope, n->slope}, i, [](const Tensors& t) { return t[0] * t[1]; });
        norm.x = n->x, norm.mean = n->mean;
      } else {
        return;
      }
      gone.push_back(i);
    }
  }
  void take_residual(Norm& norm, std::vector<int>& gone) {
    while (norm.residual >= 0 && has_one_reader(norm.residual)) {
      const int i = r_.producer(norm.residual);
      const auto s = shifted(i);
      if (!s) return;
      norm.residual = s->x, norm.shift = sum(norm.shift, s->shift, i);
      gone.push_back(i);
    }
  }
  // Into a product behind it, whose padding it does not reach. Then what is left of it, a shift,
  // lies behind that, with a bias if there is one, or goes into a batch norm.
  bool pass_on(const Norm& norm, bool scales, int y, std::vector<int>& gone) {
    if (!has_one_reader(y)) return false;
    const auto p = product(r_.readers(y)[0]);
    if (!p || p->uneven || p->x != y) return false;
    int z = r_.call(p->call).out[0];
    const int next = has_one_reader(z) ? r_.readers(z)[0] : -1;
    const auto bias = shifted(next);
    if (!bias && !norm_of(next) && (!scales || r_.sig(z).bytes() > r_.sig(y).bytes())) return false;
    Norm behind = norm;
    behind.x = scale_inputs(*p, norm, scales, behind.shift);
    if (bias) {
      behind.shift = sum(behind.shift, bias->shift, next);
      z = r_.call(next).out[0], gone.push_back(next);
    }
    r_.replace(z, emit(behind, false, bias ? next : p->call));
    gone.push_back(p->call);
    for (int c : gone) r_.erase(c);
    return true;
  }

  // ---- what is made of it
  // Calls on known values.
  template <class F>
  std::vector<int> parts(const std::vector<int>& in, int like, F f) {
    Sigs sigs;
    for (int v : in) sigs.push_back(r_.sig(v));
    const Program p = trace(sigs, f);
    std::vector<int> used;
    for (auto& l : p.leaves) used.push_back(in[size_t(l.arg)]);
    const std::vector<int> out = r_.insert(p.graph, used, like);
    known_.resize(r_.graph().values.size(), 1);
    return out;
  }
  template <class F>
  int part(const std::vector<int>& in, int like, F f) {
    return parts(in, like, [&](const Tensors& t) -> Tensors { return {f(t)}; })[0];
  }
  int sum(int a, int b, int like) {
    return part({a, b}, like, [](const Tensors& t) { return t[0] + t[1]; });
  }
  int emit(const OpDef& op, AttrPtr attrs, std::vector<int> in, int like) {
    const int v = r_.emit(op, std::move(attrs), std::move(in), like)[0];
    known_.resize(r_.graph().values.size(), 0);
    return v;
  }
  int emit(const Norm& norm, bool scales, int like) {
    const DType type = r_.sig(norm.x).dtype == DType::f64 ? DType::f64 : DType::f32;
    std::vector<int> in = parts({norm.mean, norm.slope, norm.shift}, like, [&](const Tensors& t) {
      const Tensor one = ones(t[2].shape(), type), shift = cast(t[2], type);
      return scales ? Tensors{cast(t[0], type), one, cast(t[1], type), shift}
                    : Tensors{-shift, one};
    });
    in.insert(in.begin(), norm.x);
    if (norm.residual >= 0) in.push_back(norm.residual);
    const int y =
        emit(find_op("batch_normalize"),
             std::make_shared<const BatchNormAttrs>(BatchNormAttrs{.epsilon = 0,
                                                                   .scale = scales,
                                                                   .center = scales,
                                                                   .residual = norm.residual >= 0,
                                                                   .activation = norm.activation}),
             in, like);
    if (!scales && norm.is_plain()) shifts_[y] = norm.shift;
    return y;
  }
  // f(kernel as it is seen, f64, and the inputs behind it) gives the new one, and other values.
  template <class F>
  std::vector<int> new_kernel(const Product& p, std::vector<int> in, F f) {
    const Sig k = r_.sig(p.kernel);
    in.insert(in.begin(), source(p.kernel));
    const std::vector<int64_t> stored{p.seen[0], p.seen[3], p.seen[2], p.seen[1]},
        turn{0, 3, 2, 1};  // its own inverse
    return parts(in, p.call, [&](const Tensors& t) {
      const Tensor w = wide(t[0]);
      Tensors r = f(p.transposed ? transpose(reshape(w, stored), turn) : reshape(w, p.seen), t);
      if (p.transposed) r[0] = transpose(r[0], turn);
      r[0] = cast(reshape(r[0], {k.shape.begin(), k.shape.end()}), k.dtype);
      return r;
    });
  }
  int again(const Product& p, int x, int kernel) {
    const Graph::Call c = r_.call(p.call);
    return emit(*c.op, c.attrs, {x, kernel}, p.call);
  }
  int scale_outputs(const Product& p, int slope) {
    const auto made = new_kernel(p, {slope}, [&](const Tensor& w, const Tensors& t) -> Tensors {
      return {w * reshape(t[1], {p.seen[2], p.seen[3]})};
    });
    return again(p, p.x, made[0]);
  }
  // shift: what the product makes of the norm's.
  int scale_inputs(const Product& p, const Norm& norm, bool scales, int& shift) {
    auto along = [&](const Tensor& t) {  // [channels] as [inputs, groups, 1]
      return expand_dims(transpose(reshape(t, {p.seen[2], p.seen[1]}), {1, 0}), -1);
    };
    const auto made = new_kernel(
        p, {norm.mean, norm.slope, norm.shift}, [&](const Tensor& w, const Tensors& t) -> Tensors {
          const Tensor b = scales ? t[3] - t[1] * t[2] : t[3];
          return {scales ? w * along(t[2]) : w,
                  reshape(reduce_sum(w * along(b), {0, 1}), {p.seen[2] * p.seen[3]})};
        });
    shift = made[1];
    return again(p, norm.x, made[0]);
  }

  Rewriter r_;
  std::vector<char> known_;
  std::map<int, int> shifts_;  // outputs of norms that only shift, and by what
};
}  // namespace

PASS(fold_batch_norm) {
  return {.summary = "batch norm of given statistics goes into the kernels and biases around it",
          .order = 32,
          .keeps_bits = false,
          .run = [](Graph& g, const PassOptions& options) {
            if (!options.steady.empty()) Folder(g, options.steady).run();
          }};
}

}  // namespace evenflow
