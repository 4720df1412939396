// SPDX-License-Identifier: Apache-2.0
#include "evenflow/ops/winograd.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "evenflow/core/floating.h"
#include "evenflow/core/parallel.h"
#include "evenflow/graph/op.h"
#include "evenflow/ops/conv_geometry.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/winograd_plan.h"
#include "evenflow/ops/winograd_rules.h"

namespace evenflow {

WinogradMatrix WinogradMatrix::transposed() const {
  WinogradMatrix t{columns, rows, {}};
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < columns; ++j) t.at[j * rows + i] = at[i * columns + j];
  return t;
}

// The points of F(4x4) are 0, -a, a, -b, b and infinity, with a^2 = 1/2 and b^2 = 2: rounding hurts
// a fourth as much as with the usual 1 and 2.
const WinogradMatrices& winograd_matrices(int64_t tile) {
  static const double a = std::sqrt(0.5), b = std::sqrt(2.0);
  static const WinogradMatrices four = {{6, 6, {1, 0,      -2.5, 0,    1, 0,  //
                                                0, -2 * a, -2,   a,    1, 0,  //
                                                0, 2 * a,  -2,   -a,   1, 0,  //
                                                0, -b / 2, -0.5, b,    1, 0,  //
                                                0, b / 2,  -0.5, -b,   1, 0,  //
                                                0, 1,      0,    -2.5, 0, 1}},
                                        {6,
                                         3,
                                         {1, 0, 0,                       //
                                          -2. / 3, -2 * a / 3, -1. / 3,  //
                                          -2. / 3, 2 * a / 3, -1. / 3,   //
                                          1. / 6, b / 6, 1. / 3,         //
                                          1. / 6, -b / 6, 1. / 3,        //
                                          0, 0, 1}},
                                        {4, 6, {1, 1,     1,      1,     1,      0,  //
                                                0, a,     -a,     b,     -b,     0,  //
                                                0, 0.5,   0.5,    2,     2,      0,  //
                                                0, a / 2, -a / 2, 2 * b, -2 * b, 1}}};
  static const WinogradMatrices two = {{4,
                                        4,
                                        {1, 0, -1, 0,  //
                                         0, 1, 1, 0,   //
                                         0, -1, 1, 0,  //
                                         0, 1, 0, -1}},
                                       {4,
                                        3,
                                        {1, 0, 0,         //
                                         0.5, 0.5, 0.5,   //
                                         0.5, -0.5, 0.5,  //
                                         0, 0, 1}},
                                       {2,
                                        4,
                                        {1, 1, 1, 0,  //
                                         0, 1, -1, -1}}};
  return tile == 4 ? four : two;
}

// Cycles of vectors of 16 lanes, about as measured (bench/conv_bench.cc): a multiplication counts
// 1, a transform 6 a vector; u comes from the second, the third cache or memory with 24, 8 or 2.5
// bytes.
int64_t winograd_tile(int64_t n, int64_t h, int64_t w, int64_t ci, int64_t co) {
  constexpr int64_t kLanes = 16;
  if (ci < kLanes || co < kLanes || n < 1 || h < 1 || w < 1) return 0;
  const double images = double(n), pairs = double(ci) * double(co) / kLanes;
  double best = 0.9 * 9 * images * double(h) * double(w) * pairs / 0.92;
  int64_t r = 0;
  for (int64_t tile : {4, 2}) {
    const double points = double((tile + 2) * (tile + 2));
    const double tiles = images * double((h - 1) / tile + 1) * double((w - 1) / tile + 1);
    const double bytes = points * double(ci) * double(co) * 4;
    const double block = std::min(double(cpu::winograd_block(ci, co)), std::ceil(tiles / 2));
    const double read = std::ceil(tiles / block) * bytes /
                        (bytes < 1e6    ? 24
                         : bytes < 16e6 ? 8
                                        : 2.5);
    const double cycles = tiles * points * (pairs / 0.9 + 6 * double(ci + co) / kLanes) + read;
    if (cycles < best) best = cycles, r = tile;
  }
  return r;
}

