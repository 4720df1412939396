// SPDX-License-Identifier: Apache-2.0
#include "evenflow/ops/pooling.h"

#include <algorithm>
#include <limits>

#include "evenflow/core/parallel.h"
#include "evenflow/graph/op.h"
#include "evenflow/ops/pooling_rules.h"
#include "evenflow/ops/reduce.h"

namespace evenflow {

Pooling pooling(const Sig& x, const Pool2DAttrs& a) {
  if (x.shape.rank() != 4) fail({"x is ", str(x), ", expected [n, height, width, channels]"});
  const auto& s = a.strides.empty() ? a.pool_size : a.strides;
  if (a.pool_size.size() != 2 || s.size() != 2)
    fail({"pool_size and strides have ", a.pool_size.size(), " and ", s.size(),
          " numbers, expected 2"});
  const auto [h, w] = explicit_padding(a.padding, a.explicit_paddings);
  const Pooling p{windows(x.shape[1], a.pool_size[0], s[0], 1, a.padding, h, "height"),
                  windows(x.shape[2], a.pool_size[1], s[1], 1, a.padding, w, "width"), x.shape[0],
                  x.shape[3]};
  // Every window has an element of the image.
  if (a.padding == "explicit")
    for (const Windows& v : {p.h, p.w}) {
      if (v.in == 0) fail({"x is ", str(x), ", expected a height and width of at least 1"});
      if (std::max(v.before, v.after) >= v.size)
        fail({"explicit_paddings has ", std::max(v.before, v.after), ", expected less than ",
              v.size, " (the window)"});
    }
  return p;
}

namespace {
template <class F>
void floats(DType d, F f) {
  visit(d, [&](auto zero) {
    if constexpr (!std::is_integral_v<decltype(zero)>) f(zero);
  });
}
std::vector<Op<Pool2DAttrs>::Case> pool_cases(std::vector<CaseInput> (*make)(Shape,
                                                                             const Pool2DAttrs&)) {
  using A = Pool2DAttrs;
  auto one = [&](std::string_view name, Shape x, A a, CaseFlags f = {}) {
    return Op<A>::Case(name, make(x, a), a, f);
  };
  return {one("two", {2, 4, 6, 3}, {}),
          one("odd", {1, 5, 7, 2}, {.pool_size = {3, 2}, .strides = {2, 1}}),
          one("same", {2, 5, 5, 3}, {.pool_size = {3, 3}, .strides = {2, 2}, .padding = "same"}),
          one("wide", {1, 3, 3, 65}, {.pool_size = {3, 3}}),
          one("gaps", {1, 7, 7, 2}, {.pool_size = {2, 2}, .strides = {3, 3}}),
          one("explicit", {2, 5, 4, 17},
              {.pool_size = {3, 2},
               .strides = {2, 1},
               .padding = "explicit",
               .explicit_paddings = {2, 1, 0, 1}}),
          one("empty", {0, 4, 4, 3}, {})};
}
CaseInput distinct(Shape s) {  // no ties: a maximum is differentiable
  std::vector<double> v;
  for (int64_t i = 0; i < s.count(); ++i) v.push_back(double((i * 7919) % 2003) / 100);
  return values(s, v);
}
}  // namespace

OP(max_pool2d, Pool2DAttrs) {
  return {
      .summary = "The largest element of each window",
      .inputs = {{"x", floating, "[n, h, w, c]"}},
      .outputs = {{"y", "[n, oh, ow, c]"}},
      .shape = [](std::span<const Sig> in, const Pool2DAttrs& a) -> Sigs {
        return {{in[0].dtype, pooling(in[0], a).out()}};
      },
      .loop =
          [](const Call& c, const Pool2DAttrs& a) {
            if (c.out[0].count() == 0) return;
            const Pooling p = pooling(*c.in[0].sig, a);
            floats(c.in[0].dtype(), [&](auto zero) {
              using T = decltype(zero);
              parallel_for(
                  p.n * p.h.out, std::max<int64_t>(1, 16384 / std::max<int64_t>(1, p.w.out * p.c)),
                  [&](int64_t b, int64_t e) {
                    for (int64_t r = b; r < e; ++r) {
                      const Range ry = range(p.h, r % p.h.out);
                      const T* x = c.in[0].as<T>() + r / p.h.out * p.h.in * p.w.in * p.c;
                      for (int64_t ox = 0; ox < p.w.out; ++ox) {
                        T* y = c.out[0].as<T>() + (r * p.w.out + ox) * p.c;
                        const Range rx = range(p.w, ox);
                        std::copy_n(x + (ry.from * p.w.in + rx.from) * p.c, p.c, y);
                        for (int64_t i = ry.from; i < ry.to; ++i)
                          for (int64_t j = rx.from; j < rx.to; ++j) {
                            const T* v = x + (i * p.w.in + j) * p.c;
                            for (int64_t k = 0; k < p.c; ++k)
                              y[k] = compute_t<T>(v[k]) > compute_t<T>(y[k]) || v[k] != v[k] ? v[k]
                                                                                             : y[k];
                          }
                      }
                    }
                  });
            });
          },
      .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                     const Pool2DAttrs& a) -> Tensors {
        return {call(find_op("max_pool2d_grad"), {in[0], g[0]}, a)[0]};
      },
      .batch = batch_of<Pool2DAttrs>,
      .cases =
          [] {
            auto cases = pool_cases([](Shape x, const Pool2DAttrs&) -> std::vector<CaseInput> {
              return {distinct(x)};
            });
            cases.emplace_back("bench", std::vector<CaseInput>{{32, 56, 56, 64}}, Pool2DAttrs{},
                               CaseFlags{.bench = true, .no_gradient = true});
            cases.emplace_back("window", std::vector<CaseInput>{{1, 1, 4, 2}}, Pool2DAttrs{},
                               CaseFlags{.fails = "expected at most 1"});
            return cases;
          }()};
}
Tensor max_pool2d(In x, Pool2DAttrs a) { return call(max_pool2d_op(), {x}, std::move(a))[0]; }

