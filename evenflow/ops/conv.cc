// SPDX-License-Identifier: Apache-2.0
#include "evenflow/ops/conv.h"

#include <algorithm>
#include <cstring>

#include "evenflow/core/parallel.h"
#include "evenflow/graph/op.h"
#include "evenflow/ops/conv_rules.h"

namespace evenflow {

constexpr int64_t most = int64_t(1) << 30;

std::pair<Padding, Padding> explicit_padding(const std::string& padding,
                                             const std::vector<int64_t>& p) {
  const size_t expected = padding == "explicit" ? 4 : 0;
  if (p.size() != expected)
    fail({"explicit_paddings has ", p.size(), " numbers, expected ", expected, " (padding is \"",
          padding.substr(0, 80), "\")"});
  if (p.empty()) return {};
  for (int64_t v : p)
    if (v < 0 || v > most) fail({"explicit_paddings has ", v, ", expected 0..", most});
  return {{p[0], p[1]}, {p[2], p[3]}};
}

Windows windows(int64_t in, int64_t size, int64_t stride, int64_t dilation,
                const std::string& padding, Padding given, std::string_view axis) {
  for (auto [v, what] : {std::pair{size, "window"}, {stride, "stride"}, {dilation, "dilation"}})
    if (v < 1 || v > most) fail({what, " of ", axis, " is ", v, ", expected 1..", most});
  Windows r{in, size, stride, dilation};
  const int64_t reach = checked_add(checked_mul(size - 1, dilation), 1);
  if (padding == "same") {
    r.out = in == 0 ? 0 : (in - 1) / stride + 1;
    const int64_t pad =
        r.out ? std::max<int64_t>(0, checked_add(checked_mul(r.out - 1, stride), reach) - in) : 0;
    r.before = pad / 2, r.after = pad - r.before;
  } else if (padding == "valid" || padding == "explicit") {
    r.before = given.before, r.after = given.after;
    const int64_t padded = checked_add(in, r.before + r.after);
    if (padded < reach)
      fail({"the window reaches over ", reach, " of the ", axis, ", expected at most ", padded});
    r.out = (padded - reach) / stride + 1;
  } else {
    fail({"padding is \"", padding.substr(0, 80),
          "\", expected \"valid\", \"same\" or \"explicit\""});
  }
  return r;
}

ConvGeometry conv_geometry(const Sig& x, const Sig& kernel, const Conv2DAttrs& a, bool depthwise) {
  if (x.shape.rank() != 4) fail({"x is ", str(x), ", expected [n, height, width, channels]"});
  if (kernel.shape.rank() != 4) fail({"kernel is ", str(kernel), ", expected rank 4"});
  if (a.strides.size() != 2 || a.dilations.size() != 2)
    fail({"strides and dilations have ", a.strides.size(), " and ", a.dilations.size(),
          " numbers, expected 2"});
  ConvGeometry g;
  g.n = x.shape[0], g.c = x.shape[3];
  if (depthwise) {
    if (a.groups != 1) fail({"groups is ", a.groups, ", expected 1"});
    if (kernel.shape[2] != g.c)
      fail({"kernel is ", str(kernel), ", expected ", g.c, " on axis 2 (channels of x ", str(x),
            ")"});
    g.groups = g.c, g.filters = checked_mul(g.c, kernel.shape[3]);
  } else {
    g.groups = a.groups, g.filters = kernel.shape[3];
    if (a.groups < 1 || g.c % a.groups || g.filters % a.groups)
      fail({"groups is ", a.groups, ", expected a divisor of ", g.c, " channels and ", g.filters,
            " filters"});
    if (kernel.shape[2] != g.c / a.groups)
      fail({"kernel is ", str(kernel), ", expected ", g.c / a.groups, " on axis 2 (channels of x ",
            str(x), " / groups ", a.groups, ")"});
  }
  const auto [h, w] = explicit_padding(a.padding, a.explicit_paddings);
  g.h = windows(x.shape[1], kernel.shape[0], a.strides[0], a.dilations[0], a.padding, h, "height");
  g.w = windows(x.shape[2], kernel.shape[1], a.strides[1], a.dilations[1], a.padding, w, "width");
  return g;
}
Shape conv_output(const ConvGeometry& g) { return {g.n, g.h.out, g.w.out, g.filters}; }
void check_conv_grad(const Sig& dy, const ConvGeometry& g, const Sig& x) {
  if (dy.shape != conv_output(g))
    fail({"dy is ", str(dy), ", expected shape ", str(conv_output(g)), " (output for x ", str(x),
          ")"});
}

namespace {
std::vector<Op<Conv2DAttrs>::Case> conv_cases(std::vector<CaseInput> (*make)(Shape x, Shape k,
                                                                             const Conv2DAttrs&)) {
  using A = Conv2DAttrs;
  auto one = [&](std::string_view name, Shape x, Shape k, A a, CaseFlags f = {}) {
    return Op<A>::Case(name, make(x, k, a), a, f);
  };
  return {one("valid", {2, 5, 6, 3}, {3, 3, 3, 4}, {}),
          one("same", {2, 5, 6, 3}, {3, 3, 3, 4}, {.padding = "same"}),
          one("strided", {1, 7, 6, 2}, {3, 2, 2, 3}, {.strides = {2, 3}, .padding = "same"}),
          one("dilated", {1, 7, 8, 2}, {3, 3, 2, 2}, {.dilations = {2, 3}}),
          one("grouped", {2, 4, 4, 6}, {3, 3, 3, 4}, {.padding = "same", .groups = 2}),
          one("channels", {2, 5, 4, 19}, {3, 2, 1, 19},
              {.strides = {2, 1}, .padding = "same", .groups = 19}),
          one("channels_dilated", {1, 7, 6, 3}, {2, 3, 1, 3}, {.dilations = {3, 2}, .groups = 3}),
          one("pointwise", {2, 4, 4, 5}, {1, 1, 5, 7}, {.strides = {2, 2}}),
          one("odd", {1, 5, 5, 1}, {5, 4, 1, 17}, {.padding = "same"}),
          one("even", {1, 6, 5, 2}, {2, 4, 2, 3}, {.strides = {2, 2}, .padding = "same"}),
          one("explicit", {2, 5, 4, 3}, {3, 2, 3, 4},
              {.strides = {1, 2}, .padding = "explicit", .explicit_paddings = {2, 0, 1, 3}}),
          one("far", {1, 4, 3, 2}, {2, 3, 2, 3},
              {.padding = "explicit", .dilations = {2, 1}, .explicit_paddings = {4, 5, 6, 4}}),
          one("channels_far", {2, 4, 3, 17}, {3, 2, 1, 17},
              {.padding = "explicit", .groups = 17, .explicit_paddings = {5, 4, 2, 3}}),
          one("pointwise_padded", {2, 4, 3, 5}, {1, 1, 5, 7},
              {.padding = "explicit", .explicit_paddings = {1, 0, 0, 2}}),
          one("pointwise_thin", {1, 4, 5, 3}, {1, 1, 3, 2},
              {.strides = {2, 3}, .padding = "explicit", .explicit_paddings = {1, 2, 2, 0}}),
          one("filters", {2, 7, 9, 3}, {3, 2, 3, 35}, {.strides = {2, 3}, .padding = "same"}),
          one("filters_far", {1, 6, 4, 17}, {2, 3, 17, 20},
              {.strides = {2, 1}, .padding = "explicit", .explicit_paddings = {3, 0, 4, 2}}),
          one("filters_thin", {2, 5, 7, 18}, {1, 1, 18, 33}, {.strides = {2, 3}}),
          one("empty", {0, 5, 6, 3}, {3, 3, 3, 4}, {})};
}
// f(output position, input position, kernel tap) for every product of one image and one group;
// positions are of channel 0.
template <class F>
void taps(const ConvGeometry& g, F f) {
  for (int64_t oy = 0; oy < g.h.out; ++oy)
    for (int64_t ox = 0; ox < g.w.out; ++ox)
      for (int64_t ky = 0; ky < g.h.size; ++ky) {
        const int64_t y = oy * g.h.stride - g.h.before + ky * g.h.dilation;
        if (y < 0 || y >= g.h.in) continue;
        for (int64_t kx = 0; kx < g.w.size; ++kx) {
          const int64_t x = ox * g.w.stride - g.w.before + kx * g.w.dilation;
          if (x < 0 || x >= g.w.in) continue;
          f(oy * g.w.out + ox, y * g.w.in + x, ky * g.w.size + kx);
        }
      }
}
// Whether there is nothing to sum; then the result is zero. (An empty tensor may have other extents
// beyond all bounds.)
bool nothing(const Call& c) {
  bool empty = c.out[0].count() == 0;
  for (const View& v : c.in) empty = empty || v.count() == 0;
  if (empty && c.out[0].count()) std::memset(c.out[0].data, 0, size_t(c.out[0].sig->bytes()));
  return empty;
}
template <class F>
void floats(DType d, F f) {
  visit(d, [&](auto zero) {
    if constexpr (!std::is_integral_v<decltype(zero)>) f(zero);
  });
}
Cost conv_cost(const ConvGeometry& g, double bytes) {
  return {bytes, 2.0 * double(g.n) * double(g.h.out) * double(g.w.out) * double(g.filters) *
                     double(g.c / std::max<int64_t>(1, g.groups)) * double(g.h.size) *
                     double(g.w.size)};
}
}  // namespace

OP(conv2d, Conv2DAttrs) {
  return {
      .summary = "Convolution of images, channels last",
      .doc =
          "y[n, i, j, f] = sum over taps and channels of x[n, i s + a d - p, ...] kernel[a, b, c, "
          "f]: a correlation, as everywhere in deep learning.",
      .inputs = {{"x", floating, "[n, h, w, c]"},
                 {"kernel", floating, "[kh, kw, c / groups, filters]"}},
      .outputs = {{"y", "[n, oh, ow, filters]"}},
      .shape = [](std::span<const Sig> in, const Conv2DAttrs& a) -> Sigs {
        return {{in[0].dtype, conv_output(conv_geometry(in[0], in[1], a))}};
      },
      .loop =
          [](const Call& c, const Conv2DAttrs& a) {
            if (nothing(c)) return;
            const ConvGeometry g = conv_geometry(*c.in[0].sig, *c.in[1].sig, a);
            const int64_t ci = g.c / g.groups, fo = g.filters / g.groups;
            floats(c.in[0].dtype(), [&](auto zero) {
              using T = decltype(zero);
              using C = compute_t<T>;
              parallel_for(g.n, 1, [&](int64_t b, int64_t e) {
                std::vector<C> sum(size_t(g.h.out * g.w.out * g.filters));
                for (int64_t n = b; n < e; ++n) {
                  std::fill(sum.begin(), sum.end(), C(0));
                  const T *x = c.in[0].as<T>() + n * g.h.in * g.w.in * g.c, *k = c.in[1].as<T>();
                  taps(g, [&](int64_t o, int64_t i, int64_t t) {
                    for (int64_t gr = 0; gr < g.groups; ++gr)
                      for (int64_t l = 0; l < ci; ++l) {
                        const C v = C(x[i * g.c + gr * ci + l]);
                        const T* w = k + (t * ci + l) * g.filters + gr * fo;
                        C* y = sum.data() + o * g.filters + gr * fo;
                        for (int64_t f = 0; f < fo; ++f) y[f] += v * C(w[f]);
                      }
                  });
                  for (size_t i = 0; i < sum.size(); ++i)
                    c.out[0].as<T>()[size_t(n) * sum.size() + i] = static_cast<T>(sum[i]);
                }
              });
            });
          },
      .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                     const Conv2DAttrs& a) -> Tensors {
        return {conv2d_input_grad(in[1], g[0], in[0], a),
                conv2d_kernel_grad(in[0], g[0], in[1], a)};
      },
      .cost = [](const CallSig& c, const Conv2DAttrs& a) -> Cost {
        return conv_cost(conv_geometry(c.in[0], c.in[1], a),
                         double(c.in[0].bytes() + c.in[1].bytes() + c.out[0].bytes()));
      },
      .batch = batch_of<Conv2DAttrs, 2>,
      .cases =
          [] {
            auto cases =
                conv_cases([](Shape x, Shape k, const Conv2DAttrs&) -> std::vector<CaseInput> {
                  return {normal(x), normal(k)};
                });
            cases.emplace_back("bench", std::vector<CaseInput>{{32, 32, 32, 16}, {3, 3, 16, 16}},
                               Conv2DAttrs{.padding = "same"}, CaseFlags{.bench = true});
            cases.emplace_back("mismatch", std::vector<CaseInput>{{1, 5, 5, 3}, {3, 3, 2, 4}},
                               Conv2DAttrs{}, CaseFlags{.fails = "expected 3 on axis 2"});
            cases.emplace_back("window", std::vector<CaseInput>{{1, 2, 5, 3}, {3, 3, 3, 4}},
                               Conv2DAttrs{}, CaseFlags{.fails = "expected at most 2"});
            return cases;
          }()};
}
Tensor conv2d(In x, In kernel, Conv2DAttrs a) {
  return call(conv2d_op(), {x, kernel}, std::move(a))[0];
}