namespace {
// What is transformed stays in f32 for images of 16 bits: its rounding would be magnified.
constexpr Types transformed = only(DType::f32, 'U') | only(DType::f64, 'U');

int64_t points_of(int64_t tile) {
  if (tile != 2 && tile != 4) fail({"tile is ", tile, ", expected 2 or 4"});
  return (tile + 2) * (tile + 2);
}
void check_transformed(std::string_view name, const Sig& u, int64_t tile) {
  const int64_t points = points_of(tile);
  if (u.shape.rank() != 3 || u.shape[0] != points)
    fail({name, " is ", str(u), ", expected [", points, ", ci, co] (tile is ", tile, ")"});
}
}  // namespace

WinogradGeometry winograd_geometry(const Sig& x, int64_t co, const WinogradAttrs& a) {
  points_of(a.tile);
  if (x.shape.rank() != 4) fail({"x is ", str(x), ", expected [n, height, width, channels]"});
  const auto [rows, columns] = explicit_padding("explicit", a.paddings);
  for (int64_t p : a.paddings)
    if (p > 2) fail({"paddings has ", p, ", expected 0..2"});
  const Windows h = windows(x.shape[1], 3, 1, 1, "explicit", rows, "height"),
                w = windows(x.shape[2], 3, 1, 1, "explicit", columns, "width");
  const int64_t t = a.tile;
  return {t,     x.shape[0], h.in,     w.in,     x.shape[3],          h.out,
          w.out, co,         h.before, w.before, (h.out + t - 1) / t, (w.out + t - 1) / t};
}
WinogradGeometry winograd_geometry_of(const Sig& x, const Sig& u, const WinogradAttrs& a) {
  check_transformed("u", u, a.tile);
  const WinogradGeometry g = winograd_geometry(x, u.shape[2], a);
  if (u.shape[1] != g.ci)
    fail({"u is ", str(u), ", expected ", g.ci, " on axis 1 (channels of x ", str(x), ")"});
  return g;
}

namespace {
Shape y_shape(const WinogradGeometry& g) { return {g.n, g.oh, g.ow, g.co}; }
void check_dy(const Sig& dy, const WinogradGeometry& g, const Sig& x) {
  if (dy.shape != y_shape(g))
    fail({"dy is ", str(dy), ", expected shape ", str(y_shape(g)), " (output for x ", str(x), ")"});
}

// ---- the loops: in f64, of as many channels as lie behind one another --------------------------
using Values = std::vector<double>;

// m t m^T for each channel; t is a square of m.columns.
Values sandwich(const WinogradMatrix& m, const Values& t, int64_t channels) {
  auto product = [&](const Values& in, int64_t outer, int64_t inner) {  // over the middle axis
    Values out(size_t(outer * m.rows * inner));
    for (int64_t o = 0; o < outer; ++o)
      for (int i = 0; i < m.rows; ++i)
        for (int j = 0; j < m.columns; ++j)
          if (const double f = m.at[i * m.columns + j]; f != 0)
            for (int64_t k = 0; k < inner; ++k)
              out[size_t((o * m.rows + i) * inner + k)] +=
                  f * in[size_t((o * m.columns + j) * inner + k)];
    return out;
  };
  return product(product(t, 1, m.columns * channels), m.rows, channels);
}

// A tile of an image [h, w, channels]: its elements at (y0, x0) and on; zero outside.
template <class T, class F>
void each_pixel(T* image, int64_t h, int64_t w, int64_t channels, int64_t y0, int64_t x0,
                int64_t size, F f) {  // f(pixel of the image, number in the tile)
  for (int64_t i = std::max<int64_t>(0, -y0); i < std::min(size, h - y0); ++i)
    for (int64_t j = std::max<int64_t>(0, -x0); j < std::min(size, w - x0); ++j)
      f(image + ((y0 + i) * w + x0 + j) * channels, i * size + j);
}
template <class T>
Values read_tile(const T* image, int64_t h, int64_t w, int64_t channels, int64_t y0, int64_t x0,
                 int64_t size) {
  Values t(size_t(size * size * channels));
  each_pixel(image, h, w, channels, y0, x0, size, [&](const T* from, int64_t k) {
    for (int64_t c = 0; c < channels; ++c) t[size_t(k * channels + c)] = double(from[c]);
  });
  return t;
}

// One convolution of images of type T with a transformed kernel of type U: the tiles of its images.
template <class T, class U = T>
struct Loop {
  const WinogradGeometry& g;
  const WinogradMatrices& m = winograd_matrices(g.tile);
  const int64_t size = g.tile + 2, points = size * size;

