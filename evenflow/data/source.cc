// SPDX-License-Identifier: Apache-2.0
#include "evenflow/data/source.h"

#include <cstring>

namespace evenflow::data {

std::string str(const Schema& schema) {
  std::string s;
  for (auto& f : schema) {
    if (!s.empty()) s += ", ";
    s += f.name + (f.name.empty() ? "" : " ");
    if (f.kind == ColumnKind::strings) {
      s += "string";
      continue;
    }
    s += f.kind == ColumnKind::ragged ? "ragged " : "";
    s += str(f.dtype);
    s += '[';
    for (size_t i = 0; i < f.dims.size(); ++i)
      s += (i ? "," : "") + (f.dims[i] < 0 ? "?" : std::to_string(f.dims[i]));
    s += ']';
  }
  return s;
}

Column::Column(Array rows) : values_(std::move(rows)) {
  if (!values_.sig.shape.rank())
    fail({"column: it is ", str(values_.sig), ", expected a leading extent"});
}
Column::Column(const Tensor& rows) : Column(Array{rows.sig(), rows.buffer()}) {}
Column::Column(Strings strings)
    : kind_(ColumnKind::strings), strings_(std::make_shared<const Strings>(std::move(strings))) {}
Column::Column(Array values, Splits splits)
    : kind_(ColumnKind::ragged), values_(std::move(values)) {
  if (!values_.sig.shape.rank())
    fail({"column: the ragged values are ", str(values_.sig), ", expected a leading extent"});
  bool ascend = !splits.empty() && !splits[0] && splits.back() == values_.sig.shape[0];
  for (size_t i = 1; i < splits.size(); ++i) ascend &= splits[i - 1] <= splits[i];
  if (!ascend)
    fail({"column: the splits do not ascend from 0 to ", values_.sig.shape[0], ", the values"});
  splits_ = std::make_shared<const Splits>(std::move(splits));
}
int64_t Column::rows() const {
  switch (kind_) {
    case ColumnKind::ragged:
      return int64_t(splits_->size()) - 1;
    case ColumnKind::strings:
      return strings_->size();
    default:
      return values_.sig.shape.rank() ? values_.sig.shape[0] : 0;
  }
}
Tensor Column::tensor() const {
  if (kind_ != ColumnKind::dense)
    fail({"column: it is ", str(Schema{field()}),
          ", expected dense values, of which a tensor is made; pad or encode it first"});
  return evenflow::tensor(values_.sig, values_.data);
}
int64_t Column::bytes() const {
  int64_t n = values_.data ? values_.sig.bytes() : 0;
  if (splits_) n += int64_t(splits_->size()) * 8;
  if (strings_) n += int64_t(strings_->bytes.size()) + int64_t(strings_->offsets.size()) * 8;
  return n;
}
int64_t Column::row_bytes() const {
  int64_t n = size_of(values_.sig.dtype);
  for (int i = 1; i < values_.sig.shape.rank(); ++i) n *= values_.sig.shape[i];
  return n;
}
Field Column::field(std::string name) const {
  Field f{.name = std::move(name), .kind = kind_};
  if (kind_ == ColumnKind::strings) return f;
  f.dtype = values_.sig.dtype;
  const Shape& s = values_.sig.shape;
  if (s.rank()) f.dims.assign(s.begin() + 1, s.end());
  return f;
}

namespace {
template <int64_t kBytes>
void gather_fixed(char* to, const char* from, std::span<const int64_t> rows) {
  for (size_t i = 0; i < rows.size(); ++i)
    std::memcpy(to + int64_t(i) * kBytes, from + rows[i] * kBytes, kBytes);
}
void gather_rows(char* to, const char* from, int64_t bytes, std::span<const int64_t> rows) {
  if (bytes == 4) return gather_fixed<4>(to, from, rows);
  if (bytes == 8) return gather_fixed<8>(to, from, rows);
  constexpr size_t kAhead = 8;  // rows in flight: a row at random is a miss
  for (size_t i = 0; i < rows.size(); ++i) {
    if (i + kAhead < rows.size()) {
      const char* next = from + rows[i + kAhead] * bytes;
      for (int64_t b = 0; b < std::min<int64_t>(bytes, 512); b += 64)
        __builtin_prefetch(next + b, 0, 0);
    }
    std::memcpy(to + int64_t(i) * bytes, from + rows[i] * bytes, size_t(bytes));
  }
}
}  // namespace

Column Column::gather(std::span<const int64_t> rows) const {
  const int64_t n = int64_t(rows.size());
  if (kind_ == ColumnKind::strings) {
    Strings s;
    s.offsets.reserve(rows.size() + 1);
    size_t bytes = 0;
    for (int64_t r : rows) bytes += (*strings_)[r].size();
    s.bytes.reserve(bytes);
    for (int64_t r : rows) s.push_back((*strings_)[r]);
    return Column(std::move(s));
  }
  const char* from = static_cast<const char*>(values_.data->data());
  if (kind_ == ColumnKind::dense) {
    Array a = make_array({values_.sig.dtype, values_.sig.shape.with(0, n)});
    gather_rows(static_cast<char*>(a.data->data()), from, row_bytes(), rows);
    return Column(std::move(a));
  }
  Splits splits{0};
  splits.reserve(rows.size() + 1);
  for (int64_t r : rows)
    splits.push_back(splits.back() + (*splits_)[size_t(r) + 1] - (*splits_)[size_t(r)]);
  Array a = make_array({values_.sig.dtype, values_.sig.shape.with(0, splits.back())});
  char* to = static_cast<char*>(a.data->data());
  const int64_t bytes = row_bytes();
  for (size_t i = 0; i < rows.size(); ++i)
    if (const int64_t count = splits[i + 1] - splits[i])
      std::memcpy(to + splits[i] * bytes, from + (*splits_)[size_t(rows[i])] * bytes,
                  size_t(count * bytes));
  return Column(std::move(a), std::move(splits));
}
Column Column::slice(int64_t begin, int64_t end) const {
  if (begin == 0 && end == rows()) return *this;
  const size_t b = size_t(begin), e = size_t(end);
  if (kind_ == ColumnKind::strings) {
    const Strings& from = *strings_;
    Strings s;
    s.bytes = from.bytes.substr(size_t(from.offsets[b]), size_t(from.offsets[e] - from.offsets[b]));
    s.offsets.clear();
    for (size_t i = b; i <= e; ++i) s.offsets.push_back(from.offsets[i] - from.offsets[b]);
    return Column(std::move(s));
  }
  const int64_t bytes = row_bytes();
  const int64_t first = kind_ == ColumnKind::dense ? begin : (*splits_)[b],
                last = kind_ == ColumnKind::dense ? end : (*splits_)[e];
  Array a = make_array({values_.sig.dtype, values_.sig.shape.with(0, last - first)});
  if (last > first)
    std::memcpy(a.data->data(), static_cast<const char*>(values_.data->data()) + first * bytes,
                size_t((last - first) * bytes));
  if (kind_ == ColumnKind::dense) return Column(std::move(a));
  Splits splits;
  for (size_t i = b; i <= e; ++i) splits.push_back((*splits_)[i] - first);
  return Column(std::move(a), std::move(splits));
}

int64_t Chunk::bytes() const {
  int64_t n = 0;
  for (auto& c : columns) n += c.bytes();
  return n;
}
Tensors Chunk::tensors() const {
  Tensors r;
  r.reserve(columns.size());
  for (auto& c : columns) r.push_back(c.tensor());
  return r;
}
Chunk Chunk::gather(std::span<const int64_t> which) const {
  Chunk r{{}, int64_t(which.size())};
  r.columns.reserve(columns.size());
  for (auto& c : columns) r.columns.push_back(c.gather(which));
  return r;
}
Chunk Chunk::slice(int64_t begin, int64_t end) const {
  Chunk r{{}, end - begin};
  r.columns.reserve(columns.size());
  for (auto& c : columns) r.columns.push_back(c.slice(begin, end));
  return r;
}

Chunk concatenate(std::span<const Chunk> chunks) {
  if (chunks.empty()) return {};
  if (chunks.size() == 1) return chunks[0];
  Chunk r;
  for (auto& c : chunks) {
    r.rows = checked_add(r.rows, c.rows);
    if (c.columns.size() != chunks[0].columns.size())
      fail({"data: a chunk has ", c.columns.size(), " columns, expected ",
            chunks[0].columns.size()});
  }
  for (size_t k = 0; k < chunks[0].columns.size(); ++k) {
    const Field like = chunks[0].columns[k].field();
    int64_t values = 0;
    for (auto& c : chunks) {
      const Field f = c.columns[k].field();
      if (f != like)
        fail({"data: column ", k, " is ", str(Schema{f}), " in one element and ", str(Schema{like}),
              " in another, expected one shape; batch padded or ragged"});
      if (f.kind != ColumnKind::strings) values += c.columns[k].values().sig.shape[0];
    }
    if (like.kind == ColumnKind::strings) {
      Strings s;
      for (auto& c : chunks) {
        const Strings& from = c.columns[k].strings();
        const int64_t base = int64_t(s.bytes.size());
        s.bytes += from.bytes;
        for (size_t i = 1; i < from.offsets.size(); ++i)
          s.offsets.push_back(base + from.offsets[i]);
      }
      r.columns.emplace_back(std::move(s));
      continue;
    }
    const Array& first = chunks[0].columns[k].values();
    Array a = make_array({first.sig.dtype, first.sig.shape.with(0, values)});
    char* to = static_cast<char*>(a.data->data());
    Splits splits{0};
    for (auto& c : chunks) {
      const Column& from = c.columns[k];
      const int64_t bytes = from.values().sig.bytes();
      if (bytes) std::memcpy(to, from.values().data->data(), size_t(bytes));
      to += bytes;
      if (like.kind == ColumnKind::ragged)
        for (int64_t i = 0, base = splits.back(); i < from.rows(); ++i)
          splits.push_back(base + from.splits()[size_t(i) + 1]);
    }
    if (like.kind == ColumnKind::ragged)
      r.columns.emplace_back(std::move(a), std::move(splits));
    else
      r.columns.emplace_back(std::move(a));
  }
  return r;
}

}  // namespace evenflow::data