OP(conv2d_input_grad, Conv2DAttrs) {
  return {.summary = "Gradient of conv2d for x",
          .inputs = {{"kernel", floating, "[kh, kw, c / groups, filters]"},
                     {"dy", floating, "[n, oh, ow, filters]"},
                     {"x_like", floating, "[n, h, w, c]; only its shape is read"}},
          .outputs = {{"dx", "like x_like"}},
          .shape = [](std::span<const Sig> in, const Conv2DAttrs& a) -> Sigs {
            check_conv_grad(in[1], conv_geometry(in[2], in[0], a), in[2]);
            return {in[2]};
          },
          .loop =
              [](const Call& c, const Conv2DAttrs& a) {
                if (nothing(c)) return;
                const ConvGeometry g = conv_geometry(*c.in[2].sig, *c.in[0].sig, a);
                const int64_t ci = g.c / g.groups, fo = g.filters / g.groups;
                floats(c.in[0].dtype(), [&](auto zero) {
                  using T = decltype(zero);
                  using C = compute_t<T>;
                  parallel_for(g.n, 1, [&](int64_t b, int64_t e) {
                    std::vector<C> sum(size_t(g.h.in * g.w.in * g.c));
                    for (int64_t n = b; n < e; ++n) {
                      std::fill(sum.begin(), sum.end(), C(0));
                      const T *dy = c.in[1].as<T>() + n * g.h.out * g.w.out * g.filters,
                              *k = c.in[0].as<T>();
                      taps(g, [&](int64_t o, int64_t i, int64_t t) {
                        for (int64_t gr = 0; gr < g.groups; ++gr)
                          for (int64_t l = 0; l < ci; ++l) {
                            const T *w = k + (t * ci + l) * g.filters + gr * fo,
                                    *d = dy + o * g.filters + gr * fo;
                            C s = 0;
                            for (int64_t f = 0; f < fo; ++f) s += C(d[f]) * C(w[f]);
                            sum[size_t(i * g.c + gr * ci + l)] += s;
                          }
                      });
                      for (size_t i = 0; i < sum.size(); ++i)
                        c.out[0].as<T>()[size_t(n) * sum.size() + i] = static_cast<T>(sum[i]);
                    }
                  });
                });
              },
          .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                         const Conv2DAttrs& a) -> Tensors {
            return {conv2d_kernel_grad(g[0], in[1], in[0], a), conv2d(g[0], in[0], a), Tensor()};
          },
          .traits = {.shape_only = 4},
          .cost = [](const CallSig& c, const Conv2DAttrs& a) -> Cost {
            return conv_cost(conv_geometry(c.in[2], c.in[0], a),
                             double(c.in[0].bytes() + c.in[1].bytes() + c.out[0].bytes()));
          },
          .batch = batch_of<Conv2DAttrs, 1>,
          .cases =
              [] {
                auto cases = conv_cases([](Shape x, Shape k,
                                           const Conv2DAttrs& a) -> std::vector<CaseInput> {
                  return {normal(k),
                          normal(conv_output(conv_geometry({DType::f32, x}, {DType::f32, k}, a))),
                          normal(x)};
                });
                cases.emplace_back("dy",
                                   std::vector<CaseInput>{{3, 3, 3, 4}, {1, 5, 5, 4}, {1, 5, 5, 3}},
                                   Conv2DAttrs{}, CaseFlags{.fails = "dy is"});
                return cases;
              }()};
}
Tensor conv2d_input_grad(In kernel, In dy, In x_like, Conv2DAttrs a) {
  return call(conv2d_input_grad_op(), {kernel, dy, x_like}, std::move(a))[0];
}

