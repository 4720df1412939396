// SPDX-License-Identifier: Apache-2.0
// A C++ function of one element, or a function of tensors, as a map or a filter over chunks. A
// function of an element takes an argument for each column:
//   float, int64_t, uint8_t, bool, ...   a scalar of that element type
//   std::span<const float>               a dense or ragged row, row-major
//   std::string_view                     a byte string
// and returns a column, or a std::tuple or std::pair of columns, each of them
//   float, int64_t, bool, ...            a scalar
//   std::array<float, 8>                 a dense row [8]
//   std::vector<float>                   a ragged row
//   std::string                          a byte string
// A function of tensors takes a Tensor [rows, ...] for each dense column, as many rows as there
// are, and returns a Tensor or Tensors with as many. It is compiled. A function of a chunk takes a
// const Chunk& (and, if it wants, a const Place&) and returns a Chunk.
#pragma once
#include <array>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "evenflow/core/error.h"
#include "evenflow/data/source.h"
#include "evenflow/graph/compile.h"

namespace evenflow::data {

/// Which elements the rows of a chunk are, for what is random but must be a function of them.
struct Place {
  int64_t epoch = 0;
  std::span<const int64_t> indices;  ///< of each row, in the epoch
};
using ChunkMap = std::function<Chunk(const Chunk&, const Place&)>;
/// 1 for each row that stays.
using ChunkFilter = std::function<std::vector<uint8_t>(const Chunk&, const Place&)>;

namespace detail {

template <class F>
struct Signature : Signature<decltype(&F::operator())> {};
template <class R, class... A>
struct Signature<R (*)(A...)> {
  using Result = R;
  using Arguments = std::tuple<std::remove_cvref_t<A>...>;
};
template <class R, class... A>
struct Signature<R(A...)> : Signature<R (*)(A...)> {};
template <class C, class R, class... A>
struct Signature<R (C::*)(A...) const> : Signature<R (*)(A...)> {};
template <class C, class R, class... A>
struct Signature<R (C::*)(A...)> {
  static_assert(sizeof(C) < 0, "map and filter call from several threads: no mutable lambda");
};

[[noreturn]] void refuse_argument(size_t argument, std::string_view takes, const Column& column);
/// Throws InvalidArgument unless the function takes as many arguments as there are columns.
void check_arguments(size_t takes, const Chunk& chunk);

// What an argument of that type reads from its column, row after row.
template <class T>
class Reader {
  static_assert(std::is_arithmetic_v<T>, "an element's argument is a number, a span or a text");

 public:
  Reader(size_t argument, const Column& c) : values_(nullptr) {
    const Sig& sig = c.values().sig;
    if (c.kind() != ColumnKind::dense || sig.dtype != dtype_of<T> || c.row_bytes() != sizeof(T))
      refuse_argument(argument, str(Schema{{.dtype = dtype_of<T>}}), c);
    values_ = reinterpret_cast<const T*>(c.row(0));
  }
  T operator[](int64_t row) const { return values_[row]; }

 private:
  const T* values_;
};
template <class T>
class Reader<std::span<const T>> {
 public:
  Reader(size_t argument, const Column& c) : column_(c) {
    if (c.kind() == ColumnKind::strings || c.values().sig.dtype != dtype_of<T>)
      refuse_argument(argument, str(Schema{{.dtype = dtype_of<T>, .dims = {-1}}}), c);
    each_ = c.row_bytes() / int64_t(sizeof(T));
    values_ = static_cast<const T*>(c.values().data->data());
  }
  std::span<const T> operator[](int64_t row) const {
    if (column_.kind() == ColumnKind::dense) return {values_ + row * each_, size_t(each_)};
    const Splits& s = column_.splits();
    const int64_t begin = s[size_t(row)], end = s[size_t(row) + 1];
    return {values_ + begin * each_, size_t((end - begin) * each_)};
  }

 private:
  const Column& column_;
  int64_t each_;
  const T* values_;
};
template <>
class Reader<std::string_view> {
 public:
  Reader(size_t argument, const Column& c) : column_(c) {
    if (c.kind() != ColumnKind::strings) refuse_argument(argument, "string", c);
  }
  std::string_view operator[](int64_t row) const { return column_.strings()[row]; }

 private:
  const Column& column_;
};

// What results of that type become.
template <class T>
class Writer {
  static_assert(std::is_arithmetic_v<T>,
                "an element's result is a number, an array, a vector or a string");

 public:
  explicit Writer(int64_t rows) : array_(make_array({dtype_of<T>, {rows}})) {
    at_ = static_cast<T*>(array_.data->data());
  }
  void add(T v) { *at_++ = v; }
  Column column() { return Column(std::move(array_)); }

 private:
  Array array_;
  T* at_;
};
template <class T, size_t n>
class Writer<std::array<T, n>> {
 public:
  explicit Writer(int64_t rows) : array_(make_array({dtype_of<T>, {rows, int64_t(n)}})) {
    at_ = static_cast<T*>(array_.data->data());
  }
  void add(const std::array<T, n>& v) { at_ = std::copy(v.begin(), v.end(), at_); }
  Column column() { return Column(std::move(array_)); }

