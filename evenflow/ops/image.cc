// SPDX-License-Identifier: Apache-2.0
#include "evenflow/ops/image.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "evenflow/core/parallel.h"
#include "evenflow/graph/op.h"
#include "evenflow/ops/compare.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/matmul.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/shape.h"

namespace evenflow {
namespace {
enum class Outside : uint8_t { reflect, wrap, nearest, constant };
Outside outside(const std::string& name) {
  if (name == "reflect") return Outside::reflect;
  if (name == "wrap") return Outside::wrap;
  if (name == "nearest") return Outside::nearest;
  if (name == "constant") return Outside::constant;
  fail({"fill_mode is \"", name.substr(0, 80),
        "\", expected \"reflect\", \"wrap\", \"nearest\" or \"constant\""});
}
// The coordinate inside the image that stands for v, as in scipy.ndimage's geometric_transform.
float inside(float v, int64_t n, Outside mode) {
  if (mode == Outside::constant) return v;
  const float len = float(n), last = len - 1;
  if (mode == Outside::nearest || (v >= 0 && v <= last)) return std::clamp(v, 0.f, last);
  if (n <= 1) return 0;
  if (mode == Outside::reflect) {
    const float twice = 2 * len;
    if (v < 0) {
      if (v < twice) v = twice * std::trunc(-v / twice) + v;
      v = v < -len ? v + twice : -v - 1;
    } else {
      v -= twice * std::trunc(v / twice);
      if (v >= len) v = twice - v - 1;
    }
  } else if (v < 0) {
    v += len * (std::trunc(-v / last) + 1);
  } else {
    v -= len * std::trunc(v / last);
  }
  return std::clamp(v, 0.f, last);
}
// Four pixels and their weights (one, for "nearest"); a pixel outside has index -1.
struct Corners {
  int64_t at[4];
  float weight[4];
  int count;
};
struct Projection {
  const float* t;
  int64_t h, w;
  Outside mode;
  bool near;
  Corners operator()(int64_t y, int64_t x) const {
    Corners c{};
    const float fx = float(x), fy = float(y), k = t[6] * fx + t[7] * fy + 1;
    float px = (t[0] * fx + t[1] * fy + t[2]) / k, py = (t[3] * fx + t[4] * fy + t[5]) / k;
    // Far away lies nothing: the numbers below stay whole numbers of i64.
    constexpr float far = 1e9f;
    if (!(std::fabs(px) < far && std::fabs(py) < far)) {
      c.at[0] = -1, c.weight[0] = 1, c.count = 1;
      return c;
    }
    px = inside(px, w, mode), py = inside(py, h, mode);
    auto pixel = [&](float r, float q) {
      return r >= 0 && r < float(h) && q >= 0 && q < float(w) ? int64_t(r) * w + int64_t(q) : -1;
    };
    if (near) {
      c.at[0] = pixel(std::round(py), std::round(px)), c.weight[0] = 1, c.count = 1;
      return c;
    }
    const float y0 = std::floor(py), x0 = std::floor(px), y1 = y0 + 1, x1 = x0 + 1;
    c.count = 4;
    c.at[0] = pixel(y0, x0), c.weight[0] = (y1 - py) * (x1 - px);
    c.at[1] = pixel(y0, x1), c.weight[1] = (y1 - py) * (px - x0);
    c.at[2] = pixel(y1, x0), c.weight[2] = (py - y0) * (x1 - px);
    c.at[3] = pixel(y1, x1), c.weight[3] = (py - y0) * (px - x0);
    return c;
  }
};
void check_projection(const Sig& x, const Sig& transforms, const ProjectAttrs& a) {
  outside(a.fill_mode);
  if (a.interpolation != "bilinear" && a.interpolation != "nearest")
    fail({"interpolation is \"", a.interpolation.substr(0, 80),
          "\", expected \"bilinear\" or \"nearest\""});
  if (x.shape.rank() != 4) fail({"images is ", str(x), ", expected [n, height, width, channels]"});
  const Shape& t = transforms.shape;
  if (t.rank() != 2 || (t[0] != 1 && t[0] != x.shape[0]) || t[1] != 8)
    fail({"transforms is ", str(transforms), ", expected [", x.shape[0], ", 8] or [1, 8]"});
  for (int64_t d : {x.shape[1], x.shape[2]})
    if (d > 1 << 24) fail({"images is ", str(x), ", expected at most 2^24 rows and columns"});
}
Projection projection(const View& transforms, const Shape& s, int64_t n, const ProjectAttrs& a) {
  return {transforms.as<float>() + (transforms.shape()[0] == 1 ? 0 : n * 8), s[1], s[2],
          outside(a.fill_mode), a.interpolation == "nearest"};
}
template <class F>
void floats(DType d, F f) {
  visit(d, [&](auto zero) {
    if constexpr (!std::is_integral_v<decltype(zero)>) f(zero);
  });
}
// A turn by 30 degrees about the middle of 5 x 4 pixels, and a perspective.
const std::vector<double> kTurn{.866, -.5, .8, .5, .866, -.6, 0, 0},
    kView{1.1, .1, -.7, -.1, .9, .4, .02, -.03}, kFar{3.2, 0, -9.3, 0, -2.7, 11.4, 0, 0};
std::vector<Op<ProjectAttrs>::Case> project_cases(bool gradient) {
  std::vector<Op<ProjectAttrs>::Case> r;
  auto add = [&](std::string_view name, Shape s, CaseInput t, ProjectAttrs a, CaseFlags f = {}) {
    f.no_gradient = true;  // by transforms there is none; image_test.cc has the one by images
    std::vector<CaseInput> in{normal(s), t};
    if (gradient) in.push_back(normal(s));
    r.emplace_back(name, in, a, f);
  };
  for (const char* mode : {"reflect", "wrap", "nearest", "constant"}) {
    add(mode, {2, 4, 5, 3},
        values({2, 8},
               [] {
                 auto v = kTurn;
                 v.insert(v.end(), kFar.begin(), kFar.end());
                 return v;
               }()),
        {.fill_mode = mode, .fill_value = .5});
  }
  add("pixels", {2, 4, 5, 3}, values({1, 8}, kView), {.interpolation = "nearest"});
  add("one", {1, 1, 1, 2}, values({1, 8}, kFar), {});
  add("empty", {0, 4, 5, 3}, values({1, 8}, kTurn), {});
  add("transforms", {2, 4, 5, 3}, values({3, 8}, kTurn), {}, {.fails = "expected [2, 8]"});
  add("mode", {2, 4, 5, 3}, values({1, 8}, kTurn), {.fill_mode = "mirror"},
      {.fails = "expected \"reflect\""});
  if (!gradient)
    add("bench", {8, 224, 224, 3}, values({1, 8}, {.866, -.5, 71, .5, .866, -41, 0, 0}), {},
        {.bench = true});
  return r;
}
}  // namespace

OP(project_images, ProjectAttrs) {
  using A = ProjectAttrs;
  return {
      .summary = "Images turned, moved, scaled, sheared or seen in perspective",
      .doc =
          "Pixel (x, y) of the result is the one at ((a0 x + a1 y + a2) / k, (b0 x + b1 y + b2) "
          "/ k), where k = c0 x + c1 y + 1. The transforms are constants for differentiation.",
      .inputs = {{"images", floating, "[n, h, w, c]"},
                 {"transforms", f32_only, "[n, 8] or [1, 8]: a0, a1, a2, b0, b1, b2, c0, c1"}},
      .outputs = {{"y", "like images"}},
      .shape = [](std::span<const Sig> in, const A& a) -> Sigs {
        check_projection(in[0], in[1], a);
        return {in[0]};
      },
      .loop =
          [](const Call& c, const A& a) {
            const Shape& s = c.in[0].shape();
            if (!s.count()) return;
            floats(c.in[0].dtype(), [&](auto zero) {
              using T = decltype(zero);
              using C = std::conditional_t<std::is_same_v<T, double>, double, float>;
              const int64_t channels = s[3];
              parallel_for(
                  s[0] * s[1], std::max<int64_t>(1, 4096 / s[2]), [&](int64_t b, int64_t e) {
                    for (int64_t r = b; r < e; ++r) {
                      const int64_t n = r / s[1];
                      const Projection of = projection(c.in[1], s, n, a);
                      const T* x = c.in[0].as<T>() + n * s[1] * s[2] * channels;
                      T* y = c.out[0].as<T>() + r * s[2] * channels;
                      for (int64_t q = 0; q < s[2]; ++q, y += channels) {
                        const Corners k = of(r % s[1], q);
                        for (int64_t i = 0; i < channels; ++i) {
                          C sum = 0;
                          for (int j = 0; j < k.count; ++j)
                            sum += C(k.weight[j]) *
                                   (k.at[j] < 0 ? C(a.fill_value) : C(x[k.at[j] * channels + i]));
                          y[i] = static_cast<T>(sum);
                        }
                      }
                    }
                  });
            });
          },
      .gradient = [](const Tensors& in, const Tensors&, const Tensors& g, const A& a) -> Tensors {
        return {call(find_op("project_images_grad"), {in[0], in[1], g[0]}, a)[0], Tensor()};
      },
      .cases = project_cases(false),
  };
}
Tensor project_images(In images, In transforms, ProjectAttrs a) {
  return call(project_images_op(), {images, transforms}, std::move(a))[0];
}
OP(project_images_grad, ProjectAttrs) {
  using A = ProjectAttrs;
  return {
      .summary = "Gradient of project_images by the images",
      .inputs = {{"images", floating, "[n, h, w, c]; only its type and shape are read"},
                 {"transforms", f32_only, "[n, 8] or [1, 8]"},
                 {"dy", floating, "like images"}},
      .outputs = {{"dx", "like images"}},
      .shape = [](std::span<const Sig> in, const A& a) -> Sigs {
        check_projection(in[0], in[1], a);
        if (in[2] != in[0]) fail({"dy is ", str(in[2]), ", expected ", str(in[0]), " (images)"});
        return {in[0]};
      },
      .loop =
          [](const Call& c, const A& a) {
            const Shape& s = c.in[0].shape();
            if (!s.count()) return;
            floats(c.in[0].dtype(), [&](auto zero) {
              using T = decltype(zero);
              const int64_t channels = s[3], size = s[1] * s[2] * channels;
              parallel_for(s[0], 1, [&](int64_t b, int64_t e) {
                std::vector<double> sum(static_cast<size_t>(size));
                for (int64_t n = b; n < e; ++n) {
                  std::fill(sum.begin(), sum.end(), 0.);
                  const Projection of = projection(c.in[1], s, n, a);
                  const T* dy = c.in[2].as<T>() + n * size;
                  for (int64_t p = 0; p < s[1] * s[2]; ++p) {
                    const Corners k = of(p / s[2], p % s[2]);
                    for (int j = 0; j < k.count; ++j)
                      if (k.at[j] >= 0)
                        for (int64_t i = 0; i < channels; ++i)
                          sum[size_t(k.at[j] * channels + i)] +=
                              double(k.weight[j]) * double(compute_t<T>(dy[p * channels + i]));
                  }
                  T* dx = c.out[0].as<T>() + n * size;
                  for (int64_t i = 0; i < size; ++i) dx[i] = static_cast<T>(sum[size_t(i)]);
                }
              });
            });
          },
      .gradient = [](const Tensors& in, const Tensors&, const Tensors& g, const A& a) -> Tensors {
        A zero = a;
        zero.fill_value = 0;
        return {Tensor(), Tensor(), project_images(g[0], in[1], zero)};
      },
      .traits = {.shape_only = 1},
      .cases = project_cases(true),
  };
}

// ---- colours ----
namespace {
template <class A = NoAttrs>
Sigs three_channels(std::span<const Sig> in, const A&) {
  const Shape& s = in[0].shape;
  if (!s.rank() || s.dim(-1) != 3)
    fail({"x is ", str(in[0]), ", expected 3 channels on the last axis"});
  return {in[0]};
}
Tensors channels(const Tensor& x) { return split(x, {1, 1, 1}); }
}  // namespace

OP(rgb_to_hsv, NoAttrs) {
  return {
      .summary = "Red, green and blue as hue, saturation and value",
      .doc =
          "v is the largest, s = (v - smallest) / v, h in turns: 0 is red, 1/3 green, 2/3 blue; "
          "0 for grey (Smith, \"Color gamut transform pairs\", SIGGRAPH 1978).",
      .inputs = {{"x", floating, "[..., 3]"}},
      .outputs = {{"y", "like x"}},
      .shape = three_channels<>,
      .reference = [](const Tensors& in, const NoAttrs&) -> Tensors {
        const Tensors c = channels(in[0]);
        const Tensor &r = c[0], &g = c[1], &b = c[2], v = maximum(maximum(r, g), b),
                     range = v - minimum(minimum(r, g), b), s = divide_no_nan(range, v),
                     six = range * 6;
        Tensor h = select(equal(r, v), divide_no_nan(g - b, six),
                          select(equal(g, v), divide_no_nan(b - r, six) + 1. / 3,
                                 divide_no_nan(r - g, six) + 2. / 3));
        h = select(greater(range, 0), h, fill_like(h, 0));
        return {concat({select(less(h, 0), h + 1, h), select(greater(v, 0), s, fill_like(s, 0)), v},
                       -1)};
      },
      .cases = {{"pixels", {uniform({4, 5, 3}, 0, 1)}},
                {"grey", {values({2, 3}, {.5, .5, .5, 0, 0, 0})}, {}, {.no_gradient = true}},
                {"empty", {{0, 3}}},
                {"channels", {{2, 4}}, {}, {.fails = "expected 3 channels"}}},
  };
}
Tensor rgb_to_hsv(In x) { return call(rgb_to_hsv_op(), {x})[0]; }
OP(hsv_to_rgb, NoAttrs) {
  return {
      .summary = "Hue, saturation and value as red, green and blue",
      .inputs = {{"x", floating, "[..., 3]"}},
      .outputs = {{"y", "like x"}},
      .shape = three_channels<>,
      .reference = [](const Tensors& in, const NoAttrs&) -> Tensors {
        const Tensors c = channels(in[0]);
        const Tensor h = c[0] * 6, &s = c[1], &v = c[2], grey = 1 - s;
        auto colour = [&](const Tensor& ramp) { return (grey + s * clip(ramp, 0., 1.)) * v; };
        return {
            concat({colour(abs(h - 3) - 1), colour(2 - abs(h - 2)), colour(2 - abs(h - 4))}, -1)};
      },
      .cases = {{"pixels", {uniform({4, 5, 3}, 0, 1)}},
                {"empty", {{0, 3}}},
                {"channels", {{2, 4}}, {}, {.fails = "expected 3 channels"}}},
  };
}
Tensor hsv_to_rgb(In x) { return call(hsv_to_rgb_op(), {x})[0]; }
OP(rgb_to_grayscale, NoAttrs) {
  return {
      .summary = "Brightness: 0.2989 r + 0.5870 g + 0.1140 b",
      .inputs = {{"x", floating, "[..., 3], or [..., 1], which stays"}},
      .outputs = {{"y", "[..., 1]"}},
      .shape = [](std::span<const Sig> in, const NoAttrs& a) -> Sigs {
        if (in[0].shape.rank() && in[0].shape.dim(-1) == 1) return {in[0]};
        three_channels(in, a);
        return {{in[0].dtype, in[0].shape.with(-1, 1)}};
      },
      .reference = [](const Tensors& in, const NoAttrs&) -> Tensors {
        if (in[0].sig().shape.dim(-1) == 1) return {identity(in[0])};
        return {
            reduce_sum(in[0] * constant({.2989, .5870, .1140}, {3}, in[0].dtype()), {-1}, true)};
      },
      .cases = {{"pixels", {uniform({4, 5, 3}, 0, 1)}},
                {"grey", {{2, 2, 1}}},
                {"empty", {{0, 3}}},
                {"channels", {{2, 4}}, {}, {.fails = "expected 3 channels"}}},
  };
}
Tensor rgb_to_grayscale(In x) { return call(rgb_to_grayscale_op(), {x})[0]; }

}  // namespace evenflow