  template <class F>
  void each_tile(F f) const {
    for (int64_t ty = 0; ty < g.tiles_y; ++ty)
      for (int64_t tx = 0; tx < g.tiles_x; ++tx) f(ty * g.tile, tx * g.tile);
  }
  Values input(const T* x, int64_t y0, int64_t x0) const {  // V [points, ci]
    return sandwich(m.input, read_tile(x, g.h, g.w, g.ci, y0 - g.top, x0 - g.left, size), g.ci);
  }
  Values output_grad(const T* dy, int64_t y0, int64_t x0) const {  // [points, co]
    return sandwich(m.output.transposed(), read_tile(dy, g.oh, g.ow, g.co, y0, x0, g.tile), g.co);
  }
  void forward(const T* x, const U* u, T* y) const {
    each_tile([&](int64_t y0, int64_t x0) {
      const Values v = input(x, y0, x0);
      Values sum(size_t(points * g.co));
      for (int64_t p = 0; p < points; ++p)
        for (int64_t i = 0; i < g.ci; ++i)
          for (int64_t o = 0; o < g.co; ++o)
            sum[size_t(p * g.co + o)] +=
                v[size_t(p * g.ci + i)] * double(u[(p * g.ci + i) * g.co + o]);
      const Values t = sandwich(m.output, sum, g.co);
      each_pixel(y, g.oh, g.ow, g.co, y0, x0, g.tile, [&](T* to, int64_t k) {
        for (int64_t o = 0; o < g.co; ++o) to[o] = T(t[size_t(k * g.co + o)]);
      });
    });
  }
  void kernel_grad(const T* x, const T* dy, Values& du) const {
    each_tile([&](int64_t y0, int64_t x0) {
      const Values v = input(x, y0, x0), d = output_grad(dy, y0, x0);
      for (int64_t p = 0; p < points; ++p)
        for (int64_t i = 0; i < g.ci; ++i)
          for (int64_t o = 0; o < g.co; ++o)
            du[size_t((p * g.ci + i) * g.co + o)] +=
                v[size_t(p * g.ci + i)] * d[size_t(p * g.co + o)];
    });
  }
  void input_grad(const U* u, const T* dy, T* dx) const {
    Values sum(size_t(g.h * g.w * g.ci));
    each_tile([&](int64_t y0, int64_t x0) {
      const Values d = output_grad(dy, y0, x0);
      Values v(size_t(points * g.ci));
      for (int64_t p = 0; p < points; ++p)
        for (int64_t i = 0; i < g.ci; ++i)
          for (int64_t o = 0; o < g.co; ++o)
            v[size_t(p * g.ci + i)] +=
                d[size_t(p * g.co + o)] * double(u[(p * g.ci + i) * g.co + o]);
      const Values t = sandwich(m.input.transposed(), v, g.ci);
      each_pixel(sum.data(), g.h, g.w, g.ci, y0 - g.top, x0 - g.left, size,
                 [&](double* to, int64_t k) {
                   for (int64_t c = 0; c < g.ci; ++c) to[c] += t[size_t(k * g.ci + c)];
                 });
    });
    for (size_t i = 0; i < sum.size(); ++i) dx[i] = T(sum[i]);
  }
};

// f(zero of the images' type, zero of the transformed kernel's)
template <class F>
void each_type(const Sig& image, const Sig& u, F f) {
  visit_floating(image.dtype, [&](auto t) { visit_sums(u.dtype, [&](auto v) { f(t, v); }); });
}
// Whether there is nothing to sum; then the result is zero.
bool nothing(const Call& c) {
  bool empty = c.out[0].count() == 0;
  for (const View& v : c.in) empty = empty || v.count() == 0;
  if (empty && c.out[0].count()) std::memset(c.out[0].data, 0, size_t(c.out[0].sig->bytes()));
  return empty;
}
// f(image) for all images, on several threads.
template <class F>
void each_image(const WinogradGeometry& g, F f) {
  parallel_for(g.n, 1, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) f(n);
  });
}

