// SPDX-License-Identifier: Apache-2.0
// cache: all elements of one pass, in memory or in a file, from then on known by index. The file is
// a TFRecord file: first the description of the pipeline, then a record an element.
#include <cstring>
#include <utility>

#include "evenflow/core/error.h"
#include "evenflow/core/parallel.h"
#include "evenflow/data/progress.h"
#include "evenflow/data/runner.h"
#include "evenflow/data/stage.h"
#include "evenflow/format/tfrecord.h"

namespace evenflow::data {
namespace {

constexpr int64_t kAhead = int64_t(64) << 20;  // bytes that wait while a cache is filled

// One pass in order, by all threads.
void read_all(const Stage& stage, std::FILE* progress, FunctionRef<void(Chunk&&)> f) {
  Runner runner(thread_count(), kAhead, false);
  FeedPtr feed = stage.open({.runner = &runner});
  runner.start();
  PassProgress shown(progress, "caching", stage.rows());
  for (;;) {
    Runner::check_cancelled();
    Chunk c = feed->next(kInfinite);
    if (!c.rows) break;
    shown.add(c.rows);
    f(std::move(c));
  }
  shown.end();
}

class CacheStage : public Stage {
 public:
  CacheStage(const StagePtr& input, std::FILE* progress)
      : Stage({.name = "cache",
               .inputs = {input},
               .indexed = true,
               .size = input->size(),
               .batch = input->batch()}),
        progress_(progress) {
    if (input->size() == kInfinite)
      fail(Code::FailedPrecondition,
           {"cache: the dataset has no end, expected take() or cache() before repeat()"});
  }
  // Of what only a pass can tell, that pass.
  int64_t size() const override {
    return input().size() == kUnknown ? filled_size() : input().size();
  }

 protected:
  Schema make_schema() const override { return input().schema(); }
  virtual int64_t filled_size() const = 0;
  std::FILE* progress() const { return progress_; }

 private:
  std::FILE* const progress_;
};

class MemoryCacheStage final : public CacheStage {
 public:
  using CacheStage::CacheStage;

 protected:
  int64_t filled_size() const override {
    fill();
    return batch() ? int64_t(batches_.size()) : all_.rows;
  }
  Chunk do_read(std::span<const int64_t> indices, int64_t) const override {
    fill();
    if (batch()) return batches_[size_t(indices[0])];
    return all_.gather(indices);
  }

 private:
  void fill() const {
    std::call_once(once_, [&] {
      std::vector<Chunk> parts;
      read_all(input(), progress(), [&](Chunk&& c) { parts.push_back(std::move(c)); });
      if (batch())
        batches_ = std::move(parts);
      else if (!parts.empty())
        all_ = joined(parts);
    });
  }
  // Column by column, so that only one is there twice.
  static Chunk joined(std::vector<Chunk>& parts) {
    Chunk all;
    for (size_t k = parts[0].columns.size(); k--;) {
      std::vector<Chunk> column;
      for (auto& p : parts) {
        column.push_back({{std::move(p.columns[k])}, p.rows});
        p.columns.pop_back();
      }
      Chunk whole = concatenate(column);
      all.rows = whole.rows;
      all.columns.insert(all.columns.begin(), std::move(whole.columns[0]));
    }
    return all;
  }

