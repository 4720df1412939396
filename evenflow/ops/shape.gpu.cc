// SPDX-License-Identifier: Apache-2.0
// Moving elements on GPUs: an operation that rearranges is a few copies of boxes by strides.
#include <bit>
#include <cstring>
#include <functional>
#include <map>

#include "evenflow/ops/gpu_call.h"

namespace evenflow {
namespace {
using gpu::Grid;
using gpu::Launcher;

using gpu::Box;
struct Copy {
  size_t input = 0;
  Box box;
};
struct Copies {
  std::vector<Copy> list;
  std::optional<double> background;  ///< what the copies leave out
};
using Attrs = std::vector<AttrValue>;
const std::vector<int64_t>& numbers(const Attrs& a, size_t i) {
  return std::get<std::vector<int64_t>>(a[i]);
}
int64_t base(std::span<const int64_t> begin, std::span<const int64_t> strides) {
  int64_t at = 0;
  for (size_t d = 0; d < strides.size(); ++d) at += begin[d] * strides[d];
  return at;
}
// The part of `whole` that begins there: taken out, or put in.
Copy part(const Shape& whole, const Shape& small, std::span<const int64_t> begin, bool out) {
  const auto w = whole.strides(), s = small.strides();
  Copy c{0, out ? gpu_box(small, s, w) : gpu_box(small, w, s)};
  (out ? c.box.from_base : c.box.to_base) = base(begin, w);
  return c;
}
// Where along an axis a part of a concatenation begins: behind those whose shapes follow.
std::vector<int64_t> behind(std::span<const Sig> before, int rank, int axis) {
  std::vector<int64_t> begin(size_t(rank), 0);
  for (auto& s : before) begin[size_t(axis)] += s.shape[axis];
  return begin;
}
int axis_in(const Attrs& a, const Shape& s) { return s.resolve(int(std::get<int64_t>(a[0]))); }

using Rule = Copies (*)(std::span<const Sig> in, const Sig& out, const Attrs& a);
const std::map<std::string_view, Rule>& rules() {
  static const std::map<std::string_view, Rule> r{
      {"transpose",
       [](std::span<const Sig> in, const Sig& out, const Attrs& a) -> Copies {
         const auto& perm = numbers(a, 0);
         const auto x = in[0].shape.strides();
         std::vector<int64_t> from;
         for (int d = 0; d < out.shape.rank(); ++d)
           from.push_back(x[size_t(perm.empty() ? out.shape.rank() - 1 - d
                                                : in[0].shape.resolve(int(perm[size_t(d)])))]);
         return {{{0, gpu_box(out.shape, out.shape.strides(), from)}}, {}};
       }},
      {"reverse",
       [](std::span<const Sig> in, const Sig& out, const Attrs& a) -> Copies {
         auto from = in[0].shape.strides();
         int64_t first = 0;
         for (int64_t axis : numbers(a, 0)) {
           const int d = in[0].shape.resolve(int(axis));
           first += (in[0].shape[d] - 1) * from[size_t(d)];
           from[size_t(d)] *= -1;
         }
         Copy c{0, gpu_box(out.shape, out.shape.strides(), from)};
         c.box.from_base = first;
         return {{c}, {}};
       }},
      {"slice",
       [](std::span<const Sig> in, const Sig& out, const Attrs& a) -> Copies {
         return {{part(in[0].shape, out.shape, numbers(a, 0), true)}, {}};
       }},
      {"slice_like",
       [](std::span<const Sig> in, const Sig& out, const Attrs& a) -> Copies {
         return {{part(in[0].shape, out.shape, numbers(a, 0), true)}, {}};
       }},
      {"slice_place",
       [](std::span<const Sig> in, const Sig& out, const Attrs& a) -> Copies {
         return {{part(out.shape, in[0].shape, numbers(a, 0), false)}, 0.0};
       }},
      {"pad",
       [](std::span<const Sig> in, const Sig& out, const Attrs& a) -> Copies {
         std::vector<int64_t> begin;
         for (size_t i = 0; i < numbers(a, 0).size(); i += 2) begin.push_back(numbers(a, 0)[i]);
         return {{part(out.shape, in[0].shape, begin, false)}, std::get<double>(a[1])};
       }},
      {"concat",
       [](std::span<const Sig> in, const Sig& out, const Attrs& a) -> Copies {
         Copies r;
         for (size_t i = 0; i < in.size(); ++i) {
           const auto begin = behind(in.first(i), out.shape.rank(), axis_in(a, out.shape));
           r.list.push_back(part(out.shape, in[i].shape, begin, false));
           r.list.back().input = i;
         }
         return r;
       }},
      {"concat_part",
       [](std::span<const Sig> in, const Sig& out, const Attrs& a) -> Copies {
         const auto begin = behind(in.subspan(2), out.shape.rank(), axis_in(a, out.shape));
         return {{part(in[0].shape, out.shape, begin, true)}, {}};
       }},
      {"concat_place",
       [](std::span<const Sig> in, const Sig& out, const Attrs& a) -> Copies {
         const auto begin = behind(in.subspan(2), out.shape.rank(), axis_in(a, out.shape));
         return {{part(out.shape, in[0].shape, begin, false)}, 0.0};
       }},
  };
  return r;
}

gpu::Defines types(DType element, DType index = DType::i64) {
  return {{"T", gpu_type(element)}, {"I", gpu_type(index)}};
}
constexpr const char* kFile = "ops/shape.gpu.h";
// A value as the bytes of an element.
std::array<char, 8> bytes_of(double v, DType d) {
  std::array<char, 8> r{};
  std::memcpy(r.data(), constant({v}, {}, d).data(), size_t(size_of(d)));
  return r;
}
// Launches `fill` with a value of any type.
struct Fill {
  gpu::KernelPtr kernel;
  std::array<char, 8> value;
  int64_t size;
  Fill(Accelerator* on, double v, DType d)
      : kernel(gpu::gpu_of(on).compile(gpu::source_of(kFile, types(d)), "fill")),
        value(bytes_of(v, d)),
        size(size_of(d)) {}
  void operator()(Accelerator* on, void* to, int64_t n) const {
    if (!n) return;
    const gpu::Arg args[] = {{&to, sizeof to}, {value.data(), size_t(size)}, {&n, sizeof n}};
    gpu::gpu_of(on).launch(*kernel, grid_for(on, n), args);
  }
};

std::optional<KernelDef> moves(const OpDef& op) {
  const auto it = rules().find(op.name);
  if (it == rules().end()) return {};
  KernelDef k;
  k.name = "gpu_copies";
  k.prepare = [&op, rule = it->second](const CallSig& s, const void* attrs) -> Prepared {
    const Copies copies = rule(s.in, s.out[0], op.get_attrs(attrs));
    const Launcher copy(s.on, kFile, "copy", types(s.out[0].dtype));
    const int64_t count = s.out[0].shape.count();
    std::optional<Fill> fill;
    if (copies.background) fill.emplace(s.on, *copies.background, s.out[0].dtype);
    return {[=](const Call& c) {
      if (fill) (*fill)(c.on, c.out[0].data, count);
      for (auto& x : copies.list)
        if (x.box.count)
          copy(c.on, grid_for(c.on, x.box.count), c.in[x.input].data, c.out[0].data, x.box);
    }};
  };
  return k;
}
const GenericKernelEntry moves_entry{moves, true};

// Operations whose attributes are their own.
using Prepare = Prepared (*)(const CallSig& s, const Attrs& a);
const std::map<std::string_view, Prepare>& others() {
  static const std::map<std::string_view, Prepare> r{
      {"tile",
       [](const CallSig& s, const Attrs&) -> Prepared {
         const Shape &x = s.in[0].shape, &y = s.out[0].shape;
         std::vector<int64_t> extents(x.begin(), x.end());
         const Box b = gpu_box(y, extents, x.strides());
         const Launcher repeat(s.on, kFile, "repeat", types(s.out[0].dtype));
         return {[=](const Call& c) {
           if (b.count) repeat(c.on, grid_for(c.on, b.count), c.in[0].data, c.out[0].data, b);
         }};
       }},
      {"fill_like",
       [](const CallSig& s, const Attrs& a) -> Prepared {
         const Fill fill(s.on, std::get<double>(a[0]), s.out[0].dtype);
         return {[fill](const Call& c) { fill(c.on, c.out[0].data, c.out[0].count()); }};
       }},
      {"count_like",
       [](const CallSig& s, const Attrs&) -> Prepared {
         const int64_t x = s.in[0].shape.count(), like = s.in[1].shape.count();
         const Fill fill(s.on, like ? double(x / like) : 0, DType::f32);
         return {[fill](const Call& c) { fill(c.on, c.out[0].data, 1); }};
       }},
      {"gather",
       [](const CallSig& s, const Attrs& a) -> Prepared {
         const Shape& x = s.in[0].shape;
         const AlongAxis e = along_axis(x, x.resolve(int(std::get<int64_t>(a[0]))));
         const int64_t m = s.in[1].shape.count(), total = e.outer * m * e.inner;
         const Launcher gather(s.on, kFile, "gather", types(s.in[0].dtype, s.in[1].dtype));
         return {[=](const Call& c) {
           if (total)
             gather(c.on, grid_for(c.on, total), c.in[0].data, c.in[1].data, c.out[0].data,
                    gpu::gpu_of(c.on).errors(), e.outer, e.extent, e.inner, m);
         }};
       }},
  };
  return r;
}
Prepared one_hot(const CallSig& s, double on, double off) {
  const Shape& y = s.out[0].shape;
  const int64_t depth = y[y.rank() - 1], count = s.in[0].shape.count();
  const DType d = s.out[0].dtype;
  const auto kernel =
      gpu::gpu_of(s.on).compile(gpu::source_of(kFile, types(d, s.in[0].dtype)), "one_hot");
  return {[=, yes = bytes_of(on, d), no = bytes_of(off, d)](const Call& c) {
    if (!count || !depth) return;
    const size_t size = size_t(size_of(d));
    const gpu::Arg args[] = {{&c.in[0].data, sizeof(void*)},
                             {&c.out[0].data, sizeof(void*)},
                             {&count, sizeof count},
                             {&depth, sizeof depth},
                             {yes.data(), size},
                             {no.data(), size}};
    gpu::gpu_of(c.on).launch(*kernel, grid_for(c.on, count * depth), args);
  }};
}
std::optional<KernelDef> own(const OpDef& op) {
  KernelDef k;
  k.name = "gpu_elements";
  if (const auto it = others().find(op.name); it != others().end())
    k.prepare = [&op, prepare = it->second](const CallSig& s, const void* attrs) {
      return prepare(s, op.get_attrs(attrs));
    };
  else if (op.name == "one_hot")
    k.prepare = [&op](const CallSig& s, const void* attrs) {
      const Attrs a = op.get_attrs(attrs);
      return one_hot(s, std::get<double>(a[1]), std::get<double>(a[2]));
    };
  else if (op.name == "one_hot_like")
    k.prepare = [](const CallSig& s, const void*) { return one_hot(s, 1, 0); };
  else
    return {};
  return k;
}
const GenericKernelEntry own_entry{own, true};

}  // namespace
}  // namespace evenflow
