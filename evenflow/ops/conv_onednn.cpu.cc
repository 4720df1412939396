// SPDX-License-Identifier: Apache-2.0
// conv2d and its two gradients by oneDNN. Activations stay as they lie, channels last, where the
// library has more than its reference code for that; kernels are brought into the layout that it
// picks, in scratch.
#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <oneapi/dnnl/dnnl.hpp>
#include <optional>
#include <string>
#include <unordered_map>

#include "evenflow/backends/cpu/engine_onednn.h"
#include "evenflow/core/buffer.h"
#include "evenflow/core/parallel.h"
#include "evenflow/graph/op.h"
#include "evenflow/ops/conv_rules.h"

namespace evenflow {
namespace {

using cpu::onednn_engine;
using dnnl::memory;
enum class Pass { forward, input_grad, kernel_grad };
enum Role { kX, kKernel, kY };

dnnl::stream& stream() {
  thread_local dnnl::stream s(onednn_engine());
  return s;
}

// What the library is asked for: a convolution with the geometry, maybe of an image that is thinned
// first.
struct Problem {
  Pass pass;
  DType dtype;
  ConvGeometry g;
  // A window of one element that skips rows or columns: the library's data gradient is slow, and
  // its kernel gradient writes past its memory where channels are fewer than a vector has (its
  // issue 6035). They are made with a dense image, of the rows and columns that are not skipped.
  bool thin = false;
};

Problem problem_of(Pass pass, const CallSig& c, const Conv2DAttrs& a) {
  const Sig& x = pass == Pass::input_grad ? c.in[2] : c.in[0];
  const Sig& kernel = pass == Pass::forward      ? c.in[1]
                      : pass == Pass::input_grad ? c.in[0]
                                                 : c.in[2];
  Problem p{pass, x.dtype, conv_geometry(x, kernel, a)};
  const Windows &h = p.g.h, &w = p.g.w;
  p.thin = pass != Pass::forward && h.size == 1 && w.size == 1 && (h.stride > 1 || w.stride > 1) &&
           h.before + h.after + w.before + w.after == 0;
  return p;
}

memory::data_type type_of(DType d) {
  switch (d) {
    case DType::f32:
      return memory::data_type::f32;
    case DType::bf16:
      return memory::data_type::bf16;
    case DType::f16:
      return memory::data_type::f16;
    default:
      return memory::data_type::undef;
  }
}

// One of x, kernel and y: as the caller has it, and as the library wants it.
struct Operand {
  int arg;
  memory::desc ours, theirs;
  bool converts = false;
  dnnl::reorder reorder = {};
  int64_t at = 0;  // in scratch, where it converts
};

// A convolution ready to run, for a number of threads: the library divides the work when it makes a
// primitive.
struct Made {
  dnnl::primitive conv;
  std::string name;
  Operand operands[3];
  memory::desc pad;
  int64_t pad_at = 0, dense_at = 0, bytes = 0;
};

struct Chosen {
  dnnl::primitive_desc_base pd;
  memory::desc x, kernel, y;
  std::function<dnnl::primitive()> make;
};

template <class P, class D>
Chosen chosen(const D& pd, const memory::desc& x, const memory::desc& kernel,
              const memory::desc& y) {
  return {pd, x, kernel, y, [pd] { return P(pd); }};
}

bool is_reference(const dnnl::primitive_desc_base& pd) {
  const std::string name = pd.impl_info_str();
  return name.find("ref") != std::string::npos;
}

// The library's convolution with x and y as given or in any layout; nothing if it has none.
std::optional<Chosen> choose(const Problem& p, const memory::desc& x, const memory::desc& kernel,
                             const memory::desc& y, memory::dims strides) {
  const ConvGeometry& g = p.g;
  const memory::dims dilations = {g.h.dilation - 1, g.w.dilation - 1},
                     before = {g.h.before, g.w.before}, after = {g.h.after, g.w.after};
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const auto direct = dnnl::algorithm::convolution_direct;
  const auto kind = p.pass == Pass::forward ? dnnl::prop_kind::forward_inference
                                            : dnnl::prop_kind::forward_training;
  const dnnl::convolution_forward::primitive_desc forward(
      onednn_engine(), kind, direct, x, kernel, y, strides, dilations, before, after, attr, true);
  if (!forward) return {};
  if (p.pass == Pass::forward)
    return chosen<dnnl::convolution_forward>(forward, forward.src_desc(), forward.weights_desc(),
                                             forward.dst_desc());
  if (p.pass == Pass::input_grad) {
    const dnnl::convolution_backward_data::primitive_desc pd(onednn_engine(), direct, x, kernel, y,
                                                             strides, dilations, before, after,
                                                             forward, attr, true);
    if (!pd) return {};
    return chosen<dnnl::convolution_backward_data>(pd, pd.diff_src_desc(), pd.weights_desc(),
                                                   pd.diff_dst_desc());
  }
  const dnnl::convolution_backward_weights::primitive_desc pd(onednn_engine(), direct, x, kernel, y,
                                                              strides, dilations, before, after,
                                                              forward, attr, true);
  if (!pd) return {};
  return chosen<dnnl::convolution_backward_weights>(pd, pd.src_desc(), pd.diff_weights_desc(),
                                                    pd.diff_dst_desc());
}

struct Wanted {
  memory::desc x, kernel, y;  // as the caller has them
  std::optional<Chosen> chosen;
};
Wanted want(const Problem& p) {
  const ConvGeometry& g = p.g;
  const auto type = type_of(p.dtype);
  const int64_t ci = g.c / g.groups, fo = g.filters / g.groups;
  const memory::dims x = {g.n, g.c, p.thin ? g.h.out : g.h.in, p.thin ? g.w.out : g.w.in},
                     y = {g.n, g.filters, g.h.out, g.w.out};
  const memory::dims strides = p.thin ? memory::dims{1, 1} : memory::dims{g.h.stride, g.w.stride};
  memory::dims k = {fo, ci, g.h.size, g.w.size},
               steps = {1, g.filters, g.w.size * ci * g.filters, ci * g.filters};
  if (g.groups > 1) k.insert(k.begin(), g.groups), steps.insert(steps.begin(), fo);
  using tag = memory::format_tag;
  Wanted r{{x, type, tag::nhwc}, {k, type, steps}, {y, type, tag::nhwc}, {}};
  const memory::desc any_kernel(k, type, tag::any);
  r.chosen = choose(p, r.x, any_kernel, r.y, strides);
  if (!r.chosen || is_reference(r.chosen->pd))
    r.chosen = choose(p, {x, type, tag::any}, any_kernel, {y, type, tag::any}, strides);
  if (r.chosen && is_reference(r.chosen->pd)) r.chosen.reset();
  return r;
}

[[noreturn]] void rethrow(const dnnl::error& e) {
  fail(e.status == dnnl_out_of_memory ? Code::ResourceExhausted : Code::Internal,
       {"oneDNN: ", e.what()});
}

int64_t rounded(int64_t bytes) {
  return checked_add(bytes, Buffer::kAlignment - 1) / Buffer::kAlignment * Buffer::kAlignment;
}

std::shared_ptr<const Made> make(const Problem& p) {
  const Wanted w = want(p);
  if (!w.chosen) fail(Code::Internal, {"oneDNN has no such convolution"});
  const bool grad = p.pass != Pass::forward;
  auto m = std::make_shared<Made>();
  m->conv = w.chosen->make();
  m->name = w.chosen->pd.impl_info_str();
  const Chosen& c = *w.chosen;
  m->operands[kX] = {p.pass == Pass::input_grad ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC, w.x, c.x};
  m->operands[kKernel] = {p.pass == Pass::kernel_grad ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS,
                          w.kernel, c.kernel};
  m->operands[kY] = {grad ? DNNL_ARG_DIFF_DST : DNNL_ARG_DST, w.y, c.y};
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  int64_t pad = int64_t(c.pd.scratchpad_desc().get_size());
  for (int i = 0; i < 3; ++i) {
    Operand& o = m->operands[i];
    o.converts = o.ours != o.theirs;
    if (!o.converts) continue;
    const bool out = i == (p.pass == Pass::forward      ? kY
                           : p.pass == Pass::input_grad ? kX
                                                        : kKernel);
    const dnnl::reorder::primitive_desc pd(onednn_engine(), out ? o.theirs : o.ours,
                                           onednn_engine(), out ? o.ours : o.theirs, attr);
    o.reorder = dnnl::reorder(pd);
    pad = std::max(pad, int64_t(pd.scratchpad_desc().get_size()));
    o.at = m->bytes;
    m->bytes = checked_add(m->bytes, rounded(int64_t(o.theirs.get_size())));
  }
  if (p.thin)
    m->dense_at = m->bytes, m->bytes = checked_add(m->bytes, rounded(int64_t(w.x.get_size())));
  m->pad = memory::desc({pad}, memory::data_type::u8, memory::format_tag::a);
  m->pad_at = m->bytes;
  m->bytes = checked_add(m->bytes, rounded(pad));
  return m;
}

// The rows of the dense image from their places.
void gather(const Problem& p, const char* x, char* dense) {
  const ConvGeometry& g = p.g;
  const int64_t pixel = g.c * size_of(p.dtype), row = g.w.out * pixel;
  parallel_for(g.n * g.h.out, std::max<int64_t>(1, 65536 / std::max<int64_t>(1, row)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t r = begin; r < end; ++r) {
                   const int64_t n = r / g.h.out, i = r % g.h.out;
                   const char* from = x + (n * g.h.in + i * g.h.stride) * g.w.in * pixel;
                   for (int64_t j = 0; j < g.w.out; ++j)
                     std::memcpy(dense + r * row + j * pixel, from + j * g.w.stride * pixel,
                                 size_t(pixel));
                 }
               });
}
// The rows of the dense image to their places; zero elsewhere.
void spread(const Problem& p, const char* dense, char* x) {
  const ConvGeometry& g = p.g;
  const int64_t pixel = g.c * size_of(p.dtype), row = g.w.in * pixel;
  parallel_for(g.n * g.h.in, std::max<int64_t>(1, 65536 / std::max<int64_t>(1, row)),
               [&](int64_t begin, int64_t end) {
                 std::memset(x + begin * row, 0, size_t((end - begin) * row));
                 for (int64_t r = begin; r < end; ++r) {
                   const int64_t n = r / g.h.in, i = r % g.h.in;
                   if (i % g.h.stride || i / g.h.stride >= g.h.out) continue;
                   const char* from = dense + (n * g.h.out + i / g.h.stride) * g.w.out * pixel;
                   for (int64_t j = 0; j < g.w.out; ++j)
                     std::memcpy(x + r * row + j * g.w.stride * pixel, from + j * pixel,
                                 size_t(pixel));
                 }
               });
}

void execute(const Problem& p, const Made& m, void* x, void* kernel, void* y, char* scratch) {
  void* const data[3] = {p.thin ? scratch + m.dense_at : x, kernel, y};
  const int output = p.pass == Pass::forward ? kY : p.pass == Pass::input_grad ? kX : kKernel;
  if (p.thin && p.pass == Pass::kernel_grad)
    gather(p, static_cast<const char*>(x), scratch + m.dense_at);
  const memory pad(m.pad, onednn_engine(), scratch + m.pad_at);
  std::unordered_map<int, memory> args = {{DNNL_ARG_SCRATCHPAD, pad}};
  for (int i = 0; i < 3; ++i) {
    const Operand& o = m.operands[i];
    const memory ours(o.ours, onednn_engine(), data[i]);
    if (!o.converts) {
      args.emplace(o.arg, ours);
      continue;
    }
    const memory theirs(o.theirs, onednn_engine(), scratch + o.at);
    args.emplace(o.arg, theirs);
    if (i != output)
      o.reorder.execute(stream(),
                        {{DNNL_ARG_FROM, ours}, {DNNL_ARG_TO, theirs}, {DNNL_ARG_SCRATCHPAD, pad}});
  }
  m.conv.execute(stream(), args);
  if (const Operand& o = m.operands[output]; o.converts)
    o.reorder.execute(stream(), {{DNNL_ARG_FROM, args.at(o.arg)},
                                 {DNNL_ARG_TO, memory(o.ours, onednn_engine(), data[output])},
                                 {DNNL_ARG_SCRATCHPAD, pad}});
  stream().wait();
  if (p.thin && p.pass == Pass::input_grad) spread(p, scratch + m.dense_at, static_cast<char*>(x));
}

std::string declines(Pass pass, const CallSig& c, const Conv2DAttrs& a) {
  const DType d = c.out[0].dtype;
  if (type_of(d) == memory::data_type::undef)
    return std::string(str(d)) + " is not among oneDNN's types";
  for (std::span<const Sig> sigs : {c.in, c.out})
    for (const Sig& s : sigs) {
      if (s.shape.count() == 0) return "empty";
      if (s.shape.count() > INT32_MAX) return "more than 2^31 elements";
    }
  const Problem p = problem_of(pass, c, a);
  for (const Windows& w : {p.g.h, p.g.w})
    if (std::max({w.stride, w.dilation, w.before, w.after}) > INT32_MAX / 4)
      return "a stride, dilation or padding beyond oneDNN's";
  std::string reason;
  on_executor([&] {
    try {
      if (!want(p).chosen) reason = "oneDNN has its reference code only";
    } catch (const dnnl::error& e) {
      reason = std::string("oneDNN: ") + e.what();
    }
  });
  return reason;
}

Prepared prepare(Pass pass, const CallSig& c, const Conv2DAttrs& a) {
  struct State {
    Problem problem;
    std::mutex mutex;
    std::map<int, std::shared_ptr<const Made>> made;  // by number of threads
    std::shared_ptr<const Made> get() {
      std::lock_guard lock(mutex);
      auto& m = made[available_threads()];
      if (!m) m = make(problem);
      return m;
    }
  };
  auto state = std::make_shared<State>();
  state->problem = problem_of(pass, c, a);
  int64_t bytes = 0;
  on_executor([&] {
    try {
      bytes = state->get()->bytes;
    } catch (const dnnl::error& e) {
      rethrow(e);
    }
  });
  return {[state, pass, bytes](const Call& call) {
            on_executor([&] {
              try {
                const auto m = state->get();
                // Made anew for another number of threads, it may need more.
                const BufferPtr more = m->bytes > bytes ? make_buffer(m->bytes) : nullptr;
                char* scratch = static_cast<char*>(more ? more->data() : call.scratch);
                void *x = call.in[0].data, *y = call.in[1].data, *out = call.out[0].data;
                if (pass == Pass::forward)
                  execute(state->problem, *m, x, y, out, scratch);
                else if (pass == Pass::input_grad)
                  execute(state->problem, *m, out, x, y, scratch);
                else
                  execute(state->problem, *m, x, out, y, scratch);
              } catch (const dnnl::error& e) {
                rethrow(e);
              }
            });
          },
          bytes};
}

template <Pass pass>
KernelSheet<Conv2DAttrs> sheet() {
  return {.priority = 20,
          .declines = [](const CallSig& c, const Conv2DAttrs& a) { return declines(pass, c, a); },
          .prepare = [](const CallSig& c, const Conv2DAttrs& a) { return prepare(pass, c, a); }};
}

}  // namespace

KERNEL(conv2d, Conv2DAttrs, onednn) { return sheet<Pass::forward>(); }
KERNEL(conv2d_input_grad, Conv2DAttrs, onednn) { return sheet<Pass::input_grad>(); }
KERNEL(conv2d_kernel_grad, Conv2DAttrs, onednn) { return sheet<Pass::kernel_grad>(); }

}  // namespace evenflow
