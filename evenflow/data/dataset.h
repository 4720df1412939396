// SPDX-License-Identifier: Apache-2.0
// Dataset: what a training loop iterates over, and the transforms on the way there. Every element
// is a pure function of (seed, epoch, index), so an order does not depend on threads and a position
// is a few numbers.
#pragma once
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "evenflow/data/map.h"
#include "evenflow/data/source.h"
#include "evenflow/graph/tensor.h"

namespace evenflow {

namespace data {
class Stage;
class Feed;
class Runner;
}  // namespace data

/// An order of 0..n-1 in which position i is computed from (seed, i) alone: a Feistel network over
/// Philox with cycle walking (Black & Rogaway, "Ciphers with arbitrary finite domains", 2002).
class Permutation {
 public:
  Permutation(int64_t n, uint64_t seed, uint64_t stream);
  int64_t operator()(int64_t i) const;

 private:
  int64_t n_;
  uint64_t seed_, stream_;
  int half_bits_;
};

/// Options of padded_batch().
struct PadOptions {
  std::vector<int64_t> lengths = {};  ///< of each column; none, or -1: the longest of the batch
  std::vector<double> values = {};    ///< of each column; none: 0
  bool drop_remainder = false;
};
/// Options of bucket_by_length().
struct BucketOptions {
  size_t column = 0;                        ///< ragged, or strings: its lengths count
  std::vector<int64_t> boundaries = {};     ///< ascending; bucket i holds lengths below boundary i
  std::vector<int64_t> batch_sizes = {};    ///< one more than boundaries
  std::vector<double> padding_values = {};  ///< of each column; none: 0
  bool drop_remainder = false;
  /// Elements that may come after one that waits in a bucket; then the bucket is emitted as it is.
  /// It bounds what a resumed pass reads again.
  int64_t max_wait = 100'000;
};
/// Options of cache().
struct CacheOptions {
  std::FILE* progress = nullptr;  ///< where a live line goes while it is filled
};

/// What passes through stages: sources, transforms, batches. A handle: cheap to copy; every
/// transform returns a new one. Elements are rows of columns (x, y, and a weight if there is one);
/// behind batch() they are batches, and take, skip, shuffle, repeat count these.
class Dataset {
 public:
  Dataset() = default;
  /// Columns with a common leading extent. Throws InvalidArgument for no column, a scalar, or
  /// leading extents that differ.
  explicit Dataset(Tensors columns);
  Dataset(Tensor x, Tensor y) : Dataset(Tensors{std::move(x), std::move(y)}) {}
  static Dataset from(std::shared_ptr<const data::Source> source);
  static Dataset from(std::shared_ptr<const data::Stream> stream);

  /// Elements (rows, whether batched or not) of an epoch; data::kUnknown where only a pass can
  /// tell, data::kInfinite for ever.
  int64_t size() const;
  int64_t batch_size() const;  ///< of a full batch; 0: not batched
  /// Per epoch, as size(); throws FailedPrecondition when not batched.
  int64_t batches() const;
  size_t columns() const;
  const data::Schema& schema() const;
  /// The signature of a column's elements in a full batch; throws InvalidArgument for strings and
  /// ragged columns.
  Sig element_sig(size_t column) const;
  /// Whether each element is known by its index: batch_at, split and a full shuffle need that.
  bool indexed() const;
  /// Whether reading copies memory and does no more.
  bool cheap() const;
  bool shuffled() const;
  /// "batch(32) <- shuffle <- tensors"
  std::string describe() const;

  Dataset take(int64_t n) const;
  Dataset skip(int64_t n) const;
  /// A random part and the rest: `fraction` (0 < fraction < 1) of the elements, rounded down, are
  /// in the first.
  std::pair<Dataset, Dataset> split(double fraction, uint64_t seed = 0) const;
  /// Another order in each epoch, all elements mixed. Throws FailedPrecondition where elements are
  /// not known by index.
  Dataset shuffle(uint64_t seed = 0) const;
  /// Mixes within windows of so many elements, one window after the other.
  Dataset shuffle_window(int64_t window, uint64_t seed = 0) const;
  /// Each time another epoch of what comes before; without a number for ever.
  Dataset repeat(int64_t times = data::kInfinite) const;
  /// Elements index, index + shards, ...: what rank `index` of `shards` reads. A stream gives out
  /// whole files or blocks instead where it has enough of them.
  Dataset shard(int64_t shards, int64_t index) const;

  /// f, for example [](float x, std::string_view y) { return std::tuple(x * 2, y.size()); }; what
  /// it may take and return is in map.h. It is called by several threads at once, so it must be
  /// pure.
  template <class F>
  Dataset map(F f) const {
    return map_chunks(data::chunk_map(std::move(f)));
  }
  Dataset map_chunks(data::ChunkMap f, std::string name = "map") const;
  /// Keeps the elements for which f returns true; f takes what map's f takes.
  template <class F>
  Dataset filter(F f) const {
    return filter_chunks(data::chunk_filter(std::move(f)));
  }
  Dataset filter_chunks(data::ChunkFilter f, std::string name = "filter") const;
  /// Drops elements whose reading or mapping throws an Error, and counts them; the one after `most`
  /// is thrown all the same.
  Dataset skip_errors(std::shared_ptr<std::atomic<int64_t>> skipped = {},
                      int64_t most = data::kInfinite) const;