// ---- the transform of the kernel: each pair of channels is a channel of the loops --------------
// Turned by 180 degrees: the last tap first.
Values turned(const Values& kernel, int64_t pairs) {
  Values r(kernel.size());
  for (int64_t k = 0; k < 9; ++k)
    std::copy_n(kernel.begin() + (8 - k) * pairs, pairs, r.begin() + k * pairs);
  return r;
}
// Channels swapped: [points, rows, columns] -> [points, columns, rows].
Values swapped(const Values& u, int64_t points, int64_t rows, int64_t columns) {
  Values r(u.size());
  for (int64_t p = 0; p < points; ++p)
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j)
        r[size_t((p * columns + j) * rows + i)] = u[size_t((p * rows + i) * columns + j)];
  return r;
}
template <class T>
void transform_kernel(const T* kernel, int64_t ci, int64_t co, const WinogradKernelAttrs& a,
                      T* out) {
  Values k(kernel, kernel + 9 * ci * co);
  if (a.flip) k = turned(k, ci * co);
  Values u = sandwich(winograd_matrices(a.tile).kernel, k, ci * co);
  if (a.flip) u = swapped(u, points_of(a.tile), ci, co);
  std::transform(u.begin(), u.end(), out, [](double v) { return T(v); });
}
template <class T>
void transform_kernel_grad(const T* du, int64_t ci, int64_t co, const WinogradKernelAttrs& a,
                           T* out) {
  const int64_t points = points_of(a.tile);
  Values u(du, du + points * ci * co);
  if (a.flip) u = swapped(u, points, co, ci);
  Values k = sandwich(winograd_matrices(a.tile).kernel.transposed(), u, ci * co);
  if (a.flip) k = turned(k, ci * co);
  std::transform(k.begin(), k.end(), out, [](double v) { return T(v); });
}

// What it multiplies itself, at 4x4 a quarter of the direct convolution's; transforms apart.
Cost winograd_cost(const WinogradGeometry& g, double bytes) {
  return {bytes, 2. * double(g.points()) * double(g.tiles()) * double(g.ci) * double(g.co)};
}

// x, u and attributes; what an operation takes of them is its own affair.
std::vector<Op<WinogradAttrs>::Case> winograd_cases(std::vector<CaseInput> (*make)(Shape x, Shape u,
                                                                                   Shape y)) {
  std::vector<Op<WinogradAttrs>::Case> cases;
  auto add = [&](std::string_view name, Shape x, int64_t co, WinogradAttrs a, CaseFlags f = {}) {
    const Shape u = {points_of(a.tile), x[3], co};
    const WinogradGeometry g = winograd_geometry({DType::f32, x}, co, a);
    cases.emplace_back(name, make(x, u, y_shape(g)), a, f);
  };
  for (int64_t tile : {4, 2}) {
    const bool four = tile == 4;
    add(four ? "same" : "same_2", {2, 5, 6, 3}, 4, {.tile = tile});
    add(four ? "valid" : "valid_2", {1, 7, 10, 2}, 3, {tile, {0, 0, 0, 0}});
    add(four ? "whole" : "whole_2", {1, 8, 4, 16}, 16, {.tile = tile});
    add(four ? "tails" : "tails_2", {1, 3, 5, 17}, 19, {tile, {2, 0, 1, 2}});
    add(four ? "full" : "full_2", {2, 2, 3, 5}, 33, {tile, {2, 2, 2, 2}});
    add(four ? "pixel" : "pixel_2", {1, 1, 1, 1}, 1, {.tile = tile});
  }
  add("many", {3, 9, 6, 8}, 24, {.paddings = {0, 1, 2, 1}});
  add("wide", {1, 5, 3, 70}, 65, {});
  add("empty", {0, 5, 6, 3}, 4, {});
  add("resnet20_a", {128, 32, 32, 16}, 16, {}, {.bench = true});
  add("resnet20_b", {128, 16, 16, 32}, 32, {}, {.bench = true});
  add("resnet20_c", {128, 8, 8, 64}, 64, {}, {.bench = true});
  add("resnet50_a", {8, 56, 56, 64}, 64, {}, {.bench = true});
  add("resnet50_b", {4, 28, 28, 128}, 128, {}, {.bench = true});
  return cases;
}
std::vector<Op<WinogradKernelAttrs>::Case> kernel_cases(bool transformed) {
  using A = WinogradKernelAttrs;
  std::vector<Op<A>::Case> cases;
  auto add = [&](std::string_view name, int64_t ci, int64_t co, A a, CaseFlags f = {}) {
    Shape s = {3, 3, ci, co};
    if (transformed)
      s = a.flip ? Shape{points_of(a.tile), co, ci} : Shape{points_of(a.tile), ci, co};
    cases.emplace_back(name, std::vector<CaseInput>{normal(s)}, a, f);
  };
  add("plain", 3, 4, {});
  add("flipped", 3, 4, {.flip = true});
  add("tails", 17, 35, {});
  add("tails_flipped", 35, 18, {.flip = true});
  add("two", 5, 16, {.tile = 2});
  add("two_flipped", 16, 5, {.tile = 2, .flip = true});
  add("empty", 0, 4, {});
  add("bench", 64, 64, {}, {.bench = true});
  add("bench_flipped", 64, 64, {.flip = true}, {.bench = true});
  return cases;
}
}  // namespace