OP(conv2d_kernel_grad, Conv2DAttrs) {
  return {.summary = "Gradient of conv2d for the kernel",
          .inputs = {{"x", floating, "[n, h, w, c]"},
                     {"dy", floating, "[n, oh, ow, filters]"},
                     {"kernel_like", floating,
                      "[kh, kw, c / groups, filters]; only its shape is read"}},
          .outputs = {{"dkernel", "like kernel_like"}},
          .shape = [](std::span<const Sig> in, const Conv2DAttrs& a) -> Sigs {
            check_conv_grad(in[1], conv_geometry(in[0], in[2], a), in[0]);
            return {in[2]};
          },
          .loop =
              [](const Call& c, const Conv2DAttrs& a) {
                if (nothing(c)) return;
                const ConvGeometry g = conv_geometry(*c.in[0].sig, *c.in[2].sig, a);
                const int64_t ci = g.c / g.groups, fo = g.filters / g.groups;
                floats(c.in[0].dtype(), [&](auto zero) {
                  using T = decltype(zero);
                  using C = compute_t<T>;
                  std::vector<C> sum(size_t(c.out[0].count()));
                  for (int64_t n = 0; n < g.n; ++n) {
                    const T *x = c.in[0].as<T>() + n * g.h.in * g.w.in * g.c,
                            *dy = c.in[1].as<T>() + n * g.h.out * g.w.out * g.filters;
                    taps(g, [&](int64_t o, int64_t i, int64_t t) {
                      for (int64_t gr = 0; gr < g.groups; ++gr)
                        for (int64_t l = 0; l < ci; ++l) {
                          const C v = C(x[i * g.c + gr * ci + l]);
                          const T* d = dy + o * g.filters + gr * fo;
                          C* w = sum.data() + (t * ci + l) * g.filters + gr * fo;
                          for (int64_t f = 0; f < fo; ++f) w[f] += v * C(d[f]);
                        }
                    });
                  }
                  for (size_t i = 0; i < sum.size(); ++i)
                    c.out[0].as<T>()[i] = static_cast<T>(sum[i]);
                });
              },
          .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                         const Conv2DAttrs& a) -> Tensors {
            return {conv2d_input_grad(g[0], in[1], in[0], a), conv2d(in[0], g[0], a), Tensor()};
          },
          .traits = {.shape_only = 4, .keeps_float32 = true},
          .cost = [](const CallSig& c, const Conv2DAttrs& a) -> Cost {
            return conv_cost(conv_geometry(c.in[0], c.in[2], a),
                             double(c.in[0].bytes() + c.in[1].bytes() + c.out[0].bytes()));
          },
          .batch = batch_of<Conv2DAttrs, 4, BatchRule::sum>,
          .cases =
              [] {
                auto cases = conv_cases([](Shape x, Shape k,
                                           const Conv2DAttrs& a) -> std::vector<CaseInput> {
                  return {normal(x),
                          normal(conv_output(conv_geometry({DType::f32, x}, {DType::f32, k}, a))),
                          normal(k)};
                });
                cases.emplace_back("dy",
                                   std::vector<CaseInput>{{1, 5, 5, 3}, {1, 5, 5, 4}, {3, 3, 3, 4}},
                                   Conv2DAttrs{}, CaseFlags{.fails = "dy is"});
                return cases;
              }()};
}
Tensor conv2d_kernel_grad(In x, In dy, In kernel_like, Conv2DAttrs a) {
  return call(conv2d_kernel_grad_op(), {x, dy, kernel_like}, std::move(a))[0];
}

}  // namespace evenflow
