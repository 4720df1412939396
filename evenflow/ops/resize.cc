// SPDX-License-Identifier: Apache-2.0
// Both directions are sparse matrices, so that the gradient is the same loop with them transposed.
#include "evenflow/ops/resize.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "evenflow/core/parallel.h"
#include "evenflow/graph/op.h"

namespace evenflow {
namespace {
constexpr int64_t kMostPixels = 1 << 24;

// What each output place of one axis takes: weights of input places, by rows.
struct Taps {
  explicit Taps(int64_t in) : in(in) {}
  int64_t in = 0, out = 0;
  std::vector<int64_t> begin{0};  // of the taps of an output place
  std::vector<int64_t> from;
  std::vector<double> weight;
  void add(int64_t i, double w) { from.push_back(i), weight.push_back(w); }
  void close() { begin.push_back(int64_t(from.size())), ++out; }
};
Taps transposed(const Taps& t) {
  Taps r(t.out);
  std::vector<std::vector<std::pair<int64_t, double>>> to(size_t(t.in));
  for (int64_t o = 0; o < t.out; ++o)
    for (int64_t k = t.begin[size_t(o)]; k < t.begin[size_t(o) + 1]; ++k)
      to[size_t(t.from[size_t(k)])].emplace_back(o, t.weight[size_t(k)]);
  for (auto& row : to) {
    for (auto [o, w] : row) r.add(o, w);
    r.close();
  }
  return r;
}

double sinc_window(double x, double radius) {  // Lanczos
  constexpr double pi = 3.14159265358979323846;
  if (x > radius) return 0;
  if (x <= 1e-3) return 1;
  return radius * std::sin(pi * x) * std::sin(pi * x / radius) / (pi * pi * x * x);
}
double cubic(double x) {  // Keys 1981, a = -1/2
  if (x >= 2) return 0;
  return x >= 1 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : (1.5 * x - 2.5) * x * x + 1;
}
// A filter of that radius about each place, scaled to a sum of 1. Reduced images widen it where
// they are to be antialiased.
Taps filtered(int64_t in, int64_t out, bool antialias, double radius,
              const std::function<double(double)>& kernel) {
  Taps t(in);
  const double by = double(in) / double(out), wide = antialias ? std::max(by, 1.) : 1;
  std::vector<double> w;
  for (int64_t o = 0; o < out; ++o) {
    const double at = (double(o) + 0.5) * by;
    const int64_t begin = std::max<int64_t>(0, int64_t(std::ceil(at - radius * wide - 0.5))),
                  end = std::min(in - 1, int64_t(std::floor(at + radius * wide - 0.5)));
    double sum = 0;
    w.clear();
    for (int64_t i = begin; i <= end; ++i)
      w.push_back(kernel(std::fabs(double(i) + 0.5 - at) / wide)), sum += w.back();
    for (int64_t i = begin; i <= end; ++i) t.add(i, w[size_t(i - begin)] / sum);
    t.close();
  }
  return t;
}
Taps nearest(int64_t in, int64_t out) {
  Taps t(in);
  const float by = float(in) / float(out);  // f32, so that ties fall as TensorFlow's
  for (int64_t o = 0; o < out; ++o) {
    t.add(std::min(in - 1, int64_t(std::floor((float(o) + 0.5f) * by))), 1);
    t.close();
  }
  return t;
}
Taps bilinear(int64_t in, int64_t out) {
  Taps t(in);
  for (int64_t o = 0; o < out; ++o) {
    const double at =
        std::clamp((double(o) + 0.5) * double(in) / double(out) - 0.5, 0., double(in - 1));
    const int64_t low = int64_t(at);
    const double part = at - double(low);
    t.add(low, 1 - part);
    if (part > 0) t.add(low + 1, part);
    t.close();
  }
  return t;
}
// Positions are rounded to 1/1024 of a pixel, as TensorFlow's table has them; places outside the
// image do not count.
Taps bicubic(int64_t in, int64_t out) {
  Taps t(in);
  for (int64_t o = 0; o < out; ++o) {
    const double at = (double(o) + 0.5) * double(in) / double(out) - 0.5;
    const int64_t low = int64_t(std::floor(at));
    const double part = std::nearbyint((at - double(low)) * 1024) / 1024;
    double sum = 0;
    const size_t first = t.weight.size();
    for (int64_t k = -1; k <= 2; ++k)
      if (low + k >= 0 && low + k < in)
        t.add(low + k, cubic(std::fabs(double(k) - part))), sum += t.weight.back();
    for (size_t i = first; i < t.weight.size(); ++i) t.weight[i] /= sum;
    t.close();
  }
  return t;
}
// The mean of what the output pixel covers.
Taps area(int64_t in, int64_t out) {
  Taps t(in);
  const double by = double(in) / double(out);
  for (int64_t o = 0; o < out; ++o) {
    const double a = double(o) * by, b = double(o + 1) * by;
    for (int64_t i = int64_t(a); i < in && double(i) < b; ++i)
      if (const double w = std::min(b, double(i + 1)) - std::max(a, double(i)); w > 1e-9 * by)
        t.add(i, w / by);
    t.close();
  }
  return t;
}
Taps taps(const std::string& kind, bool antialias, int64_t in, int64_t out) {
  if (kind == "nearest") return nearest(in, out);
  if (kind == "area") return area(in, out);
  if (kind == "lanczos3" || kind == "lanczos5") {
    const double radius = kind == "lanczos3" ? 3 : 5;
    return filtered(in, out, antialias, radius, [=](double x) { return sinc_window(x, radius); });
  }
  if (antialias && kind == "bilinear")
    return filtered(in, out, true, 1, [](double x) { return std::max(0., 1 - x); });
  if (antialias && kind == "bicubic") return filtered(in, out, true, 2, cubic);
  return kind == "bilinear" ? bilinear(in, out) : bicubic(in, out);
}

// y [n, rows.out, columns.out, c] of x [n, rows.in, columns.in, c].
template <class T, class U>
void apply(const T* x, U* y, int64_t n, int64_t c, const Taps& rows, const Taps& columns) {
  using C = std::conditional_t<std::is_same_v<T, double>, double, float>;
  const std::vector<C> rw(rows.weight.begin(), rows.weight.end()),
      cw(columns.weight.begin(), columns.weight.end());
  const int64_t wide = columns.in * c, work = std::max<int64_t>(1, (wide + columns.out * c) * 2);
  parallel_for(n * rows.out, std::max<int64_t>(1, 32768 / work), [&](int64_t b, int64_t e) {
    std::vector<C> row(static_cast<size_t>(wide)), sum(static_cast<size_t>(c));
    for (int64_t r = b; r < e; ++r) {
      const int64_t image = r / rows.out, o = r % rows.out;
      std::fill(row.begin(), row.end(), C(0));
      for (int64_t k = rows.begin[size_t(o)]; k < rows.begin[size_t(o) + 1]; ++k) {
        const T* in = x + (image * rows.in + rows.from[size_t(k)]) * wide;
        const C w = rw[size_t(k)];
        for (int64_t i = 0; i < wide; ++i) row[size_t(i)] += w * C(compute_t<T>(in[i]));
      }
      U* to = y + r * columns.out * c;
      for (int64_t p = 0; p < columns.out; ++p, to += c) {
        std::fill(sum.begin(), sum.end(), C(0));
        for (int64_t k = columns.begin[size_t(p)]; k < columns.begin[size_t(p) + 1]; ++k) {
          const C w = cw[size_t(k)], *in = row.data() + columns.from[size_t(k)] * c;
          for (int64_t i = 0; i < c; ++i) sum[size_t(i)] += w * in[i];
        }
        for (int64_t i = 0; i < c; ++i) to[i] = static_cast<U>(sum[size_t(i)]);
      }
    }
  });
}
// The same for one place each: elements move as they are.
template <class T>
void pick(const T* x, T* y, int64_t n, int64_t c, const Taps& rows, const Taps& columns) {
  parallel_for(n * rows.out, std::max<int64_t>(1, 32768 / std::max<int64_t>(1, columns.out * c)),
               [&](int64_t b, int64_t e) {
                 for (int64_t r = b; r < e; ++r) {
                   const T* in = x + (r / rows.out * rows.in + rows.from[size_t(r % rows.out)]) *
                                         columns.in * c;
                   T* to = y + r * columns.out * c;
                   for (int64_t p = 0; p < columns.out; ++p)
                     to = std::copy_n(in + columns.from[size_t(p)] * c, c, to);
                 }
               });
}

Shape resized(const Shape& x, const ResizeAttrs& a) {
  static const std::vector<std::string> kinds{"bilinear", "nearest",  "bicubic",
                                              "area",     "lanczos3", "lanczos5"};
  if (std::find(kinds.begin(), kinds.end(), a.interpolation) == kinds.end())
    fail({"interpolation is \"", a.interpolation.substr(0, 80),
          "\", expected \"bilinear\", \"nearest\", \"bicubic\", \"area\", \"lanczos3\" or "
          "\"lanczos5\""});
  if (x.rank() != 4 || x[1] < 1 || x[2] < 1)
    fail({"x is ", str(x), ", expected images [n, height, width, channels] with pixels"});
  for (int64_t d : {a.height, a.width})
    if (d < 1 || d > kMostPixels)
      fail({"height and width are ", a.height, " and ", a.width, ", expected from 1 to ",
            kMostPixels});
  for (int64_t d : {x[1], x[2]})
    if (d > kMostPixels) fail({"x is ", str(x), ", expected at most ", kMostPixels, " rows"});
  return {x[0], a.height, a.width, x[3]};
}
DType result_type(DType x, const ResizeAttrs& a) {
  return is_floating(x) || a.interpolation == "nearest" ? x : DType::f32;
}
}  // namespace

OP(resize_images, ResizeAttrs) {
  using A = ResizeAttrs;
  return {
      .summary = "Images of another size, by interpolation",
      .doc =
          "Pixel o of an axis lies at (o + 1/2) in / out - 1/2. \"nearest\" takes the pixel "
          "there, \"bilinear\" and \"bicubic\" (Keys 1981, a = -1/2) weigh its neighbours, "
          "\"area\" averages what it covers, \"lanczos3\" and \"lanczos5\" are windowed sincs.",
      .inputs = {{"x", numeric, "[n, h, w, c]"}},
      .outputs = {{"y", "[n, height, width, c]; f32 for integers, but for \"nearest\""}},
      .shape = [](std::span<const Sig> in, const A& a) -> Sigs {
        return {{result_type(in[0].dtype, a), resized(in[0].shape, a)}};
      },
      .loop =
          [](const Call& c, const A& a) {
            const Shape &in = c.in[0].shape(), &out = c.out[0].shape();
            if (!out.count()) return;
            const Taps rows = taps(a.interpolation, a.antialias, in[1], out[1]),
                       columns = taps(a.interpolation, a.antialias, in[2], out[2]);
            visit(c.in[0].dtype(), [&](auto zero) {
              using T = decltype(zero);
              const T* x = c.in[0].as<T>();
              if (a.interpolation == "nearest")
                pick(x, c.out[0].as<T>(), in[0], in[3], rows, columns);
              else if constexpr (std::is_integral_v<T>)
                apply(x, c.out[0].as<float>(), in[0], in[3], rows, columns);
              else
                apply(x, c.out[0].as<T>(), in[0], in[3], rows, columns);
            });
          },
      .gradient = [](const Tensors& in, const Tensors&, const Tensors& g, const A& a) -> Tensors {
        if (!is_floating(in[0].dtype())) return {Tensor()};
        return {call(find_op("resize_images_grad"), {in[0], g[0]}, a)[0]};
      },
      .batch = batch_of<A>,
      .cases = {{"larger", {{2, 3, 4, 2}}, {5, 7}},
                {"smaller", {{1, 7, 9, 3}}, {3, 4}},
                {"nearest", {{2, 5, 4, 3}}, {7, 3, "nearest"}},
                {"bicubic", {{1, 5, 6, 2}}, {8, 4, "bicubic"}},
                {"area", {{1, 7, 6, 2}}, {3, 4, "area"}},
                {"lanczos3", {{1, 6, 5, 1}}, {4, 9, "lanczos3"}},
                {"lanczos5", {{1, 9, 8, 2}}, {4, 3, "lanczos5", true}},
                {"antialias", {{1, 9, 8, 2}}, {4, 3, "bilinear", true}},
                {"antialias_bicubic", {{1, 9, 8, 2}}, {4, 11, "bicubic", true}},
                {"one", {{1, 1, 1, 3}}, {2, 3}},
                {"empty", {{0, 4, 4, 3}}, {2, 2}},
                {"bench", {{8, 300, 400, 3}}, {224, 224}, {.bench = true, .no_gradient = true}},
                {"size", {{1, 2, 2, 1}}, {0, 3}, {.fails = "expected from 1"}},
                {"kind", {{1, 2, 2, 1}}, {3, 3, "cubic"}, {.fails = "expected \"bilinear\""}},
                {"pixels", {{1, 0, 2, 1}}, {3, 3}, {.fails = "with pixels"}}},
  };
}
Tensor resize_images(In x, ResizeAttrs a) { return call(resize_images_op(), {x}, std::move(a))[0]; }
OP(resize_images_grad, ResizeAttrs) {
  using A = ResizeAttrs;
  return {
      .summary = "Gradient of resize_images",
      .inputs = {{"x", floating, "[n, h, w, c]; only its type and shape are read"},
                 {"dy", floating, "[n, height, width, c]"}},
      .outputs = {{"dx", "like x"}},
      .shape = [](std::span<const Sig> in, const A& a) -> Sigs {
        if (const Shape s = resized(in[0].shape, a); in[1].shape != s)
          fail({"dy is ", str(in[1]), ", expected shape ", str(s)});
        return {in[0]};
      },
      .loop =
          [](const Call& c, const A& a) {
            const Shape &in = c.in[0].shape(), &out = c.in[1].shape();
            if (!in.count()) return;
            const Taps rows = transposed(taps(a.interpolation, a.antialias, in[1], out[1])),
                       columns = transposed(taps(a.interpolation, a.antialias, in[2], out[2]));
            visit(c.in[0].dtype(), [&](auto zero) {
              using T = decltype(zero);
              if constexpr (!std::is_integral_v<T>)
                apply(c.in[1].as<T>(), c.out[0].as<T>(), in[0], in[3], rows, columns);
            });
          },
      .gradient = [](const Tensors&, const Tensors&, const Tensors& g, const A& a) -> Tensors {
        return {Tensor(), resize_images(g[0], a)};
      },
      .traits = {.shape_only = 1},
      .batch = batch_of<A>,
      .cases = {{"larger", {{2, 3, 4, 2}, {2, 5, 7, 2}}, {5, 7}},
                {"smaller", {{1, 7, 9, 3}, {1, 3, 4, 3}}, {3, 4, "bicubic"}},
                {"empty", {{0, 4, 4, 3}, {0, 2, 2, 3}}, {2, 2}},
                {"dy", {{1, 4, 4, 3}, {1, 2, 3, 3}}, {2, 2}, {.fails = "expected shape"}}},
  };
}

}  // namespace evenflow