OP(winograd_kernel, WinogradKernelAttrs) {
  return {
      .summary = "A 3x3 kernel as winograd_conv2d takes it",
      .doc =
          "u[(i, j)] = sum over taps of G[i, a] kernel[a, b] G[j, b], for each pair of channels.",
      .inputs = {{"kernel", transformed, "[3, 3, ci, co]"}},
      .outputs = {{"u", "[(tile + 2)^2, ci, co]; if flipped [(tile + 2)^2, co, ci]"}},
      .shape = [](std::span<const Sig> in, const WinogradKernelAttrs& a) -> Sigs {
        const Shape& k = in[0].shape;
        const int64_t points = points_of(a.tile);
        if (k.rank() != 4 || k[0] != 3 || k[1] != 3)
          fail({"kernel is ", str(in[0]), ", expected [3, 3, ci, co]"});
        return {{in[0].dtype, a.flip ? Shape{points, k[3], k[2]} : Shape{points, k[2], k[3]}}};
      },
      .loop =
          [](const Call& c, const WinogradKernelAttrs& a) {
            const Shape& k = c.in[0].shape();
            visit_sums(c.in[0].dtype(), [&](auto zero) {
              using T = decltype(zero);
              transform_kernel(c.in[0].as<T>(), k[2], k[3], a, c.out[0].as<T>());
            });
          },
      .gradient = [](const Tensors&, const Tensors&, const Tensors& g, const WinogradKernelAttrs& a)
          -> Tensors { return {winograd_kernel_grad(g[0], a)}; },
      .cases =
          [] {
            auto cases = kernel_cases(false);
            cases.emplace_back("five", std::vector<CaseInput>{{5, 5, 3, 4}}, WinogradKernelAttrs{},
                               CaseFlags{.fails = "expected [3, 3, ci, co]"});
            cases.emplace_back("tile", std::vector<CaseInput>{{3, 3, 3, 4}},
                               WinogradKernelAttrs{.tile = 6},
                               CaseFlags{.fails = "expected 2 or 4"});
            return cases;
          }()};
}
Tensor winograd_kernel(In kernel, WinogradKernelAttrs a) {
  return call(winograd_kernel_op(), {kernel}, a)[0];
}

OP(winograd_kernel_grad, WinogradKernelAttrs) {
  return {
      .summary = "Gradient of winograd_kernel",
      .inputs = {{"du", transformed, "[(tile + 2)^2, ci, co]; if flipped [(tile + 2)^2, co, ci]"}},
      .outputs = {{"dkernel", "[3, 3, ci, co]"}},
      .shape = [](std::span<const Sig> in, const WinogradKernelAttrs& a) -> Sigs {
        check_transformed("du", in[0], a.tile);
        const Shape& u = in[0].shape;
        return {{in[0].dtype, a.flip ? Shape{3, 3, u[2], u[1]} : Shape{3, 3, u[1], u[2]}}};
      },
      .loop =
          [](const Call& c, const WinogradKernelAttrs& a) {
            const Shape& k = c.out[0].shape();
            visit_sums(c.in[0].dtype(), [&](auto zero) {
              using T = decltype(zero);
              transform_kernel_grad(c.in[0].as<T>(), k[2], k[3], a, c.out[0].as<T>());
            });
          },
      .gradient = [](const Tensors&, const Tensors&, const Tensors& g, const WinogradKernelAttrs& a)
          -> Tensors { return {winograd_kernel(g[0], a)}; },
      .cases =
          [] {
            auto cases = kernel_cases(true);
            cases.emplace_back("points", std::vector<CaseInput>{{16, 3, 4}}, WinogradKernelAttrs{},
                               CaseFlags{.fails = "expected [36, ci, co]"});
            return cases;
          }()};
}
Tensor winograd_kernel_grad(In du, WinogradKernelAttrs a) {
  return call(winograd_kernel_grad_op(), {du}, a)[0];
}

