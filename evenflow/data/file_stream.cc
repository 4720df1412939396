// SPDX-License-Identifier: Apache-2.0
#include "evenflow/data/file_stream.h"

#include <glob.h>

#include <algorithm>
#include <utility>

#include "evenflow/core/log.h"

namespace evenflow::data {
namespace {

class FilesCursor final : public Cursor {
 public:
  FilesCursor(std::vector<std::string> paths, OpenFile open, int64_t every, int64_t first)
      : paths_(std::move(paths)), open_(std::move(open)), every_(every), first_(first) {}
  Chunk next(int64_t at_most) override {
    while (at_ < paths_.size()) {
      if (!feed_) feed_ = open_(paths_[at_]);
      Chunk c = feed_->next(every_ == 1 ? at_most : std::min(at_most * every_, kMostRows));
      if (!c.rows) {
        feed_ = nullptr, ++at_;
        continue;
      }
      const int64_t before = elements_;
      elements_ = (elements_ + c.rows) % every_;
      if (every_ == 1) return c;
      std::vector<int64_t> ours;
      for (int64_t row = (first_ - before + every_) % every_; row < c.rows; row += every_)
        ours.push_back(row);
      if (!ours.empty()) return c.gather(ours);
    }
    return {};
  }
  std::string position() const override {
    StateWriter w;
    w.number(int64_t(at_));
    w.number(elements_);
    w.number(bool(feed_));
    if (feed_) feed_->save(w);
    return w.take();
  }
  void seek(std::string_view position) override {
    StateReader r(position);
    at_ = size_t(r.number(int64_t(paths_.size())));
    elements_ = r.number(every_ - 1);
    feed_ = nullptr;
    if (!r.number(1)) return;
    if (at_ == paths_.size()) fail({"dataset: the state is of other files"});
    feed_ = open_(paths_[at_]);
    feed_->load(r);
  }

 private:
  static constexpr int64_t kMostRows = 4096;
  const std::vector<std::string> paths_;
  const OpenFile open_;
  const int64_t every_, first_;
  size_t at_ = 0;         // the file
  int64_t elements_ = 0;  // that were read, modulo every_
  FeedPtr feed_;
};

class FileStream final : public Stream {
 public:
  FileStream(std::string name, Schema schema, std::vector<std::string> paths, OpenFile open)
      : name_(std::move(name)),
        schema_(std::move(schema)),
        paths_(std::move(paths)),
        open_(std::move(open)) {}
  const Schema& schema() const override { return schema_; }
  std::string_view name() const override { return name_; }
  std::unique_ptr<Cursor> open(int64_t shard, int64_t shards) const override {
    if (int64_t(paths_.size()) < shards)
      return std::make_unique<FilesCursor>(paths_, open_, shards, shard);
    std::vector<std::string> ours;
    for (size_t i = size_t(shard); i < paths_.size(); i += size_t(shards))
      ours.push_back(paths_[i]);
    return std::make_unique<FilesCursor>(std::move(ours), open_, 1, 0);
  }

 private:
  const std::string name_;
  const Schema schema_;
  const std::vector<std::string> paths_;
  const OpenFile open_;
};

}  // namespace

std::shared_ptr<const Stream> file_stream(std::string name, Schema schema,
                                          std::vector<std::string> paths, OpenFile open) {
  return std::make_shared<FileStream>(std::move(name), std::move(schema), std::move(paths),
                                      std::move(open));
}

void skip_or_throw(const Skipped& skipped, const Error& error) {
  if (!skipped) throw error;
  ++*skipped;
  if (logs(Topic::data)) log(Topic::data, std::string("data: skipped: ") + error.what());
}

std::vector<std::string> matching_files(const std::vector<std::string>& patterns) {
  if (patterns.empty()) fail({"dataset: there is no path"});
  std::vector<std::string> all;
  for (auto& p : patterns) {
    glob_t found{};
    const int rc = glob(p.c_str(), GLOB_MARK, nullptr, &found);
    for (size_t i = 0; rc == 0 && i < found.gl_pathc; ++i) all.push_back(found.gl_pathv[i]);
    globfree(&found);
    if (rc == GLOB_NOSPACE) fail(Code::ResourceExhausted, {"dataset: no memory for ", p});
    if (rc != 0) fail(Code::NotFound, {"dataset: no file matches \"", p, "\""});
  }
  return all;
}

}  // namespace evenflow::data
