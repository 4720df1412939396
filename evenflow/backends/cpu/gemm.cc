// SPDX-License-Identifier: Apache-2.0
// Which kernel makes a product.
#include "evenflow/backends/cpu/gemm.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "evenflow/backends/cpu/convert.h"
#include "evenflow/core/buffer.h"
#include "evenflow/core/parallel.h"

namespace evenflow::cpu {
namespace {

constexpr double kOwnWork = 8e6;  // m n k up to which the own kernels are at least as fast as
                                  // oneDNN's, its look-up included

// The f32 copies of 16-bit operands. One set for each calling thread, kept.
float* copy_memory(int which, int64_t n) {
  thread_local std::array<BufferPtr, 3> memory;
  BufferPtr& b = memory[size_t(which)];
  const int64_t bytes = checked_mul(n, 4);
  if (!b || b->bytes() < bytes) b = make_buffer(bytes);
  return static_cast<float*>(b->data());
}

void to_f32_parallel(DType dtype, const void* src, int64_t n, float* dst) {
  parallel_for(n, 65536, [&](int64_t b, int64_t e) {
    to_f32(dtype, static_cast<const char*>(src) + b * size_of(dtype), e - b, dst + b);
  });
}

// Elements from the first to behind the last.
int64_t extent(int64_t rows, int64_t columns, int64_t ld, int64_t batch, int64_t stride) {
  return (batch - 1) * stride + (rows - 1) * ld + columns;
}

void through_f32(const Gemm& g, DType in, const void* a, const void* b, DType out, void* c) {
  const int64_t na =
      extent(g.trans_a ? g.k : g.m, g.trans_a ? g.m : g.k, g.lda, g.batch, g.stride_a);
  const int64_t nb =
      extent(g.trans_b ? g.n : g.k, g.trans_b ? g.k : g.n, g.ldb, g.batch, g.stride_b);
  float* fa = copy_memory(0, na);
  float* fb = copy_memory(1, nb);
  to_f32_parallel(in, a, na, fa);
  to_f32_parallel(in, b, nb, fb);
  if (out == DType::f32) return detail::own_gemm(g, DType::f32, fa, fb, c);
  // C may have gaps between rows that are not ours to write.
  Gemm dense = g;
  dense.ldc = g.n, dense.stride_c = g.m * g.n;
  float* fc = copy_memory(2, g.batch * g.m * g.n);
  auto row_of_c = [&](int64_t r) {
    return static_cast<char*>(c) + (r / g.m * g.stride_c + r % g.m * g.ldc) * size_of(out);
  };
  const int64_t grain = std::max<int64_t>(1, 65536 / g.n);
  if (g.accumulate)
    parallel_for(g.batch * g.m, grain, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) to_f32(out, row_of_c(r), g.n, fc + r * g.n);
    });
  detail::own_gemm(dense, DType::f32, fa, fb, fc);
  parallel_for(g.batch * g.m, grain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) from_f32(out, fc + r * g.n, g.n, row_of_c(r));
  });
}

int64_t leading(int64_t given, int64_t dense, std::string_view name) {
  if (given != 0 && given < dense)
    evenflow::mismatch("gemm", name, given, "at least " + std::to_string(dense));
  return given ? given : dense;
}

}  // namespace

#ifndef EVENFLOW_ONEDNN
bool detail::library_gemm(const Gemm&, DType, const void*, const void*, DType, void*) {
  return false;
}
#endif

void gemm(const Gemm& given, DType in, const void* a, const void* b, DType out, void* c) {
  Gemm g = given;
  if (g.m < 0 || g.n < 0 || g.k < 0 || g.batch < 0)
    fail({"gemm: m, n, k and batch are ", g.m, ", ", g.n, ", ", g.k, " and ", g.batch,
          ", expected at least 0"});
  const bool narrow = in == DType::bf16 || in == DType::f16;
  if (!is_floating(in))
    fail(Code::Unimplemented, {"gemm: dtype is ", str(in), ", expected a float"});
  if (out != in && !(narrow && out == DType::f32))
    evenflow::mismatch("gemm", "dtype of the result", str(out),
                       narrow ? std::string(str(in)) + " or f32" : std::string(str(in)));
  g.lda = leading(g.lda, g.trans_a ? g.m : g.k, "lda");
  g.ldb = leading(g.ldb, g.trans_b ? g.k : g.n, "ldb");
  g.ldc = leading(g.ldc, g.n, "ldc");
  if (g.batch == 1)
    g.stride_a = g.stride_b = g.stride_c = 0;
  else if (g.stride_c < (g.m - 1) * g.ldc + g.n)
    evenflow::mismatch("gemm", "stride of C", g.stride_c,
                       "at least " + std::to_string((g.m - 1) * g.ldc + g.n));
  if (g.m == 0 || g.n == 0 || g.batch == 0) return;
  if (g.k == 0) {
    if (g.accumulate) return;
    for (int64_t i = 0; i < g.batch; ++i)
      for (int64_t r = 0; r < g.m; ++r)
        std::memset(static_cast<char*>(c) + (i * g.stride_c + r * g.ldc) * size_of(out), 0,
                    size_t(g.n * size_of(out)));
    return;
  }
  // Products that share B and follow each other in memory are one product of more rows.
  if (g.batch > 1 && g.stride_b == 0 && !g.trans_a && g.stride_a == g.m * g.lda &&
      g.stride_c == g.m * g.ldc) {
    g.m *= g.batch;
    g.batch = 1, g.stride_a = g.stride_c = 0;
  }
  const double work = double(g.m) * double(g.n) * double(g.k);
  const bool own = g.same_bits || in == DType::f64 || (in == DType::f32 && work <= kOwnWork);
  if (!own && detail::library_gemm(g, in, a, b, out, c)) return;
  if (narrow) return through_f32(g, in, a, b, out, c);
  detail::own_gemm(g, in, a, b, c);
}

}  // namespace evenflow::cpu