OP(winograd_conv2d, WinogradAttrs) {
  return {
      .summary = "3x3 convolution of stride 1 by a transformed kernel",
      .doc =
          "Each tile of tile x tile outputs is A^T [sum over ci of u (B^T d B)] A, with d the "
          "(tile + 2) x (tile + 2) inputs below it. With u = winograd_kernel(kernel) it is conv2d, "
          "up to rounding.",
      .inputs = {{"x", floating, "[n, h, w, ci]"}, {"u", transformed, "[(tile + 2)^2, ci, co]"}},
      .outputs = {{"y", "[n, h + top + bottom - 2, w + left + right - 2, co]"}},
      .shape = [](std::span<const Sig> in, const WinogradAttrs& a) -> Sigs {
        return {{in[0].dtype, y_shape(winograd_geometry_of(in[0], in[1], a))}};
      },
      .loop =
          [](const Call& c, const WinogradAttrs& a) {
            if (nothing(c)) return;
            const WinogradGeometry g = winograd_geometry_of(*c.in[0].sig, *c.in[1].sig, a);
            each_type(*c.in[0].sig, *c.in[1].sig, [&](auto image, auto u) {
              using T = decltype(image);
              using U = decltype(u);
              each_image(g, [&](int64_t n) {
                Loop<T, U>{g}.forward(c.in[0].as<T>() + n * g.h * g.w * g.ci, c.in[1].as<U>(),
                                      c.out[0].as<T>() + n * g.oh * g.ow * g.co);
              });
            });
          },
      .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                     const WinogradAttrs& a) -> Tensors {
        return {winograd_conv2d_input_grad(in[1], g[0], in[0], a),
                cast(winograd_conv2d_kernel_grad(in[0], g[0], a), in[1].dtype())};
      },
      .cost = [](const CallSig& c, const WinogradAttrs& a) -> Cost {
        return winograd_cost(winograd_geometry_of(c.in[0], c.in[1], a),
                             double(c.in[0].bytes() + c.in[1].bytes() + c.out[0].bytes()));
      },
      .batch = batch_of<WinogradAttrs, 2>,
      .cases =
          [] {
            auto cases = winograd_cases([](Shape x, Shape u, Shape) -> std::vector<CaseInput> {
              return {normal(x), normal(u)};
            });
            cases.emplace_back("channels", std::vector<CaseInput>{{1, 5, 5, 3}, {36, 2, 4}},
                               WinogradAttrs{}, CaseFlags{.fails = "expected 3 on axis 1"});
            cases.emplace_back("padding", std::vector<CaseInput>{{1, 5, 5, 3}, {36, 3, 4}},
                               WinogradAttrs{.paddings = {1, 3, 1, 1}},
                               CaseFlags{.fails = "expected 0..2"});
            cases.emplace_back("small", std::vector<CaseInput>{{1, 2, 5, 3}, {36, 3, 4}},
                               WinogradAttrs{.paddings = {0, 0, 1, 1}},
                               CaseFlags{.fails = "expected at most 2"});
            return cases;
          }()};
}
Tensor winograd_conv2d(In x, In u, WinogradAttrs a) {
  return call(winograd_conv2d_op(), {x, u}, std::move(a))[0];
}