// Where the first largest element of each window is; shared by the gradient and its gradient.
template <class T, class F>
static void each_maximum(const Pooling& p, const T* x, F f) {  // f(output element, input element)
  for (int64_t oy = 0; oy < p.h.out; ++oy)
    for (int64_t ox = 0; ox < p.w.out; ++ox) {
      const Range ry = range(p.h, oy), rx = range(p.w, ox);
      for (int64_t k = 0; k < p.c; ++k) {
        int64_t best = (ry.from * p.w.in + rx.from) * p.c + k;
        for (int64_t i = ry.from; i < ry.to; ++i)
          for (int64_t j = rx.from; j < rx.to; ++j) {
            const int64_t at = (i * p.w.in + j) * p.c + k;
            if (compute_t<T>(x[at]) > compute_t<T>(x[best])) best = at;
          }
        f((oy * p.w.out + ox) * p.c + k, best);
      }
    }
}
OP(max_pool2d_grad, Pool2DAttrs) {
  return {.summary = "Gradient of max_pool2d: to the first largest element of each window",
          .inputs = {{"x", floating, "[n, h, w, c]"}, {"dy", floating, "[n, oh, ow, c]"}},
          .outputs = {{"dx", "like x"}},
          .shape = [](std::span<const Sig> in, const Pool2DAttrs& a) -> Sigs {
            if (const Shape s = pooling(in[0], a).out(); in[1].shape != s)
              fail({"dy is ", str(in[1]), ", expected shape ", str(s)});
            return {in[0]};
          },
          .loop =
              [](const Call& c, const Pool2DAttrs& a) {
                if (c.out[0].count() == 0) return;
                const Pooling p = pooling(*c.in[0].sig, a);
                const int64_t xs = p.h.in * p.w.in * p.c, ys = p.h.out * p.w.out * p.c;
                floats(c.in[0].dtype(), [&](auto zero) {
                  using T = decltype(zero);
                  parallel_for(p.n, 1, [&](int64_t b, int64_t e) {
                    std::vector<compute_t<T>> sum(static_cast<size_t>(xs));
                    for (int64_t n = b; n < e; ++n) {
                      std::fill(sum.begin(), sum.end(), compute_t<T>(0));
                      each_maximum(p, c.in[0].as<T>() + n * xs, [&](int64_t o, int64_t i) {
                        sum[size_t(i)] += compute_t<T>(c.in[1].as<T>()[n * ys + o]);
                      });
                      for (int64_t i = 0; i < xs; ++i)
                        c.out[0].as<T>()[n * xs + i] = static_cast<T>(sum[size_t(i)]);
                    }
                  });
                });
              },
          .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                         const Pool2DAttrs& a) -> Tensors {
            return {Tensor(), call(find_op("max_pool2d_pick"), {in[0], g[0]}, a)[0]};
          },
          .batch = batch_of<Pool2DAttrs>,
          .cases = pool_cases([](Shape x, const Pool2DAttrs& a) -> std::vector<CaseInput> {
            return {distinct(x), normal(pooling({DType::f32, x}, a).out())};
          })};
}
OP(max_pool2d_pick, Pool2DAttrs) {
  return {.summary = "The elements of v where x has the first largest element of each window",
          .inputs = {{"x", floating, "[n, h, w, c]"}, {"v", floating, "like x"}},
          .outputs = {{"y", "[n, oh, ow, c]"}},
          .shape = [](std::span<const Sig> in, const Pool2DAttrs& a) -> Sigs {
            if (in[1] != in[0]) fail({"v is ", str(in[1]), ", expected ", str(in[0]), " (x)"});
            return {{in[0].dtype, pooling(in[0], a).out()}};
          },
          .loop =
              [](const Call& c, const Pool2DAttrs& a) {
                if (c.out[0].count() == 0) return;
                const Pooling p = pooling(*c.in[0].sig, a);
                const int64_t xs = p.h.in * p.w.in * p.c, ys = p.h.out * p.w.out * p.c;
                floats(c.in[0].dtype(), [&](auto zero) {
                  using T = decltype(zero);
                  parallel_for(p.n, 1, [&](int64_t b, int64_t e) {
                    for (int64_t n = b; n < e; ++n)
                      each_maximum(p, c.in[0].as<T>() + n * xs, [&](int64_t o, int64_t i) {
                        c.out[0].as<T>()[n * ys + o] = c.in[1].as<T>()[n * xs + i];
                      });
                  });
                });
              },
          .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                         const Pool2DAttrs& a) -> Tensors {
            return {Tensor(), call(max_pool2d_grad_op(), {in[0], g[0]}, a)[0]};
          },
          .batch = batch_of<Pool2DAttrs>,
          .cases = pool_cases([](Shape x, const Pool2DAttrs&) -> std::vector<CaseInput> {
            return {distinct(x), normal(x)};
          })};
}

