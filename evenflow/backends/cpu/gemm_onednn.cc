// SPDX-License-Identifier: Apache-2.0
// Large products by oneDNN 3. A primitive is made once for a shape and kept; it is run on an
// executor only, with memory of that thread for its scratchpad: the library's own, shared by all
// primitives, is a race between callers.
#include <list>
#include <memory>
#include <mutex>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>

#include "evenflow/backends/cpu/engine_onednn.h"
#include "evenflow/backends/cpu/gemm.h"
#include "evenflow/core/buffer.h"
#include "evenflow/core/error.h"
#include "evenflow/core/parallel.h"

namespace evenflow::cpu {
namespace {

struct Key {
  Gemm gemm;
  DType in, out;
  int threads;  // a primitive is made for a number of threads
  bool operator==(const Key&) const = default;
};
struct Hash {
  size_t operator()(const Key& k) const {
    const Gemm& g = k.gemm;
    uint64_t h = 0;
    for (int64_t v :
         {g.m, g.n, g.k, g.lda, g.ldb, g.ldc, g.batch, g.stride_a, g.stride_b, g.stride_c,
          int64_t(g.trans_a) | int64_t(g.trans_b) << 1 | int64_t(g.accumulate) << 2 |
              int64_t(k.in) << 8 | int64_t(k.out) << 16 | int64_t(k.threads) << 24})
      h = (h ^ uint64_t(v)) * 0x9E3779B97F4A7C15u, h ^= h >> 29;
    return size_t(h);
  }
};

struct Product {
  dnnl::memory::desc a, b, c;
  dnnl::matmul matmul;
  int64_t scratchpad = 0;
};

dnnl::memory::desc describe(const Gemm& g, DType dtype, int64_t rows, int64_t columns, bool trans,
                            int64_t ld, int64_t stride) {
  const auto type = dtype == DType::f32    ? dnnl::memory::data_type::f32
                    : dtype == DType::bf16 ? dnnl::memory::data_type::bf16
                                           : dnnl::memory::data_type::f16;
  const int64_t down = trans ? 1 : ld, along = trans ? ld : 1;
  if (g.batch == 1) return {{rows, columns}, type, {down, along}};
  // A repeated operand has one product in the batch, which the library broadcasts.
  return {
      {stride ? g.batch : 1, rows, columns}, type, {stride ? stride : rows * columns, down, along}};
}

std::shared_ptr<const Product> make(const Key& key) {
  const Gemm& g = key.gemm;
  auto p = std::make_shared<Product>();
  p->a = describe(g, key.in, g.m, g.k, g.trans_a, g.lda, g.stride_a);
  p->b = describe(g, key.in, g.k, g.n, g.trans_b, g.ldb, g.stride_b);
  p->c = describe(g, key.out, g.m, g.n, false, g.ldc, g.stride_c);
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (g.accumulate) {
    dnnl::post_ops post;
    post.append_sum();
    attr.set_post_ops(post);
  }
  const dnnl::matmul::primitive_desc pd(onednn_engine(), p->a, p->b, p->c, attr, true);
  if (!pd) return nullptr;
  p->matmul = dnnl::matmul(pd);
  p->scratchpad = int64_t(pd.scratchpad_desc().get_size());
  return p;
}

// The products last used, at most kProducts of them.
class Cache {
 public:
  std::shared_ptr<const Product> get(const Key& key) {
    {
      std::lock_guard lock(mutex_);
      if (const auto it = index_.find(key); it != index_.end()) {
        order_.splice(order_.begin(), order_, it->second);
        return it->second->second;
      }
    }
    auto made = make(key);  // milliseconds when it compiles a kernel: not under the lock
    std::lock_guard lock(mutex_);
    if (index_.contains(key)) return made;
    order_.emplace_front(key, made);
    index_[key] = order_.begin();
    if (order_.size() > kProducts) {
      index_.erase(order_.back().first);
      order_.pop_back();
    }
    return made;
  }

 private:
  static constexpr size_t kProducts = 512;
  std::mutex mutex_;
  std::list<std::pair<Key, std::shared_ptr<const Product>>> order_;
  std::unordered_map<Key, decltype(order_)::iterator, Hash> index_;
};

}  // namespace

bool detail::library_gemm(const Gemm& g, DType in, const void* a, const void* b, DType out,
                          void* c) {
  static Cache& cache = *new Cache;
  bool done = false;
  on_executor([&] {
    try {
      const auto product = cache.get({g, in, out, available_threads()});
      if (!product) return;
      thread_local dnnl::stream stream(onednn_engine());
      thread_local BufferPtr scratchpad;
      if (!scratchpad || scratchpad->bytes() < product->scratchpad)
        scratchpad = make_buffer(product->scratchpad);
      const dnnl::memory::desc pad({product->scratchpad}, dnnl::memory::data_type::u8,
                                   dnnl::memory::format_tag::a);
      product->matmul.execute(
          stream, {{DNNL_ARG_SRC, {product->a, onednn_engine(), const_cast<void*>(a)}},
                   {DNNL_ARG_WEIGHTS, {product->b, onednn_engine(), const_cast<void*>(b)}},
                   {DNNL_ARG_DST, {product->c, onednn_engine(), c}},
                   {DNNL_ARG_SCRATCHPAD, {pad, onednn_engine(), scratchpad->data()}}});
      stream.wait();
      done = true;
    } catch (const dnnl::error& e) {
      if (e.status == dnnl_out_of_memory)
        fail(Code::ResourceExhausted, {"gemm: oneDNN: ", e.what()});
      fail(Code::Internal, {"gemm: oneDNN: ", e.what()});
    }
  });
  return done;
}

}  // namespace evenflow::cpu
