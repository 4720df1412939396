// SPDX-License-Identifier: Apache-2.0
// Cuts a map into tiles. A tile is part of one long row, or several short rows; an input that does
// not run on through the tile, or is of another type, is written out into a buffer first.
#include "evenflow/backends/cpu/map.h"

#include <algorithm>

#include "evenflow/backends/cpu/convert.h"

namespace evenflow::cpu {
namespace {

constexpr int64_t kTile =
    1024;  // elements: three f32 buffers of it share the first cache with room to spare

void convert(DType dtype, const void* src, int64_t n, float* dst) { to_f32(dtype, src, n, dst); }
void convert(DType dtype, const void* src, int64_t n, double* dst) { to_f64(dtype, src, n, dst); }
void convert_back(DType dtype, const float* src, int64_t n, void* dst) {
  from_f32(dtype, src, n, dst);
}
void convert_back(DType dtype, const double* src, int64_t n, void* dst) {
  from_f64(dtype, src, n, dst);
}

const char* at(const void* p, DType dtype, int64_t i) {
  return static_cast<const char*>(p) + i * size_of(dtype);
}

// Chunks of a run that two or four threads share evenly: each meets the same part again in the next
// loop, also where products have parted it by rows.
int64_t even_chunk(int64_t n) {
  if (n <= detail::kMapChunk) return detail::kMapChunk;
  const int64_t chunks = ((n - 1) / detail::kMapChunk + 4) / 4 * 4;
  return ((n - 1) / chunks + 64) / 64 * 64;
}

template <class T>
class Tiles {
 public:
  Tiles(Strip<T> strip, const void* functor, MapOut out, std::span<const MapIn> in,
        const Walk& walk)
      : strip_(strip), functor_(functor), out_(out), in_(in), walk_(walk) {
    const int last = walk.rank - 1;
    inner_ = walk.extent[last];
    bool direct = out.dtype == dtype_of<T>;
    for (const MapIn& x : in) direct = direct && x.dtype == dtype_of<T>;
    if (last == 0 || inner_ * 2 > kTile) {
      outer_axes_ = last;
      rows_ = 1;
      length_ = direct && last == 0 ? even_chunk(inner_) : kTile;
      pieces_ = (inner_ - 1) / length_ + 1;
    } else {
      outer_axes_ = last - 1;
      row_count_ = walk.extent[last - 1];
      rows_ = std::min(row_count_, kTile / inner_);
      length_ = inner_;
      pieces_ = (row_count_ - 1) / rows_ + 1;
    }
    tiles_ = pieces_;
    for (int a = 0; a < outer_axes_; ++a) tiles_ *= walk.extent[a];
  }

  void run() {
    const int64_t grain = std::max<int64_t>(1, detail::kMapChunk / (rows_ * length_));
    parallel_for(tiles_, grain, [&](int64_t b, int64_t e) {
      switch (in_.size()) {  // as little stack as need be: it is cache too
        case 1:
          return some<1>(b, e);
        case 2:
          return some<2>(b, e);
        default:
          return some<kMapInputs>(b, e);
      }
    });
  }