  mutable std::once_flag once_;
  mutable Chunk all_;
  mutable std::vector<Chunk> batches_;
};

// ---- elements as records

void put(StateWriter& to, const Array& a) {
  to.number(int64_t(a.sig.dtype));
  to.number(a.sig.shape.rank());
  for (int64_t d : a.sig.shape) to.number(d);
  to.raw({static_cast<const char*>(a.data->data()), size_t(a.sig.bytes())});
}
std::string encoded(const Chunk& c) {
  StateWriter w;
  w.number(c.rows);
  w.number(int64_t(c.columns.size()));
  for (auto& column : c.columns) {
    w.number(int64_t(column.kind()));
    if (column.kind() == ColumnKind::strings) {
      for (int64_t i = 0; i < c.rows; ++i) w.text(column.strings()[i]);
      continue;
    }
    if (column.kind() == ColumnKind::ragged)
      for (int64_t i = 0; i < c.rows; ++i)
        w.number(column.splits()[size_t(i) + 1] - column.splits()[size_t(i)]);
    put(w, column.values());
  }
  return w.take();
}
Array array_of(StateReader& from) {
  const auto dtype = DType(from.number(int64_t(kDTypes) - 1));
  std::vector<int64_t> dims(size_t(from.number(kMaxRank)));
  for (auto& d : dims) d = from.number(format::kMaxRecordBytes);
  const Sig sig{dtype, Shape(dims)};
  const std::string_view bytes = from.raw(sig.bytes());
  Array a = make_array(sig);
  std::memcpy(a.data->data(), bytes.data(), bytes.size());
  return a;
}
Chunk decoded(std::string_view record) {
  StateReader r(record);
  Chunk c{{}, r.number(format::kMaxRecordBytes)};
  c.columns.resize(size_t(r.number(format::kMaxRecordBytes)));
  for (auto& column : c.columns) {
    const auto kind = ColumnKind(r.number(int64_t(ColumnKind::strings)));
    if (kind == ColumnKind::strings) {
      Strings s;
      for (int64_t i = 0; i < c.rows; ++i) s.push_back(r.text());
      column = Column(std::move(s));
      continue;
    }
    Splits splits{0};
    if (kind == ColumnKind::ragged)
      for (int64_t i = 0; i < c.rows; ++i)
        splits.push_back(splits.back() + r.number(format::kMaxRecordBytes));
    Array a = array_of(r);
    column =
        kind == ColumnKind::ragged ? Column(std::move(a), std::move(splits)) : Column(std::move(a));
  }
  return c;
}

class FileCacheStage final : public CacheStage {
 public:
  FileCacheStage(const StagePtr& input, std::string path, std::FILE* progress)
      : CacheStage(input, progress), path_(std::move(path)) {}
  std::string describe() const override { return "cache(file)"; }

 protected:
  int64_t filled_size() const override { return file().size() - 1; }
  Chunk do_read(std::span<const int64_t> indices, int64_t) const override {
    const format::TfRecordFile& f = file();
    std::vector<Chunk> parts;
    for (size_t i = 0; i < indices.size();) {
      size_t end = i + 1;
      while (end < indices.size() && indices[end] == indices[end - 1] + 1) ++end;
      if (indices[end - 1] + 1 >= f.size())
        fail(Code::DataLoss, {"cache: ", path_, " has ", f.size() - 1, " elements, expected ",
                              size(), "; remove it to make it again"});
      f.read(indices[i] + 1, int64_t(end - i),
             [&](int64_t, int64_t, std::string_view bytes) { parts.push_back(decoded(bytes)); });
      i = end;
    }
    return concatenate(parts);
  }

 private:
  const format::TfRecordFile& file() const {
    std::call_once(once_, [&] {
      if (!is_ours()) fill();
      file_ = std::make_unique<format::TfRecordFile>(path_);
    });
    return *file_;
  }
  std::string header() const { return "evenflow cache 1: " + data::describe(input()); }
  // Whether a file is there, and is of this pipeline.
  bool is_ours() const {
    try {
      format::TfRecordReader r{format::InputStream(path_)};
      std::string_view first;
      return r.next(&first) && first == header();
    } catch (const Error& e) {
      if (e.code() == Code::NotFound || e.code() == Code::DataLoss) return false;
      throw;
    }
  }
  void fill() const {
    format::write_tfrecord(path_, [&](format::TfRecordWriter& w) {
      w.write(header());
      read_all(input(), progress(), [&](Chunk&& c) {
        if (batch()) return w.write(encoded(c));
        for (int64_t i = 0; i < c.rows; ++i) w.write(encoded(c.slice(i, i + 1)));
      });
    });
  }

  const std::string path_;
  mutable std::once_flag once_;
  mutable std::unique_ptr<format::TfRecordFile> file_;
};

}  // namespace

StagePtr memory_cache_stage(StagePtr input, std::FILE* progress) {
  return std::make_shared<MemoryCacheStage>(input, progress);
}
StagePtr file_cache_stage(StagePtr input, std::string path, std::FILE* progress) {
  return std::make_shared<FileCacheStage>(input, std::move(path), progress);
}

}  // namespace evenflow::data
