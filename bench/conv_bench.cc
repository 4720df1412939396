// SPDX-License-Identifier: Apache-2.0
// 2-D convolution and its two gradients by all their kernels and by Winograd's operations, turn and
// turn about, so that a busy machine is busy for all: best times, and shares of the first.
//   build/bin/conv_bench [rounds] [n h w ci co [kernel] [stride]]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "evenflow/core/buffer.h"
#include "evenflow/core/parallel.h"
#include "evenflow/graph/op.h"
#include "evenflow/ops/conv.h"
#include "evenflow/ops/winograd.h"

namespace evenflow {
namespace {

struct Work {
  int64_t n, h, w, ci, co, kernel = 3, stride = 1;
};

// Microseconds. One thread is measured by the time that it had, whoever else was busy.
double now() {
  if (thread_count() == 1) return double(std::clock()) * (1e6 / CLOCKS_PER_SEC);
  const std::chrono::duration<double, std::micro> t =
      std::chrono::steady_clock::now().time_since_epoch();
  return t.count();
}

// A call with memory of its own.
struct Candidate {
  std::string name;
  Sigs in, out;
  std::vector<BufferPtr> memory;
  std::vector<View> views;
  BufferPtr scratch;
  Prepared prepared;
  double best = 1e30;

  Candidate(std::string n, Sigs i, Sigs o, Prepared p)
      : name(std::move(n)), in(std::move(i)), out(std::move(o)), prepared(std::move(p)) {
    static std::minstd_rand bits;
    for (auto* list : {&in, &out})
      for (const Sig& s : *list) {
        memory.push_back(make_buffer(s.bytes()));
        float* f = static_cast<float*>(memory.back()->data());
        for (int64_t k = 0; k < s.shape.count(); ++k)
          f[k] = float(bits()) / float(bits.max()) - 0.5f;
        views.push_back({&s, f});
      }
    scratch = make_buffer(std::max<int64_t>(64, prepared.scratch_bytes));
  }
  void run() {
    const std::span<const View> all = views;
    const double start = now();
    prepared.run({all.first(in.size()), all.subspan(in.size()), scratch->data()});
    best = std::min(best, now() - start);
  }
};
using Candidates = std::vector<std::unique_ptr<Candidate>>;

template <class A>
void add(Candidates& all, const char* op_name, const Sigs& in, const A& attrs, bool slow = false) {
  const OpDef& op = find_op(op_name);
  const Sigs out = op.shape(in, &attrs);
  for (const KernelDef& k : op.kernels()) {
    if (!slow && k.name == "im2col") continue;
    if (k.declines && !k.declines({in, out}, &attrs).empty()) continue;
    all.push_back(std::make_unique<Candidate>(k.name, in, out, k.prepare({in, out}, &attrs)));
  }
}
Sig f32(Shape s) { return {DType::f32, s}; }

void measure(const char* what, Candidates& all, int rounds, double flops) {
  for (int i = 0; i < rounds; ++i)
    for (auto& c : all) c->run();
  std::printf("  %-12s", what);
  for (auto& c : all)
    std::printf(" %s %.0f us (%.2f, %.0f GF/s)", c->name.c_str(), c->best, c->best / all[0]->best,
                flops / c->best / 1e3);
  std::printf("\n");
  std::fflush(stdout);
}

void bench(const Work& w, int rounds) {
  const Conv2DAttrs conv{.strides = {w.stride, w.stride}, .padding = "same"};
  const Sig x = f32({w.n, w.h, w.w, w.ci}), k = f32({w.kernel, w.kernel, w.ci, w.co});
  const Sig y = find_op("conv2d").shape(std::vector{x, k}, &conv)[0];
  const double flops = 2. * double(y.shape.count() * w.ci * w.kernel * w.kernel);
  std::printf("%s %s/%lld, %d threads\n", str(x.shape).c_str(), str(k.shape).c_str(),
              static_cast<long long>(w.stride), thread_count());
  const bool winograd = w.kernel == 3 && w.stride == 1;
  const char* only = std::getenv("PASS");
  auto wanted = [&](const char* pass) { return !only || std::string(pass).find(only) == 0; };
  Candidates all;
  if (wanted("forward")) {
    add(all, "conv2d", {x, k}, conv);
    if (winograd)
      for (int64_t tile : {4, 2})
        add(all, "winograd_conv2d", {x, f32({(tile + 2) * (tile + 2), w.ci, w.co})},
            WinogradAttrs{.tile = tile});
    measure("forward", all, rounds, flops);
  }
  if (wanted("input")) {
    all.clear();
    add(all, "conv2d_input_grad", {k, y, x}, conv);
    if (winograd)
      for (int64_t tile : {4, 2})
        add(all, "winograd_conv2d", {y, f32({(tile + 2) * (tile + 2), w.co, w.ci})},
            WinogradAttrs{.tile = tile});
    measure("input grad", all, rounds, flops);
  }
  if (wanted("kernel")) {
    all.clear();
    add(all, "conv2d_kernel_grad", {x, y, k}, conv);
    if (winograd)
      for (int64_t tile : {4, 2})
        add(all, "winograd_conv2d_kernel_grad", {x, y}, WinogradAttrs{.tile = tile});
    measure("kernel grad", all, rounds, flops);
  }
  if (winograd && wanted("transforms")) {
    all.clear();
    const Sig u = f32({36, w.ci, w.co});
    add(all, "winograd_kernel", {k}, WinogradKernelAttrs{});
    add(all, "winograd_kernel", {k}, WinogradKernelAttrs{.flip = true});
    add(all, "winograd_kernel_grad", {u}, WinogradKernelAttrs{});
    if (!all.empty()) measure("transforms", all, rounds, 9. * double(w.ci * w.co));
  }
}

}  // namespace
}  // namespace evenflow

int main(int argc, char** argv) {
  using namespace evenflow;
  const int rounds = argc > 1 ? std::max(1, std::atoi(argv[1])) : 20;
  std::vector<Work> all = {{128, 32, 32, 16, 16}, {128, 16, 16, 32, 32}, {128, 8, 8, 64, 64},
                           {8, 56, 56, 64, 64},   {4, 28, 28, 128, 128}, {4, 14, 14, 256, 256}};
  if (argc >= 7) {
    int64_t v[7] = {0, 0, 0, 0, 0, 3, 1};
    for (int i = 2; i < std::min(argc, 9); ++i) v[i - 2] = std::atoll(argv[i]);
    all = {{v[0], v[1], v[2], v[3], v[4], v[5], v[6]}};
  }
  for (const Work& w : all) bench(w, rounds);
}