 private:
  template <int kInputs>
  void some(int64_t begin, int64_t end) const {
    alignas(64) T buffer[kInputs + 1][kTile];
    const void* filled[kInputs] = {};  // where a repeated row in the buffer came from
    const T* from[kMapInputs];
    int64_t step[kMapInputs];
    for (int64_t t = begin; t < end; ++t) {
      const int64_t outer = t / pieces_, piece = t % pieces_;
      const bool short_rows = outer_axes_ + 2 == walk_.rank;
      const int64_t first = piece * (short_rows ? rows_ : length_);
      const int64_t rows = short_rows ? std::min(rows_, row_count_ - first) : 1;
      const int64_t length = short_rows ? inner_ : std::min(length_, inner_ - first);
      for (int k = 0; k < int(in_.size()); ++k) {
        const MapIn& x = in_[k];
        const auto& stride = walk_.stride[k];
        const int64_t down = short_rows ? stride[walk_.rank - 2] : 0,
                      along = stride[walk_.rank - 1];
        const void* p =
            at(x.data, x.dtype,
               walk_.offset(k, outer, outer_axes_) + first * (short_rows ? down : along));
        T* b = buffer[k];
        from[k] = b, step[k] = 1;
        if (along == 0 && down == 0) {
          step[k] = 0;
          if (filled[k] != p) {
            convert(x.dtype, p, 1, b);
            std::fill(b + 1, b + kSplat, *b);
            filled[k] = p;
          }
        } else if (along == 1 && (rows == 1 || down == inner_)) {
          if (x.dtype == dtype_of<T>)
            from[k] = static_cast<const T*>(p);
          else
            convert(x.dtype, p, rows * length, b);
        } else if (down != 0 || filled[k] != p) {
          fill(x, p, rows, down, length, along, b);
          // Later tiles have at most as many rows as the first.
          filled[k] = down == 0 && rows == rows_ ? p : nullptr;
        }
      }
      const int64_t position =
          (short_rows ? (outer * row_count_ + first) * inner_ : outer * inner_ + first);
      char* y = static_cast<char*>(out_.data) + position * size_of(out_.dtype);
      const bool same = out_.dtype == dtype_of<T>;
      T* to = same ? reinterpret_cast<T*>(y) : buffer[kInputs];
      strip_(functor_, rows * length, to, from, step);
      if (!same) convert_back(out_.dtype, to, rows * length, y);
    }
  }

  static void fill(const MapIn& x, const void* p, int64_t rows, int64_t down, int64_t length,
                   int64_t along, T* to) {
    for (int64_t r = 0; r < rows; ++r) {
      T* row = to + r * length;
      const void* source = at(p, x.dtype, r * down);
      if (r && down == 0) {
        std::copy(to, to + length, row);
      } else if (along == 1) {
        convert(x.dtype, source, length, row);
      } else {
        convert(x.dtype, source, 1, row);
        std::fill(row + 1, row + length, *row);
      }
    }
  }

  Strip<T> strip_;
  const void* functor_;
  MapOut out_;
  std::span<const MapIn> in_;
  const Walk& walk_;
  int outer_axes_;
  int64_t inner_, row_count_ = 1, rows_, length_, pieces_, tiles_;
};

}  // namespace

Walk walk(const Shape& out, std::span<const Shape* const> in) {
  if (in.size() > size_t(kMapInputs)) fail(Code::Internal, {"map: ", in.size(), " inputs"});
  Walk w;
  const int inputs = int(in.size());
  std::array<std::array<int64_t, kMaxRank>, kMapInputs> stride{};
  for (int k = 0; k < inputs; ++k) {
    const Shape& s = *in[k];
    const int missing = out.rank() - s.rank();
    bool good = missing >= 0;
    const auto own = s.strides();
    for (int a = 0; good && a < s.rank(); ++a) {
      good = s[a] == out[a + missing] || s[a] == 1;
      stride[k][a + missing] = s[a] == 1 ? 0 : own[a];
    }
    if (!good)
      mismatch("map", "input " + std::to_string(k), str(s),
               "a shape that broadcasts to " + str(out));
  }
  w.rank = 0;
  for (int a = 0; a < out.rank(); ++a) {
    if (out[a] == 1) continue;
    bool merges = w.rank > 0;
    for (int k = 0; merges && k < inputs; ++k)
      merges = w.stride[k][w.rank - 1] == stride[k][a] * out[a];
    if (!merges) w.extent[w.rank++] = 1;
    w.extent[w.rank - 1] *= out[a];
    for (int k = 0; k < inputs; ++k) w.stride[k][w.rank - 1] = stride[k][a];
  }
  if (w.rank == 0) w.rank = 1, w.extent[0] = 1;
  return w;
}

void map(const Strips& f, MapOut out, std::span<const MapIn> in, const void* functor) {
  std::array<const Shape*, kMapInputs> shapes{};
  bool f64 = out.dtype == DType::f64;
  for (size_t k = 0; k < std::min<size_t>(in.size(), kMapInputs); ++k) {
    shapes[k] = &in[k].shape;
    f64 = f64 || in[k].dtype == DType::f64;
  }
  const Walk w = walk(out.shape, std::span(shapes.data(), in.size()));
  if (out.shape.count() == 0) return;
  if (f64)
    Tiles<double>(f.f64, functor, out, in, w).run();
  else
    Tiles<float>(f.f32, functor, out, in, w).run();
}

}  // namespace evenflow::cpu