OP(winograd_conv2d_kernel_grad, WinogradAttrs) {
  return {
      .summary = "Gradient of winograd_conv2d for u",
      .doc = "The sum over tiles of (B^T d B) (A dy A^T), for each pair of channels.",
      .inputs = {{"x", floating, "[n, h, w, ci]"},
                 {"dy", floating, "[n, h + top + bottom - 2, w + left + right - 2, co]"}},
      .outputs = {{"du", "[(tile + 2)^2, ci, co], f32 for 16-bit types"}},
      .shape = [](std::span<const Sig> in, const WinogradAttrs& a) -> Sigs {
        if (in[1].shape.rank() != 4) fail({"dy is ", str(in[1]), ", expected rank 4"});
        const WinogradGeometry g = winograd_geometry(in[0], in[1].shape[3], a);
        check_dy(in[1], g, in[0]);
        return {{sum_dtype(in[0].dtype), Shape{g.points(), g.ci, g.co}}};
      },
      .loop =
          [](const Call& c, const WinogradAttrs& a) {
            if (nothing(c)) return;
            const WinogradGeometry g = winograd_geometry(*c.in[0].sig, c.in[1].shape()[3], a);
            visit_floating(c.in[0].dtype(), [&](auto zero) {
              using T = decltype(zero);
              Values du(size_t(c.out[0].count()));
              for (int64_t n = 0; n < g.n; ++n)
                Loop<T>{g}.kernel_grad(c.in[0].as<T>() + n * g.h * g.w * g.ci,
                                       c.in[1].as<T>() + n * g.oh * g.ow * g.co, du);
              visit_sums(c.out[0].dtype(), [&](auto sum) {
                using U = decltype(sum);
                for (size_t i = 0; i < du.size(); ++i) c.out[0].as<U>()[i] = U(du[i]);
              });
            });
          },
      .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                     const WinogradAttrs& a) -> Tensors {
        return {winograd_conv2d_input_grad(g[0], in[1], in[0], a), winograd_conv2d(in[0], g[0], a)};
      },
      .traits = {.keeps_float32 = true},
      .cost = [](const CallSig& c, const WinogradAttrs& a) -> Cost {
        return winograd_cost(winograd_geometry(c.in[0], c.in[1].shape[3], a),
                             double(c.in[0].bytes() + c.in[1].bytes() + c.out[0].bytes()));
      },
      .batch = batch_of<WinogradAttrs, 0, BatchRule::sum>,
      .cases =
          [] {
            auto cases = winograd_cases([](Shape x, Shape, Shape y) -> std::vector<CaseInput> {
              return {normal(x), normal(y)};
            });
            cases.emplace_back("dy", std::vector<CaseInput>{{1, 5, 5, 3}, {1, 4, 5, 4}},
                               WinogradAttrs{}, CaseFlags{.fails = "dy is"});
            return cases;
          }()};
}
Tensor winograd_conv2d_kernel_grad(In x, In dy, WinogradAttrs a) {
  return call(winograd_conv2d_kernel_grad_op(), {x, dy}, std::move(a))[0];
}

OP(winograd_conv2d_input_grad, WinogradAttrs) {
  return {
      .summary = "Gradient of winograd_conv2d for x",
      .inputs = {{"u", transformed, "[(tile + 2)^2, ci, co]"},
                 {"dy", floating, "[n, h + top + bottom - 2, w + left + right - 2, co]"},
                 {"x_like", floating, "[n, h, w, ci]; only its shape is read"}},
      .outputs = {{"dx", "like x_like"}},
      .shape = [](std::span<const Sig> in, const WinogradAttrs& a) -> Sigs {
        check_dy(in[1], winograd_geometry_of(in[2], in[0], a), in[2]);
        return {in[2]};
      },
      .loop =
          [](const Call& c, const WinogradAttrs& a) {
            if (nothing(c)) return;
            const WinogradGeometry g = winograd_geometry_of(*c.in[2].sig, *c.in[0].sig, a);
            each_type(*c.in[1].sig, *c.in[0].sig, [&](auto image, auto u) {
              using T = decltype(image);
              using U = decltype(u);
              each_image(g, [&](int64_t n) {
                Loop<T, U>{g}.input_grad(c.in[0].as<U>(), c.in[1].as<T>() + n * g.oh * g.ow * g.co,
                                         c.out[0].as<T>() + n * g.h * g.w * g.ci);
              });
            });
          },
      .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                     const WinogradAttrs& a) -> Tensors {
        return {cast(winograd_conv2d_kernel_grad(g[0], in[1], a), in[0].dtype()),
                winograd_conv2d(g[0], in[0], a), Tensor()};
      },
      .traits = {.shape_only = 4},
      .cost = [](const CallSig& c, const WinogradAttrs& a) -> Cost {
        return winograd_cost(winograd_geometry_of(c.in[2], c.in[0], a),
                             double(c.in[0].bytes() + c.in[1].bytes() + c.out[0].bytes()));
      },
      .batch = batch_of<WinogradAttrs, 1>,
      .cases =
          [] {
            auto cases = winograd_cases([](Shape x, Shape u, Shape y) -> std::vector<CaseInput> {
              return {normal(u), normal(y), normal(x)};
            });
            std::erase_if(cases, [](auto& c) { return c.flags.bench; });
            return cases;
          }()};
}
Tensor winograd_conv2d_input_grad(In u, In dy, In x_like, WinogradAttrs a) {
  return call(winograd_conv2d_input_grad_op(), {u, dy, x_like}, std::move(a))[0];
}

}  // namespace evenflow
