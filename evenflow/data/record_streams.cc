// SPDX-License-Identifier: Apache-2.0
// TFRecord files: their records, or the features of the Examples in them.
#include <algorithm>
#include <cstring>
#include <utility>

#include "evenflow/data/file_stream.h"
#include "evenflow/format/example.h"
#include "evenflow/format/tfrecord.h"

namespace evenflow::data {
namespace {

// What both have in common: a reader, and leaving out what is damaged.
class RecordFeed : public Feed {
 public:
  RecordFeed(const std::string& path, Skipped skipped)
      : reader_(format::InputStream(path)), skipped_(std::move(skipped)) {}
  void save(StateWriter& to) const override {
    to.number(reader_.record());
    to.number(reader_.offset());
  }
  void load(StateReader& from) override {
    const int64_t record = from.number(kInfinite);
    reader_.seek(record, from.number(kInfinite));
  }

 protected:
  // False at the end. Behind a damaged length nothing can be read, and the file ends for us.
  bool next_record(std::string_view* record) {
    while (!ended_) {
      const int64_t before = reader_.record();
      try {
        return reader_.next(record);
      } catch (const Error& e) {
        skip_or_throw(skipped_, e);
        ended_ = reader_.record() == before;
      }
    }
    return false;
  }
  std::string place() const {
    return format::place(reader_.name(), reader_.record() - 1, reader_.offset());
  }

  format::TfRecordReader reader_;
  const Skipped skipped_;

 private:
  bool ended_ = false;
};

class BytesFeed final : public RecordFeed {
 public:
  using RecordFeed::RecordFeed;
  Chunk next(int64_t at_most) override {
    Strings s;
    for (std::string_view r; s.size() < at_most && next_record(&r);) s.push_back(r);
    const int64_t rows = s.size();
    if (!rows) return {};
    return {{Column(std::move(s))}, rows};
  }
};

int64_t values_of(const FeatureSpec& f) {
  int64_t n = 1;
  for (int64_t d : f.dims) n = checked_mul(n, d);
  return n;
}

// A column in the making.
class Filling {
 public:
  Filling(const FeatureSpec& spec, int64_t rows) : spec_(spec), each_(values_of(spec)) {
    if (spec.kind != ColumnKind::dense) return;
    std::vector<int64_t> dims{rows};
    dims.insert(dims.end(), spec.dims.begin(), spec.dims.end());
    array_ = make_array({spec.dtype, Shape(dims)});
    at_ = static_cast<char*>(array_.data->data());
  }
  void add(const format::Feature& f) {
    const int64_t n = f.count();
    if (f.kind == format::FeatureKind::none || !n) return add_missing();
    if (f.kind != wanted())
      fail(Code::DataLoss,
           {"feature \"", spec_.name, "\" holds ", str(f.kind), ", expected ", str(wanted())});
    if (spec_.kind == ColumnKind::ragged) {
      ragged_.resize(ragged_.size() + size_t(n * width()));
      read(f, ragged_.data() + ragged_.size() - size_t(n * width()));
      splits_.push_back(splits_.back() + n);
      return;
    }
    if (n != each_)
      fail(Code::DataLoss, {"feature \"", spec_.name, "\" has ", n, " values, expected ", each_});
    if (spec_.kind == ColumnKind::strings)
      return f.read([&](std::string_view s) { strings_.push_back(s); });
    read(f, at_);
    at_ += each_ * width();
  }
  // Takes back what was added to row `rows`, where another feature of it was damaged.
  void keep(int64_t rows) {
    if (spec_.kind == ColumnKind::dense) {
      at_ = static_cast<char*>(array_.data->data()) + rows * each_ * width();
    } else if (spec_.kind == ColumnKind::ragged) {
      splits_.resize(size_t(rows) + 1);
      ragged_.resize(size_t(splits_.back() * width()));
    } else {
      strings_.offsets.resize(size_t(rows) + 1);
      strings_.bytes.resize(size_t(strings_.offsets.back()));
    }
  }
  Column finish(int64_t rows) {
    if (spec_.kind == ColumnKind::strings) return Column(std::move(strings_));
    if (spec_.kind == ColumnKind::dense) return Column(std::move(array_)).slice(0, rows);
    Array a = make_array({spec_.dtype, {splits_.back()}});
    std::copy(ragged_.begin(), ragged_.end(), static_cast<char*>(a.data->data()));
    return Column(std::move(a), std::move(splits_));
  }

