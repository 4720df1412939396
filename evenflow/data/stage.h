// SPDX-License-Identifier: Apache-2.0
// The parts that a Dataset is built of. A stage is one transform of a pipeline, immutable and
// shared; a feed is one pass over its elements. An element is a row, or a batch of rows once there
// is a batch stage. An indexed stage knows each of its elements by (epoch, index) alone.
#pragma once
#include <array>
#include <atomic>
#include <cstdio>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "evenflow/data/map.h"
#include "evenflow/data/source.h"

namespace evenflow::data {

/// A position is written as numbers and short texts, and read back in the same order.
class StateWriter {
 public:
  void number(int64_t v);
  void text(std::string_view s);
  /// A state that was saved before, which its own load() will read.
  void raw(std::string_view state) { bytes_ += state; }
  std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};
class StateReader {
 public:
  explicit StateReader(std::string_view bytes) : rest_(bytes) {}
  /// Throw InvalidArgument where the state ends early.
  int64_t number();
  /// A number from 0 to `most`.
  int64_t number(int64_t most);
  std::string_view text();
  std::string_view raw(int64_t bytes);
  bool at_end() const { return rest_.empty(); }

 private:
  std::string_view rest_;
};

/// One pass over a stage's elements. One thread at a time uses it.
class Feed {
 public:
  virtual ~Feed() = default;
  /// The next 1 to at_most rows, or of a batched stage one batch; no rows: the end, and again when
  /// asked again.
  virtual Chunk next(int64_t at_most) = 0;
  /// The place between two next().
  virtual void save(StateWriter& to) const = 0;
  virtual void load(StateReader& from) = 0;
};
using FeedPtr = std::unique_ptr<Feed>;
std::string saved(const Feed& feed);
/// `rows` rows, fewer only at the end.
Chunk next_exactly(Feed& feed, int64_t rows);

/// Rows on their way through the steps of a pipeline, and the index that each has in the epoch.
struct Rows {
  Chunk chunk;
  std::vector<int64_t> indices;
  int64_t epoch = 0;
};

/// Where the time goes, for EVENFLOW_LOG=data.
struct StageTimes {
  std::atomic<int64_t> nanoseconds{0}, rows{0};
};

class Runner;
/// One way through the data.
struct Pass {
  int64_t epoch = 0;
  Runner* runner = nullptr;  ///< the threads that work ahead; null: nobody does
  int depth = 0;             ///< stages that work ahead, between here and the end
};

class Stage;
using StagePtr = std::shared_ptr<const Stage>;

/// What several workers do at once: each takes rows from the feed, one worker after the other, and
/// sends them through the steps.
struct Work {
  FeedPtr feed;
  std::vector<std::function<void(Rows&)>> steps;
};

class Stage {
 public:
  /// What all stages have. size: elements, kUnknown or kInfinite. batch: rows of a full batch; 0:
  /// elements are rows.
  struct Traits {
    std::string name;
    std::vector<StagePtr> inputs = {};
    bool indexed = false;
    int64_t size = kUnknown;
    int64_t batch = 0;
    bool cheap = true;  ///< only copies memory, so that no thread needs to work ahead
  };
  explicit Stage(Traits traits);
  virtual ~Stage() = default;

  const std::string& name() const { return traits_.name; }
  const std::vector<StagePtr>& inputs() const { return traits_.inputs; }
  bool indexed() const { return traits_.indexed; }
  virtual int64_t size() const { return traits_.size; }
  /// As size(), but rows where elements are batches.
  virtual int64_t rows() const;
  int64_t batch() const { return traits_.batch; }
  bool cheap() const { return traits_.cheap; }
  /// What an element's columns are; may have to read the first element.
  const Schema& schema() const;

  /// Elements of an indexed stage; a batched one is asked for one at a time. A pure function.
  Chunk read(std::span<const int64_t> indices, int64_t epoch) const;
  FeedPtr open(const Pass& pass) const;
  /// As open, but the steps of rows are not begun yet.
  virtual Work work(const Pass& pass) const;
  /// "batch(32)": name and settings, which a saved position must agree with.
  virtual std::string describe() const { return name(); }
  StageTimes& times() const { return times_; }

 protected:
  virtual Schema make_schema() const;
  virtual Chunk do_read(std::span<const int64_t> indices, int64_t epoch) const;
  virtual FeedPtr do_open(const Pass& pass) const;
  const Stage& input(size_t i = 0) const { return *traits_.inputs[i]; }

 private:
  Traits traits_;
  mutable std::once_flag schema_once_;
  mutable Schema schema_;
  mutable StageTimes times_;
};

/// Time of a stage alone: what is timed inside is taken off.
class Timed {
 public:
  explicit Timed(const Stage& stage);
  ~Timed();
  void rows(int64_t n) { rows_ += n; }

 private:
  const Stage& stage_;
  Timed* outer_;
  int64_t start_, inside_ = 0, rows_ = 0;
};

/// The description of a pipeline, last stage first.
std::string describe(const Stage& last);

// ---- the stages

StagePtr source_stage(std::shared_ptr<const Source> source, bool cheap);
StagePtr stream_stage(std::shared_ptr<const Stream> stream, int64_t shard = 0, int64_t shards = 1);

StagePtr part_stage(StagePtr input, int64_t skip, int64_t take);
/// Elements order[i] of an indexed stage.
StagePtr order_stage(StagePtr input, std::shared_ptr<const std::vector<int64_t>> order);
StagePtr shard_stage(StagePtr input, int64_t shards, int64_t shard);
StagePtr shuffle_stage(StagePtr input, uint64_t seed);
StagePtr window_shuffle_stage(StagePtr input, int64_t window, uint64_t seed);
/// times: kInfinite for ever.
StagePtr repeat_stage(StagePtr input, int64_t times);
StagePtr batch_stage(StagePtr input, int64_t size, bool drop_remainder);
StagePtr unbatch_stage(StagePtr input);

StagePtr map_stage(std::string name, StagePtr input, ChunkMap f);
StagePtr filter_stage(std::string name, StagePtr input, ChunkFilter f);
StagePtr skip_errors_stage(StagePtr input, std::shared_ptr<std::atomic<int64_t>> skipped,
                           int64_t most);
StagePtr prefetch_stage(StagePtr input, int64_t elements);

struct BucketSettings {
  size_t column = 0;
  std::vector<int64_t> boundaries, batch_sizes;
  std::vector<double> padding_values;
  bool drop_remainder = false;
  int64_t max_wait = 0;
};
/// Ragged columns as dense ones [rows, length, ...]; length -1, or none: the longest row.
Chunk padded(Chunk chunk, const std::vector<int64_t>& lengths, const std::vector<double>& values);
StagePtr bucket_stage(StagePtr input, BucketSettings settings);

StagePtr zip_stage(std::vector<StagePtr> inputs);
StagePtr concatenate_stage(std::vector<StagePtr> inputs);
StagePtr interleave_stage(std::vector<StagePtr> inputs, int64_t cycle, int64_t block);
StagePtr sample_stage(std::vector<StagePtr> inputs, std::vector<double> weights, uint64_t seed);

StagePtr memory_cache_stage(StagePtr input, std::FILE* progress);
StagePtr file_cache_stage(StagePtr input, std::string path, std::FILE* progress);

}  // namespace evenflow::data