OP(average_pool2d, Pool2DAttrs) {
  return {.summary = "The mean of each window's elements",
          .inputs = {{"x", floating, "[n, h, w, c]"}},
          .outputs = {{"y", "[n, oh, ow, c]"}},
          .shape = [](std::span<const Sig> in, const Pool2DAttrs& a) -> Sigs {
            return {{in[0].dtype, pooling(in[0], a).out()}};
          },
          .loop =
              [](const Call& c, const Pool2DAttrs& a) {
                if (c.out[0].count() == 0) return;
                const Pooling p = pooling(*c.in[0].sig, a);
                floats(c.in[0].dtype(), [&](auto zero) {
                  using T = decltype(zero);
                  using C = compute_t<T>;
                  parallel_for(p.n * p.h.out,
                               std::max<int64_t>(1, 16384 / std::max<int64_t>(1, p.w.out * p.c)),
                               [&](int64_t b, int64_t e) {
                                 std::vector<C> sum(static_cast<size_t>(p.c));
                                 for (int64_t r = b; r < e; ++r) {
                                   const Range ry = range(p.h, r % p.h.out);
                                   const T* x =
                                       c.in[0].as<T>() + r / p.h.out * p.h.in * p.w.in * p.c;
                                   for (int64_t ox = 0; ox < p.w.out; ++ox) {
                                     const Range rx = range(p.w, ox);
                                     std::fill(sum.begin(), sum.end(), C(0));
                                     for (int64_t i = ry.from; i < ry.to; ++i)
                                       for (int64_t j = rx.from; j < rx.to; ++j)
                                         for (int64_t k = 0; k < p.c; ++k)
                                           sum[size_t(k)] += C(x[(i * p.w.in + j) * p.c + k]);
                                     const C count = C((ry.to - ry.from) * (rx.to - rx.from));
                                     for (int64_t k = 0; k < p.c; ++k)
                                       c.out[0].as<T>()[(r * p.w.out + ox) * p.c + k] =
                                           static_cast<T>(sum[size_t(k)] / count);
                                   }
                                 }
                               });
                });
              },
          .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                         const Pool2DAttrs& a) -> Tensors {
            return {call(find_op("average_pool2d_grad"), {g[0], in[0]}, a)[0]};
          },
          .batch = batch_of<Pool2DAttrs>,
          .cases = pool_cases(
              [](Shape x, const Pool2DAttrs&) -> std::vector<CaseInput> { return {normal(x)}; })};
}
Tensor average_pool2d(In x, Pool2DAttrs a) {
  return call(average_pool2d_op(), {x}, std::move(a))[0];
}
OP(average_pool2d_grad, Pool2DAttrs) {
  return {.summary = "Gradient of average_pool2d",
          .inputs = {{"dy", floating, "[n, oh, ow, c]"},
                     {"x_like", floating, "[n, h, w, c]; only its shape is read"}},
          .outputs = {{"dx", "like x_like"}},
          .shape = [](std::span<const Sig> in, const Pool2DAttrs& a) -> Sigs {
            if (const Shape s = pooling(in[1], a).out(); in[0].shape != s)
              fail({"dy is ", str(in[0]), ", expected shape ", str(s)});
            return {in[1]};
          },
          .loop =
              [](const Call& c, const Pool2DAttrs& a) {
                if (c.out[0].count() == 0) return;
                const Pooling p = pooling(*c.in[1].sig, a);
                const int64_t xs = p.h.in * p.w.in * p.c, ys = p.h.out * p.w.out * p.c;
                floats(c.in[0].dtype(), [&](auto zero) {
                  using T = decltype(zero);
                  using C = compute_t<T>;
                  parallel_for(p.n, 1, [&](int64_t b, int64_t e) {
                    std::vector<C> sum(static_cast<size_t>(xs));
                    for (int64_t n = b; n < e; ++n) {
                      std::fill(sum.begin(), sum.end(), C(0));
                      for (int64_t oy = 0; oy < p.h.out; ++oy)
                        for (int64_t ox = 0; ox < p.w.out; ++ox) {
                          const Range ry = range(p.h, oy), rx = range(p.w, ox);
                          const C count = C((ry.to - ry.from) * (rx.to - rx.from));
                          const T* d = c.in[0].as<T>() + n * ys + (oy * p.w.out + ox) * p.c;
                          for (int64_t i = ry.from; i < ry.to; ++i)
                            for (int64_t j = rx.from; j < rx.to; ++j)
                              for (int64_t k = 0; k < p.c; ++k)
                                sum[size_t((i * p.w.in + j) * p.c + k)] += C(d[k]) / count;
                        }
                      for (int64_t i = 0; i < xs; ++i)
                        c.out[0].as<T>()[n * xs + i] = static_cast<T>(sum[size_t(i)]);
                    }
                  });
                });
              },
          .gradient = [](const Tensors&, const Tensors&, const Tensors& g,
                         const Pool2DAttrs& a) -> Tensors {
            return {average_pool2d(g[0], a), Tensor()};
          },
          .traits = {.shape_only = 2},
          .batch = batch_of<Pool2DAttrs>,
          .cases = pool_cases([](Shape x, const Pool2DAttrs& a) -> std::vector<CaseInput> {
            return {normal(pooling({DType::f32, x}, a).out()), normal(x)};
          })};
}

static Tensor global(In given, bool keepdims, Tensor (*reduce)(In, Axes, bool)) {
  Tensor x = given.as();
  if (x.rank() != 4)
    fail({"global pooling: x is ", str(x.sig()), ", expected [n, height, width, channels], at ",
          str(given.where)});
  return reduce(In(x, given.where), {1, 2}, keepdims);
}
Tensor global_average_pool2d(In x, bool keepdims) {
  return global(std::move(x), keepdims, reduce_mean);
}
Tensor global_max_pool2d(In x, bool keepdims) { return global(std::move(x), keepdims, reduce_max); }

}  // namespace evenflow