 private:
  int64_t width() const { return size_of(spec_.dtype); }
  format::FeatureKind wanted() const {
    return spec_.kind == ColumnKind::strings ? format::FeatureKind::bytes
           : spec_.dtype == DType::f32       ? format::FeatureKind::floats
                                             : format::FeatureKind::integers;
  }
  void read(const format::Feature& f, char* to) const {
    if (spec_.dtype == DType::f32)
      f.read(reinterpret_cast<float*>(to));
    else
      f.read(reinterpret_cast<int64_t*>(to));
  }
  void add_missing() {
    if (spec_.kind == ColumnKind::ragged) return splits_.push_back(splits_.back());
    if (spec_.kind == ColumnKind::dense && spec_.missing) {
      for (int64_t i = 0; i < each_; ++i, at_ += width()) {
        const auto f = float(*spec_.missing);
        const auto n = int64_t(*spec_.missing);
        std::memcpy(at_, spec_.dtype == DType::f32 ? static_cast<const void*>(&f) : &n,
                    size_t(width()));
      }
      return;
    }
    fail(Code::DataLoss, {"there is no feature \"", spec_.name, "\""});
  }

  const FeatureSpec& spec_;
  const int64_t each_;
  Array array_;
  char* at_ = nullptr;
  std::vector<char> ragged_;
  Splits splits_{0};
  Strings strings_;
};

class ExampleFeed final : public RecordFeed {
 public:
  ExampleFeed(const std::string& path, std::shared_ptr<const std::vector<FeatureSpec>> specs,
              Skipped skipped)
      : RecordFeed(path, std::move(skipped)),
        specs_(std::move(specs)),
        example_(names(*specs_)),
        found_(specs_->size()) {}
  Chunk next(int64_t at_most) override {
    constexpr int64_t kMostBytes = int64_t(16) << 20;
    int64_t row_bytes = 1;
    for (auto& s : *specs_) row_bytes += checked_mul(values_of(s), size_of(s.dtype));
    at_most = std::clamp<int64_t>(kMostBytes / row_bytes, 1, at_most);
    std::vector<Filling> columns;
    for (auto& s : *specs_) columns.emplace_back(s, at_most);
    Chunk c;
    for (std::string_view record; c.rows < at_most && next_record(&record);) {
      try {
        example_.find(record, found_);
        for (size_t k = 0; k < columns.size(); ++k) columns[k].add(found_[k]);
        ++c.rows;
      } catch (const Error& e) {
        skip_or_throw(skipped_, {e.code(), concat({"tfrecord: ", place(), ": ", e.what()})});
        for (auto& column : columns) column.keep(c.rows);
      }
    }
    if (!c.rows) return {};
    for (auto& column : columns) c.columns.push_back(column.finish(c.rows));
    return c;
  }

 private:
  static std::vector<std::string> names(const std::vector<FeatureSpec>& specs) {
    std::vector<std::string> r;
    for (auto& s : specs) r.push_back(s.name);
    return r;
  }
  std::shared_ptr<const std::vector<FeatureSpec>> specs_;
  format::ExampleReader example_;
  std::vector<format::Feature> found_;
};

}  // namespace

Dataset tfrecord(const std::vector<std::string>& paths, std::vector<FeatureSpec> features,
                 TfRecordOptions o) {
  if (features.empty()) fail({"tfrecord: features are missing, expected at least one"});
  Schema schema;
  for (auto& f : features) {
    if (f.kind != ColumnKind::strings && f.dtype != DType::f32 && f.dtype != DType::i64)
      fail({"tfrecord: feature \"", f.name, "\" is ", str(f.dtype), ", expected f32 or i64"});
    if (f.kind != ColumnKind::dense && !f.dims.empty())
      fail({"tfrecord: feature \"", f.name, "\" has dims, expected them of dense ones only"});
    for (int64_t d : f.dims)
      if (d < 0) fail({"tfrecord: feature \"", f.name, "\" has the extent ", d});
    schema.push_back({.name = f.name, .kind = f.kind, .dtype = f.dtype, .dims = f.dims});
  }
  auto specs = std::make_shared<const std::vector<FeatureSpec>>(std::move(features));
  return Dataset::from(file_stream("tfrecord", std::move(schema), matching_files(paths),
                                   [specs, skipped = o.skipped](const std::string& path) {
                                     return std::make_unique<ExampleFeed>(path, specs, skipped);
                                   }));
}
Dataset tfrecord_bytes(const std::vector<std::string>& paths, TfRecordOptions o) {
  return Dataset::from(file_stream("tfrecord", {{.name = "record", .kind = ColumnKind::strings}},
                                   matching_files(paths),
                                   [skipped = o.skipped](const std::string& path) {
                                     return std::make_unique<BytesFeed>(path, skipped);
                                   }));
}

}  // namespace evenflow::data
