// SPDX-License-Identifier: Apache-2.0
// What data is made of on its way: columns of typed values, a few rows at a time; and where they
// come from: a Source, whose elements are known by their index, or a Stream, known only in order.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "evenflow/core/array.h"
#include "evenflow/graph/tensor.h"

namespace evenflow::data {

/// A number of elements that nobody knows before the end; one that has no end.
inline constexpr int64_t kUnknown = -1;
inline constexpr int64_t kInfinite = int64_t(1) << 62;

/// Byte strings, one behind the other: string i is bytes[offsets[i] .. offsets[i + 1]).
struct Strings {
  std::string bytes;
  std::vector<int64_t> offsets{0};

  int64_t size() const { return int64_t(offsets.size()) - 1; }
  std::string_view operator[](int64_t i) const {
    const size_t k = size_t(i);
    return {bytes.data() + offsets[k], size_t(offsets[k + 1] - offsets[k])};
  }
  void push_back(std::string_view s) {
    bytes += s;
    offsets.push_back(int64_t(bytes.size()));
  }
};

/// Row i of a ragged column is values [splits[i] .. splits[i + 1]).
using Splits = std::vector<int64_t>;

enum class ColumnKind : uint8_t {
  dense,    ///< rows of one shape: a tensor [rows, ...]
  ragged,   ///< rows of different lengths: a tensor [values, ...] and where each row begins
  strings,  ///< byte strings
};

/// One column of a field of a schema: what an element of it is.
struct Field {
  std::string name = {};
  ColumnKind kind = ColumnKind::dense;
  DType dtype = DType::f32;  ///< of dense and ragged columns
  /// Of one element: [8, 8, 1]; empty: a scalar. -1: differs between batches. Of a ragged column
  /// what follows the ragged extent.
  std::vector<int64_t> dims = {};
  bool operator==(const Field&) const = default;
};
using Schema = std::vector<Field>;
/// "x f32[8,8,1], text string, ids ragged i64[]"
std::string str(const Schema& schema);

/// The values of some rows. Cheap to copy: what is once in a column is not changed.
class Column {
 public:
  Column() = default;
  /// Dense rows: the leading extent counts them. Throws InvalidArgument for a scalar.
  explicit Column(Array rows);
  explicit Column(const Tensor& rows);
  explicit Column(Strings strings);
  /// Ragged rows; throws InvalidArgument unless splits ascend from 0 to the leading extent.
  Column(Array values, Splits splits);

  ColumnKind kind() const { return kind_; }
  int64_t rows() const;
  /// Dense: [rows, ...]; ragged: the values of all rows [values, ...].
  const Array& values() const { return values_; }
  const Splits& splits() const { return *splits_; }
  const Strings& strings() const { return *strings_; }
  /// The dense column as a tensor, not copied; throws InvalidArgument for another kind.
  Tensor tensor() const;
  /// Bytes of memory behind it.
  int64_t bytes() const;
  /// Elements of one row of a dense column, and where it lies.
  int64_t row_bytes() const;
  const char* row(int64_t i) const {
    return static_cast<const char*>(values_.data->data()) + i * row_bytes();
  }
  Field field(std::string name = {}) const;

  /// Some rows, copied together.
  Column gather(std::span<const int64_t> rows) const;
  Column slice(int64_t begin, int64_t end) const;

 private:
  ColumnKind kind_ = ColumnKind::dense;
  Array values_;
  std::shared_ptr<const Splits> splits_;
  std::shared_ptr<const Strings> strings_;
};

/// A few rows of every column: what travels through a pipeline, and a batch at its end.
struct Chunk {
  std::vector<Column> columns;
  int64_t rows = 0;

  int64_t bytes() const;
  /// The columns as tensors [rows, ...]; throws InvalidArgument when one is not dense.
  Tensors tensors() const;
  Chunk gather(std::span<const int64_t> rows) const;
  Chunk slice(int64_t begin, int64_t end) const;
};
/// All rows of the first, then of the second, ... Dense columns must have rows of one shape; throws
/// InvalidArgument when they do not fit.
Chunk concatenate(std::span<const Chunk> chunks);

/// Elements that are known by their index, in any order, by many threads at once.
class Source {
 public:
  virtual ~Source() = default;
  virtual const Schema& schema() const = 0;
  virtual int64_t size() const = 0;
  /// Element indices[i], each in 0..size()-1, is row i. A pure function. Throws typed errors that
  /// name file, record and offset.
  virtual Chunk read(std::span<const int64_t> indices) const = 0;
  /// What it is, for reports: "tensors", "tfrecord".
  virtual std::string_view name() const { return "source"; }
};

/// A place in a Stream. One thread at a time uses it.
class Cursor {
 public:
  virtual ~Cursor() = default;
  /// The next 1 to at_most elements; no rows: the end, and again when asked again.
  virtual Chunk next(int64_t at_most) = 0;
  /// Where it stands between two next(), in a few bytes (up to about 200) of any value.
  virtual std::string position() const = 0;
  /// Goes where position() was. Throws InvalidArgument for what is not a position.
  virtual void seek(std::string_view position) = 0;
};

/// Elements that are known only one after the other.
class Stream {
 public:
  virtual ~Stream() = default;
  virtual const Schema& schema() const = 0;
  /// Elements of all shards, or kUnknown or kInfinite.
  virtual int64_t size() const { return kUnknown; }
  /// The elements of shard `shard` of `shards` in order (0 of 1: all): every element is in one
  /// shard. Files or blocks where there are enough of them, so that no shard reads everything.
  virtual std::unique_ptr<Cursor> open(int64_t shard, int64_t shards) const = 0;
  virtual std::string_view name() const { return "stream"; }
};

}  // namespace evenflow::data