 private:
  Array array_;
  T* at_;
};
template <class T>
class Writer<std::vector<T>> {
 public:
  explicit Writer(int64_t) {}
  void add(const std::vector<T>& v) {
    values_.insert(values_.end(), v.begin(), v.end());
    splits_.push_back(int64_t(values_.size()));
  }
  Column column() {
    Array a = make_array({dtype_of<T>, {int64_t(values_.size())}});
    std::copy(values_.begin(), values_.end(), static_cast<T*>(a.data->data()));
    return Column(std::move(a), std::move(splits_));
  }

 private:
  std::vector<T> values_;
  Splits splits_{0};
};
template <>
class Writer<std::string> {
 public:
  explicit Writer(int64_t) {}
  void add(std::string_view v) { strings_.push_back(v); }
  Column column() { return Column(std::move(strings_)); }

 private:
  Strings strings_;
};

template <class R>
struct Results {
  using Tuple = std::tuple<R>;
  static Tuple tuple(R r) { return Tuple(std::move(r)); }
};
template <class... R>
struct Results<std::tuple<R...>> {
  using Tuple = std::tuple<R...>;
  static Tuple tuple(Tuple r) { return r; }
};
template <class A, class B>
struct Results<std::pair<A, B>> {
  using Tuple = std::tuple<A, B>;
  static Tuple tuple(std::pair<A, B> r) { return {std::move(r.first), std::move(r.second)}; }
};

// Calls each(row, f's result) for every row.
template <class... A, class F, class Each>
void for_each_row(std::tuple<A...>*, const F& f, const Chunk& chunk, Each each) {
  check_arguments(sizeof...(A), chunk);
  [&]<size_t... I>(std::index_sequence<I...>) {
    const std::tuple<Reader<A>...> readers(Reader<A>(I, chunk.columns[I])...);
    for (int64_t row = 0; row < chunk.rows; ++row) each(f(std::get<I>(readers)[row]...));
  }
  (std::index_sequence_for<A...>{});
}

template <class F, class... R>
Chunk map_rows(const F& f, const Chunk& chunk, std::tuple<R...>*) {
  using S = Signature<F>;
  std::tuple<Writer<R>...> writers{Writer<R>(chunk.rows)...};
  for_each_row(static_cast<typename S::Arguments*>(nullptr), f, chunk, [&](auto result) {
    auto all = Results<typename S::Result>::tuple(std::move(result));
    [&]<size_t... I>(std::index_sequence<I...>) {
      (std::get<I>(writers).add(std::get<I>(all)), ...);
    }
    (std::index_sequence_for<R...>{});
  });
  Chunk r{{}, chunk.rows};
  std::apply([&](auto&... w) { (r.columns.push_back(w.column()), ...); }, writers);
  return r;
}

template <class Arguments>
inline constexpr bool all_tensors = false;
template <class... A>
inline constexpr bool all_tensors<std::tuple<A...>> = sizeof...(A) > 0 &&
                                                      (std::is_same_v<A, Tensor> && ...);
template <class Arguments>
inline constexpr bool first_is_chunk = false;
template <class First, class... A>
inline constexpr bool first_is_chunk<std::tuple<First, A...>> = std::is_same_v<First, Chunk>;

ChunkMap tensor_map(size_t arguments, Function::Body body);
/// Columns of a function of tensors: throws InvalidArgument unless each has `rows` rows.
Chunk from_tensors(const Tensors& results, int64_t rows);

}  // namespace detail

template <class F>
ChunkMap chunk_map(F f) {
  using S = detail::Signature<F>;
  using A = typename S::Arguments;
  if constexpr (detail::first_is_chunk<A>) {
    if constexpr (std::tuple_size_v<A> == 1)
      return [f](const Chunk& c, const Place&) { return f(c); };
    else
      return f;
  } else if constexpr (detail::all_tensors<A>) {
    constexpr size_t n = std::tuple_size_v<A>;
    return detail::tensor_map(n, [f](const Tensors& t) {
      return [&]<size_t... I>(std::index_sequence<I...>) {
        return evenflow::detail::to_tensors(f(t[I]...));
      }
      (std::make_index_sequence<n>{});
    });
  } else {
    using Tuple = typename detail::Results<typename S::Result>::Tuple;
    return [f](const Chunk& c, const Place&) {
      return detail::map_rows(f, c, static_cast<Tuple*>(nullptr));
    };
  }
}

template <class F>
ChunkFilter chunk_filter(F f) {
  using A = typename detail::Signature<F>::Arguments;
  if constexpr (detail::first_is_chunk<A>)
    return [f](const Chunk& c, const Place&) { return f(c); };
  else
    return [f](const Chunk& c, const Place&) {
      static_assert(std::is_same_v<typename detail::Signature<F>::Result, bool>,
                    "filter's function returns bool");
      std::vector<uint8_t> keep;
      keep.reserve(size_t(c.rows));
      detail::for_each_row(static_cast<A*>(nullptr), f, c,
                           [&](bool stays) { keep.push_back(stays); });
      return keep;
    };
}

}  // namespace evenflow::data
