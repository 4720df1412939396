// SPDX-License-Identifier: Apache-2.0
#include "tests/random_graphs.h"

#include <cmath>
#include <random>

#include "evenflow/graph/compile.h"
#include "evenflow/graph/gradient.h"
#include "evenflow/graph/node.h"
#include "evenflow/ops/activations.h"
#include "evenflow/ops/batch_norm.h"
#include "evenflow/ops/compare.h"
#include "evenflow/ops/control_flow.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/matmul.h"
#include "evenflow/ops/random.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/shape.h"
#include "tests/engine.h"

namespace evenflow::engine {
namespace {

// Values of the shapes [n, c], [c], [c, c] and [] are drawn from, and made, until the body ends.
struct Body {
  uint32_t seed;
  std::vector<Variable> v;  // two [c, c], two [c], of all commit classes
  Generator gen;

  Tensors operator()(const Tensor& x) const {
    std::mt19937 r(seed * 7 + 1);
    Tensors wide{x}, row{v[2], v[3]}, square_{v[0], v[1]}, one{reduce_mean(x)};
    auto pick = [&](const Tensors& t) { return t[r() % t.size()]; };
    auto kind = [&](size_t k) -> Tensors& { return k < 2 ? square_ : row; };
    for (int i = 0, n = 5 + int(r() % 25); i < n; ++i) {
      const size_t k = r() % 4;
      switch (r() % 18) {
        case 0:
          wide.push_back(two(wide, wide, r));
          break;
        case 1:
          wide.push_back(two(wide, row, r));
          break;
        case 2: {
          Tensor a = pick(wide), b = pick(square_);
          wide.push_back(matmul(a, b) * 0.5f);
          break;
        }
        case 3:
          wide.push_back(relu(pick(wide)));
          break;
        case 4:
          row.push_back(reduce_mean(pick(wide), {0}));
          break;
        case 5: {
          Tensor a = pick(wide), g = pick(row), b = pick(row);
          auto bn = batch_norm(a, g, b);
          wide.push_back(bn.y), row.push_back(bn.statistics.mean);
          break;
        }
        case 6: {
          Tensor a = pick(wide);
          wide.push_back(a * dropout_mask(gen.next(), a, 0.3));
          break;
        }
        case 7:
          square_.push_back(two(square_, square_, r));
          break;
        case 8: {
          Tensor t = pick(kind(k));
          v[k].assign(r() % 2 ? t : v[k] - 0.1f * t);
          break;
        }
        case 9:
          kind(k).push_back(v[k]);
          break;
        case 10: {
          Tensor g = gradient(reduce_mean(square(pick(wide))), v[k]);
          v[k].assign_sub(0.1f * g);
          kind(k).push_back(g);
          break;
        }
        case 11:
          row.push_back(two(row, row, r));
          break;
        case 12:
          wide.push_back(select(pick(wide) > pick(one), pick(wide), pick(wide)));
          break;
        case 13:
          one.push_back(reduce_max(pick(wide)) * 0.5f);
          break;
        case 14:
          square_.push_back(transpose(pick(square_)));
          break;
        case 15:
          require(less(abs(pick(one)), 0.8f));
          break;
        case 16: {  // a branch that captures and writes
          Tensor p = pick(one) > 0.1f, a = pick(wide), b = pick(row);
          const Variable w = v[k];
          wide.push_back(cond(
              p, [&] { return Tensors{a * b}; },
              [&] {
                w.assign(w * 0.5f);
                return Tensors{tanh(a)};
              })[0]);
          break;
        }
        default: {  // a loop over rows
          Tensor a = pick(wide), b = pick(row);
          const ScanResult s = scan(
              [&](const Tensors& state, const Tensors& element) {
                Tensor next = tanh(state[0] + element[0] * b);
                return Tensors{next, next * element[0]};
              },
              {pick(row)}, {a});
          row.push_back(s.state[0]), wide.push_back(s.outputs[0]);
        }
      }
    }
    Tensors outs;
    for (auto* t : {&wide, &row, &square_, &one}) outs.push_back(pick(*t));
    return outs;
  }
  static Tensor two(const Tensors& x, const Tensors& y, std::mt19937& r) {
    Tensor a = x[r() % x.size()], b = y[r() % y.size()];
    switch (r() % 4) {
      case 0:
        return a + b;
      case 1:
        return a * b;
      case 2:
        return a - b * 0.25f;
      default:
        return maximum(a, b);
    }
  }
};

enum Mode { kImmediate, kRecorded, kPlain, kCompiled, kOptimised, kReferences, kModes };

std::string compare(uint32_t seed) {
  std::mt19937 init(seed);
  const int64_t c = 1 + init() % 5;
  Tensors start, xs;
  for (const Shape& s : {Shape{c, c}, Shape{c, c}, Shape{c}, Shape{c}})
    start.push_back(drawn(s, init()));
  for (int64_t n : {4, 1, 4, 7}) xs.push_back(drawn({n, c}, init()));
  struct Seen {
    std::vector<std::string> bits;
    std::vector<float> values;
    std::vector<bool> committed;
    void add(const Tensor& t) {
      bits.push_back(engine::bits(t));
      const auto v = t.to_vector();
      values.insert(values.end(), v.begin(), v.end());
    }
  } seen[kModes];
  std::string wrong;
  for (int mode = 0; mode < kModes; ++mode) {
    Body body{seed, {}, Generator(seed)};
    const Commit classes[] = {Commit::Step, Commit::Step, Commit::Always, Commit::Run};
    for (size_t i = 0; i < 4; ++i)
      body.v.emplace_back(start[i], VariableOptions{.commit = classes[i]});
    const Passes passes = mode == kPlain      ? Passes::none
                          : mode == kCompiled ? Passes::exact
                                              : Passes::all;
    auto f = compile(body, {.use_reference = mode == kReferences, .passes = passes});
    eager() = mode == kImmediate ? Eager::immediate : Eager::by_scope;
    Tensors keep;
    for (auto& x : xs) {
      Tensors outs;
      if (mode >= kPlain) {
        outs = f(x);
        seen[mode].committed.push_back(Function::committed());
      } else {
        Step s;
        outs = body(x);
        if (seed % 3 == 0) outs[0].data();
        seen[mode].committed.push_back(s.commit());
      }
      for (auto& t : outs) {
        if (seed % 2) keep.push_back(t);
        seen[mode].add(t);
      }
      for (auto& v : body.v) {
        Tensor t = v;
        seen[mode].add(t);
        if (seed % 5 == 0) keep.push_back(t);
      }
    }
    for (auto& t : keep) seen[mode].add(t);  // what is held never changes
    eager() = Eager::by_scope;
    if (mode >= kPlain && f.function().traces() != 1)
      wrong += "traced again: " + f.function().log().back() + "; ";
  }
  for (auto [mode, name] :
       {std::pair{kRecorded, "recorded"}, {kPlain, "planned"}, {kCompiled, "compiled"}}) {
    if (seen[mode].bits != seen[kImmediate].bits) wrong += concat({name, " differs; "});
    if (seen[mode].committed != seen[kImmediate].committed)
      wrong += concat({name, " commits otherwise; "});
  }
  // With passes that may round otherwise, and by the references: within rounding, unless a
  // predicate fell on the other side of it.
  for (auto [mode, name] :
       {std::pair{kOptimised, "optimised"}, {kReferences, "by the references"}}) {
    const auto &a = seen[kCompiled].values, &b = seen[mode].values;
    if (seen[kCompiled].committed != seen[mode].committed) continue;
    for (size_t i = 0; i < a.size(); ++i)
      if (std::abs(a[i] - b[i]) > 2e-3f * std::max(1.f, std::abs(a[i])) &&
          !(std::isnan(a[i]) && std::isnan(b[i]))) {
        wrong += concat({"value ", i, " is ", a[i], ", ", name, " ", b[i], "; "});
        break;
      }
  }
  return wrong;
}

}  // namespace

std::string differences(uint32_t seed) {
  try {
    return compare(seed);
  } catch (const Error& e) {
    eager() = Eager::by_scope;
    return e.what();
  }
}

}  // namespace evenflow::engine