  /// Ragged columns stay ragged.
  Dataset batch(int64_t size, bool drop_remainder = false) const;
  /// Ragged columns become dense, padded behind their values.
  Dataset padded_batch(int64_t size, PadOptions options = {}) const;
  Dataset unbatch() const;
  /// Padded batches of elements of like length (tf.data's bucket_by_sequence_length).
  Dataset bucket_by_length(BucketOptions options) const;

  /// Keeps all elements in memory, or in a file, from the first use on; then they are known by
  /// index. A file that is there already is used if it was made whole by the same pipeline (by its
  /// describe()), else made again.
  Dataset cache(CacheOptions options = {}) const;
  Dataset cache(const std::string& path, CacheOptions options = {}) const;
  /// At most so many elements wait ready at this place. Without it that is found by itself.
  Dataset prefetch(int64_t elements) const;

  /// Elements side by side, as long as the shortest.
  static Dataset zip(const std::vector<Dataset>& datasets);
  static Dataset concatenate(const std::vector<Dataset>& datasets);
  /// `block` elements from each of `cycle` datasets in turn; one that ends makes place for the
  /// next of the list. cycle 0: all.
  static Dataset interleave(const std::vector<Dataset>& datasets, int64_t cycle = 0,
                            int64_t block = 1);
  /// Each element from a dataset drawn by weight, among those that have not ended.
  static Dataset sample(const std::vector<Dataset>& datasets, std::vector<double> weights,
                        uint64_t seed = 0);
  /// Drops elements so that classes 0, 1, ... of an integer column come in these proportions
  /// (tf.data's rejection_resample); `found` are the proportions that are there, counted in one
  /// pass when not given.
  Dataset rebalance(size_t column, std::vector<double> wanted, std::vector<double> found = {},
                    uint64_t seed = 0) const;

  /// Batch i of an epoch: a tensor a column. A batch is copied, the columns are not. Throws
  /// FailedPrecondition where elements are not known by index.
  Tensors batch_at(int64_t i, int64_t epoch = 0) const;
  /// All elements in order, as tensors (of an epoch when shuffled).
  Tensors all(int64_t epoch = 0) const;

  const std::shared_ptr<const data::Stage>& stage() const;

 private:
  explicit Dataset(std::shared_ptr<const data::Stage> stage) : stage_(std::move(stage)) {}
  std::shared_ptr<const data::Stage> stage_;
};

/// How a pass over a dataset runs.
struct IteratorOptions {
  int64_t epoch = 0;
  /// Threads that work ahead; absent: thread_count(), or none when the dataset is cheap().
  std::optional<int> threads = {};
  /// Bytes of elements that may wait ready; one for each stage always may.
  int64_t memory = int64_t(128) << 20;
  /// Elements come as they are ready. Where a pass stands is kept exactly all the same.
  bool any_order = false;
};

/// One pass over a dataset. One thread at a time uses it, but for cancel(). A batched dataset gives
/// a batch at a time; another one gives its rows, one at a time unless next_chunk is asked for
/// more.
class Iterator {
 public:
  explicit Iterator(const Dataset& dataset, IteratorOptions options = {});
  Iterator(Iterator&&) noexcept;
  Iterator& operator=(Iterator&&) noexcept;
  ~Iterator();

  /// A tensor a column; empty at the end. Throws what reading and mapping throw, in the order of
  /// the elements, and again when asked again.
  Tensors next();
  data::Chunk next_chunk(int64_t at_most = 1);
  /// Where it stands, in at most a kilobyte or so: one that is restored from it goes on with the
  /// next element. Threads and memory may differ.
  std::string state() const;
  /// Throws InvalidArgument for what is no state, FailedPrecondition for another pipeline's.
  void restore(std::string_view state);
  /// From the front, another epoch.
  void restart(int64_t epoch);
  int64_t epoch() const;
  /// From any thread: next() throws FailedPrecondition soon, also one that waits now.
  void cancel();
  /// What EVENFLOW_LOG=data writes at the end: rows and time of each stage, and which one the
  /// others wait for.
  std::string report() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// for (const Tensors& batch : dataset)
class IteratorPlace {
 public:
  using value_type = Tensors;
  using difference_type = std::ptrdiff_t;
  IteratorPlace() = default;
  explicit IteratorPlace(const Dataset& dataset);
  const Tensors& operator*() const { return batch_; }
  IteratorPlace& operator++();
  void operator++(int) { ++*this; }
  bool operator==(std::default_sentinel_t) const { return batch_.empty(); }

 private:
  std::shared_ptr<Iterator> iterator_;
  Tensors batch_;
};
inline IteratorPlace begin(const Dataset& dataset) { return IteratorPlace(dataset); }
inline std::default_sentinel_t end(const Dataset&) { return {}; }

}  // namespace evenflow
