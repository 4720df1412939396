// SPDX-License-Identifier: Apache-2.0
// Elements in memory or at a place that their index tells: ranges, .npy, .npz, IDX, CIFAR.
#include <algorithm>
#include <utility>

#include "evenflow/data/files.h"
#include "evenflow/format/cifar.h"
#include "evenflow/format/idx.h"
#include "evenflow/format/input.h"
#include "evenflow/format/npy.h"
#include "evenflow/format/npz.h"
#include "evenflow/ops/elementwise.h"

namespace evenflow::data {
namespace {

class Range final : public Source {
 public:
  Range(int64_t begin, int64_t step, int64_t n) : begin_(begin), step_(step), n_(n) {}
  const Schema& schema() const override { return schema_; }
  int64_t size() const override { return n_; }
  Chunk read(std::span<const int64_t> indices) const override {
    Array a = make_array({DType::i64, {int64_t(indices.size())}});
    auto* to = static_cast<int64_t*>(a.data->data());
    for (int64_t i : indices) *to++ = begin_ + i * step_;
    return {{Column(std::move(a))}, int64_t(indices.size())};
  }
  std::string_view name() const override { return "range"; }

 private:
  const int64_t begin_, step_, n_;
  const Schema schema_{{.dtype = DType::i64}};
};

Tensor rows_of(const std::string& path, const std::string& name, const Array& a) {
  if (!a.sig.shape.rank())
    fail({"dataset: ", path, name, " is a scalar, expected a leading extent"});
  return tensor(a.sig, a.data);
}

class Cifar final : public Source {
 public:
  Cifar(const std::vector<std::string>& paths, const format::CifarFormat& f) : format_(f) {
    for (auto& p : paths) {
      files_.push_back(std::make_unique<format::InputFile>(p));
      const int64_t bytes = files_.back()->size();
      if (bytes % f.record_bytes())
        fail(Code::DataLoss, {"cifar: ", p, " has ", bytes, " bytes, expected a multiple of ",
                              f.record_bytes(), ", a picture and its label"});
      ends_.push_back((ends_.empty() ? 0 : ends_.back()) + bytes / f.record_bytes());
    }
  }
  const Schema& schema() const override { return schema_; }
  int64_t size() const override { return ends_.back(); }
  Chunk read(std::span<const int64_t> indices) const override {
    const int64_t n = int64_t(indices.size()), bytes = format_.record_bytes();
    Array x = make_array({DType::u8, {n, kSide, kSide, 3}}), y = make_array({DType::i64, {n}});
    auto* pixels = static_cast<uint8_t*>(x.data->data());
    auto* label = static_cast<int64_t*>(y.data->data());
    std::vector<char> record(static_cast<size_t>(bytes));
    for (int64_t i : indices) {
      const size_t k = size_t(std::upper_bound(ends_.begin(), ends_.end(), i) - ends_.begin());
      const int64_t within = i - (k ? ends_[k - 1] : 0);
      files_[k]->read(within * bytes, record.data(), bytes);
      try {
        format::read_cifar(format_, record.data(), pixels, label);
      } catch (const Error& e) {
        fail(e.code(),
             {"cifar: ", format::place(files_[k]->path(), within, within * bytes), ": ", e.what()});
      }
      pixels += format::CifarFormat::kPixels, ++label;
    }
    return {{Column(std::move(x)), Column(std::move(y))}, n};
  }
  std::string_view name() const override { return "cifar"; }

 private:
  static constexpr int64_t kSide = format::CifarFormat::kSide;
  const format::CifarFormat format_;
  std::vector<std::unique_ptr<format::InputFile>> files_;
  std::vector<int64_t> ends_;
  const Schema schema_{{.name = "x", .dtype = DType::u8, .dims = {kSide, kSide, 3}},
                       {.name = "y", .dtype = DType::i64}};
};

}  // namespace

Dataset range(int64_t begin, int64_t end, int64_t step) {
  if (!step) fail({"range: step is 0"});
  const int64_t way = checked_add(end, -begin), towards = step > 0 ? 1 : -1;
  const int64_t n = way * towards > 0 ? (way * towards - 1) / (step * towards) + 1 : 0;
  return Dataset::from(std::make_shared<Range>(begin, step, n));
}
Dataset npy(const std::string& path) {
  return Dataset(Tensors{rows_of(path, "", format::read_npy(path))});
}
Dataset npz(const std::string& path, const std::vector<std::string>& names) {
  const std::map<std::string, Array> arrays = format::read_npz(path);
  Tensors columns;
  if (names.empty())
    for (auto& [name, a] : arrays) columns.push_back(rows_of(path, "[" + name + "]", a));
  for (auto& name : names) {
    auto at = arrays.find(name);
    if (at == arrays.end()) {
      std::string there;
      for (auto& [n, a] : arrays) there += (there.empty() ? "" : ", ") + n;
      fail(Code::NotFound, {"npz: ", path, " has no array \"", name, "\"; it has ", there});
    }
    columns.push_back(rows_of(path, "[" + name + "]", at->second));
  }
  return Dataset(columns);
}
Dataset idx(const std::string& images, const std::string& labels) {
  return Dataset(rows_of(images, "", format::read_idx(images)),
                 cast(rows_of(labels, "", format::read_idx(labels)), DType::i64));
}
Dataset cifar10(const std::vector<std::string>& paths) {
  return Dataset::from(std::make_shared<Cifar>(matching_files(paths), format::kCifar10));
}
Dataset cifar100(const std::vector<std::string>& paths) {
  return Dataset::from(std::make_shared<Cifar>(matching_files(paths), format::kCifar100));
}

}  // namespace evenflow::data
