// SPDX-License-Identifier: Apache-2.0
#include "evenflow/data/dataset.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <span>

#include "evenflow/core/random.h"
#include "evenflow/data/stage.h"

namespace evenflow {

Permutation::Permutation(int64_t n, uint64_t seed, uint64_t stream)
    : n_(n), seed_(seed), stream_(stream) {
  half_bits_ = n <= 2 ? 1 : (std::bit_width(uint64_t(n - 1)) + 1) / 2;
}
int64_t Permutation::operator()(int64_t i) const {
  if (n_ < 2) return i;
  const uint64_t mask = (uint64_t(1) << half_bits_) - 1;
  uint64_t x = uint64_t(i);
  do {  // at most four times on average: the network's domain is below 4 n
    uint64_t left = x >> half_bits_, right = x & mask;
    for (uint64_t round = 0; round < 6; ++round) {
      const uint64_t f = Philox{seed_}(stream_ * 8 + round, right)[0] & mask;
      const uint64_t next = left ^ f;
      left = right, right = next;
    }
    x = left << half_bits_ | right;
  } while (x >= uint64_t(n_));
  return int64_t(x);
}

namespace {
class TensorsSource final : public data::Source {
 public:
  explicit TensorsSource(const Tensors& columns) {
    for (auto& t : columns) {
      columns_.emplace_back(t);
      schema_.push_back(columns_.back().field());
    }
  }
  const data::Schema& schema() const override { return schema_; }
  int64_t size() const override { return columns_[0].rows(); }
  data::Chunk read(std::span<const int64_t> indices) const override {
    data::Chunk c{{}, int64_t(indices.size())};
    for (auto& from : columns_) c.columns.push_back(from.gather(indices));
    return c;
  }
  std::string_view name() const override { return "tensors"; }

 private:
  std::vector<data::Column> columns_;
  data::Schema schema_;
};
std::vector<data::StagePtr> stages(const std::vector<Dataset>& datasets, std::string_view op) {
  if (datasets.empty()) fail({op, ": there is no dataset"});
  std::vector<data::StagePtr> r;
  for (auto& d : datasets) r.push_back(d.stage());
  return r;
}
void check_rows(const Dataset& d, std::string_view op) {
  if (d.batch_size())
    fail(Code::FailedPrecondition, {op, ": the dataset is batched, expected before batch"});
}
void check_batch_size(const Dataset& d, std::string_view op, int64_t size) {
  if (size < 1) fail({op, ": size is ", size, ", expected at least 1"});
  if (d.batch_size()) fail(Code::FailedPrecondition, {op, ": the dataset is batched already"});
}
void check_indexed(const Dataset& d, std::string_view op, std::string_view instead) {
  if (!d.indexed())
    fail(Code::FailedPrecondition,
         {op, ": elements of ", d.describe(), " are known in order only, expected known by index; ",
          instead});
  if (d.stage()->size() == data::kInfinite)
    fail(Code::FailedPrecondition, {op, ": the dataset has no end, expected before repeat"});
}
}  // namespace

Dataset::Dataset(Tensors columns) {
  if (columns.empty()) fail({"dataset: there is no column"});
  for (size_t i = 0; i < columns.size(); ++i) {
    if (!columns[i]) fail({"dataset: column ", i, " is an empty tensor"});
    const Shape& shape = columns[i].sig().shape;
    if (!shape.rank())
      fail({"dataset: column ", i, " is ", str(columns[i].sig()), ", expected a leading extent"});
    if (shape[0] != columns[0].sig().shape[0])
      fail({"dataset: column ", i, " is ", str(columns[i].sig()), ", expected the leading extent ",
            columns[0].sig().shape[0], " of column 0"});
  }
  stage_ = data::source_stage(std::make_shared<TensorsSource>(columns), true);
}
Dataset Dataset::from(std::shared_ptr<const data::Source> source) {
  return Dataset(data::source_stage(std::move(source), false));
}
Dataset Dataset::from(std::shared_ptr<const data::Stream> stream) {
  return Dataset(data::stream_stage(std::move(stream)));
}
const data::StagePtr& Dataset::stage() const {
  if (!stage_) fail(Code::FailedPrecondition, {"dataset: it is empty"});
  return stage_;
}

int64_t Dataset::size() const { return stage()->rows(); }
int64_t Dataset::batch_size() const { return stage()->batch(); }
int64_t Dataset::batches() const {
  if (!batch_size()) fail(Code::FailedPrecondition, {"dataset: it is not batched; call batch(n)"});
  return stage()->size();
}
size_t Dataset::columns() const { return schema().size(); }
const data::Schema& Dataset::schema() const { return stage()->schema(); }
Sig Dataset::element_sig(size_t column) const {
  if (column >= columns()) fail({"dataset: column ", column, ", expected below ", columns()});
  const data::Field& f = schema()[column];
  std::vector<int64_t> dims{batch_size() ? batch_size() : std::max<int64_t>(size(), 1)};
  dims.insert(dims.end(), f.dims.begin(), f.dims.end());
  const bool is_fixed = *std::min_element(dims.begin(), dims.end()) >= 0;
  if (f.kind != data::ColumnKind::dense || !is_fixed)
    fail({"dataset: column ", column, " is ", str(data::Schema{f}),
          ", expected dense elements of one shape"});
  return {f.dtype, Shape(dims)};
}
bool Dataset::indexed() const { return stage()->indexed(); }
bool Dataset::cheap() const { return stage()->cheap(); }
bool Dataset::shuffled() const { return describe().find("shuffle") != std::string::npos; }
std::string Dataset::describe() const { return data::describe(*stage()); }

Dataset Dataset::take(int64_t n) const {
  if (n < 0) fail({"take: n is ", n, ", expected at least 0"});
  return Dataset(data::part_stage(stage(), 0, n));
}
Dataset Dataset::skip(int64_t n) const {
  if (n < 0) fail({"skip: n is ", n, ", expected at least 0"});
  return Dataset(data::part_stage(stage(), n, data::kInfinite));
}
std::pair<Dataset, Dataset> Dataset::split(double fraction, uint64_t seed) const {
  if (!(fraction > 0 && fraction < 1))
    fail({"split: fraction is ", fraction, ", expected between 0 and 1"});
  check_rows(*this, "split");
  if (shuffled()) fail(Code::FailedPrecondition, {"split: expected before shuffle and batch"});
  check_indexed(*this, "split", "use cache() before it");
  auto order = std::make_shared<std::vector<int64_t>>(size_t(size()));
  const Permutation p(size(), seed, 0);
  for (int64_t i = 0; i < size(); ++i) (*order)[size_t(i)] = p(i);
  const Dataset mixed(data::order_stage(stage(), std::move(order)));
  const int64_t first = int64_t(double(size()) * fraction);
  return {mixed.take(first), mixed.skip(first)};
}
Dataset Dataset::shuffle(uint64_t seed) const {
  check_indexed(*this, "shuffle", "use shuffle_window(), or cache() before it");
  return Dataset(data::shuffle_stage(stage(), seed));
}
Dataset Dataset::shuffle_window(int64_t window, uint64_t seed) const {
  if (window < 1) fail({"shuffle_window: window is ", window, ", expected at least 1"});
  return Dataset(data::window_shuffle_stage(stage(), window, seed));
}
Dataset Dataset::repeat(int64_t times) const {
  if (times < 0) fail({"repeat: times is ", times, ", expected at least 0"});
  return Dataset(data::repeat_stage(stage(), std::min(times, data::kInfinite)));
}
Dataset Dataset::shard(int64_t shards, int64_t index) const {
  if (shards < 1 || index < 0 || index >= shards)
    fail({"shard: index is ", index, " of ", shards, " shards, expected 0..shards-1"});
  return Dataset(data::shard_stage(stage(), shards, index));
}

Dataset Dataset::map_chunks(data::ChunkMap f, std::string name) const {
  return Dataset(data::map_stage(std::move(name), stage(), std::move(f)));
}
Dataset Dataset::filter_chunks(data::ChunkFilter f, std::string name) const {
  check_rows(*this, name);
  return Dataset(data::filter_stage(std::move(name), stage(), std::move(f)));
}
Dataset Dataset::skip_errors(std::shared_ptr<std::atomic<int64_t>> skipped, int64_t most) const {
  check_rows(*this, "skip_errors");
  if (!skipped) skipped = std::make_shared<std::atomic<int64_t>>(0);
  return Dataset(data::skip_errors_stage(stage(), std::move(skipped), most));
}

Dataset Dataset::batch(int64_t size, bool drop_remainder) const {
  check_batch_size(*this, "batch", size);
  return Dataset(data::batch_stage(stage(), size, drop_remainder));
}
Dataset Dataset::padded_batch(int64_t size, PadOptions o) const {
  check_batch_size(*this, "padded_batch", size);
  const Dataset ragged = batch(size, o.drop_remainder);
  return ragged.map_chunks(
      [lengths = std::move(o.lengths), values = std::move(o.values)](
          const data::Chunk& c, const data::Place&) { return data::padded(c, lengths, values); },
      "pad");
}
Dataset Dataset::unbatch() const {
  if (!batch_size()) fail(Code::FailedPrecondition, {"unbatch: the dataset is not batched"});
  return Dataset(data::unbatch_stage(stage()));
}
Dataset Dataset::bucket_by_length(BucketOptions o) const {
  constexpr std::string_view op = "bucket_by_length";
  check_rows(*this, op);
  if (o.column >= columns() || schema()[o.column].kind == data::ColumnKind::dense)
    fail(
        {op, ": column is ", o.column, " of ", str(schema()), ", expected a ragged or string one"});
  if (!std::is_sorted(o.boundaries.begin(), o.boundaries.end(), std::less_equal<>()))
    fail({op, ": the boundaries do not ascend"});
  if (o.batch_sizes.size() != o.boundaries.size() + 1)
    fail({op, ": there are ", o.batch_sizes.size(), " batch_sizes, expected ",
          o.boundaries.size() + 1, ", one more than boundaries"});
  for (int64_t n : o.batch_sizes)
    if (n < 1) fail({op, ": a batch size is ", n, ", expected at least 1"});
  if (o.max_wait < 1) fail({op, ": max_wait is ", o.max_wait, ", expected at least 1"});
  return Dataset(
      data::bucket_stage(stage(), {o.column, std::move(o.boundaries), std::move(o.batch_sizes),
                                   std::move(o.padding_values), o.drop_remainder, o.max_wait}));
}

Dataset Dataset::cache(CacheOptions o) const {
  return Dataset(data::memory_cache_stage(stage(), o.progress));
}
Dataset Dataset::cache(const std::string& path, CacheOptions o) const {
  return Dataset(data::file_cache_stage(stage(), path, o.progress));
}
Dataset Dataset::prefetch(int64_t elements) const {
  if (elements < 1) fail({"prefetch: elements is ", elements, ", expected at least 1"});
  return Dataset(data::prefetch_stage(stage(), elements));
}

Dataset Dataset::zip(const std::vector<Dataset>& datasets) {
  return Dataset(data::zip_stage(stages(datasets, "zip")));
}
Dataset Dataset::concatenate(const std::vector<Dataset>& datasets) {
  return Dataset(data::concatenate_stage(stages(datasets, "concatenate")));
}
Dataset Dataset::interleave(const std::vector<Dataset>& datasets, int64_t cycle, int64_t block) {
  if (cycle < 0 || block < 1)
    fail({"interleave: cycle is ", cycle, " and block ", block, ", expected at least 0 and 1"});
  return Dataset(data::interleave_stage(stages(datasets, "interleave"),
                                        cycle ? cycle : int64_t(datasets.size()), block));
}
Dataset Dataset::sample(const std::vector<Dataset>& datasets, std::vector<double> weights,
                        uint64_t seed) {
  auto all = stages(datasets, "sample");
  if (weights.size() != datasets.size())
    fail({"sample: there are ", weights.size(), " weights, expected ", datasets.size(),
          ", one for each dataset"});
  for (double w : weights)
    if (!(w >= 0 && std::isfinite(w)))
      fail({"sample: a weight is ", w, ", expected a finite number of at least 0"});
  return Dataset(data::sample_stage(std::move(all), std::move(weights), seed));
}

namespace {
std::vector<int64_t> classes_of(const data::Chunk& c, size_t column, size_t classes) {
  std::vector<int64_t> v = c.columns[column].tensor().to_vector<int64_t>();
  for (int64_t k : v)
    if (k < 0 || k >= int64_t(classes))
      fail(Code::OutOfRange, {"rebalance: a class is ", k, ", expected 0..", int64_t(classes) - 1});
  if (int64_t(v.size()) != c.rows)
    fail({"rebalance: column ", column, " is ", str(data::Schema{c.columns[column].field()}),
          ", expected a number an element"});
  return v;
}
void check_proportions(const std::vector<double>& v, std::string_view what) {
  double sum = 0;
  for (double p : v) {
    if (!(p >= 0 && std::isfinite(p)))
      fail({"rebalance: ", what, " has ", p, ", expected finite numbers of at least 0"});
    sum += p;
  }
  if (!(sum > 0)) fail({"rebalance: ", what, " has no positive number"});
}
}  // namespace
Dataset Dataset::rebalance(size_t column, std::vector<double> wanted, std::vector<double> found,
                           uint64_t seed) const {
  check_rows(*this, "rebalance");
  if (column >= columns()) fail({"rebalance: column ", column, ", expected below ", columns()});
  check_proportions(wanted, "wanted");
  const size_t classes = wanted.size();
  if (found.empty()) {
    found.resize(classes);
    Iterator pass(*this);
    for (data::Chunk c; (c = pass.next_chunk(1024)).rows;)
      for (int64_t k : classes_of(c, column, classes)) ++found[size_t(k)];
  }
  if (found.size() != classes)
    fail({"rebalance: found has ", found.size(), " numbers, expected ", classes, " as wanted"});
  check_proportions(found, "found");
  // Classes that are too rare are kept whole, the others in proportion to them.
  std::vector<double> keep(classes);
  double most = 0;
  for (size_t k = 0; k < classes; ++k) {
    if (wanted[k] > 0 && !(found[k] > 0))
      fail({"rebalance: class ", k, " is wanted, and there is none"});
    most = std::max(most, keep[k] = wanted[k] > 0 ? wanted[k] / found[k] : 0);
  }
  for (double& p : keep) p /= most;
  return filter_chunks(
      [=](const data::Chunk& c, const data::Place& place) {
        const std::vector<int64_t> of = classes_of(c, column, classes);
        std::vector<uint8_t> stays(of.size());
        for (size_t i = 0; i < of.size(); ++i) {
          const auto words = Philox{seed}(uint64_t(place.epoch), uint64_t(place.indices[i]));
          stays[i] = uniform_f64(words[0], words[1]) < keep[size_t(of[i])];
        }
        return stays;
      },
      "rebalance");
}

Tensors Dataset::batch_at(int64_t i, int64_t epoch) const {
  const int64_t n = batches();
  check_indexed(*this, "batch_at", "iterate, or use cache() before batch()");
  if (i < 0 || i >= n) fail(Code::OutOfRange, {"dataset: batch ", i, ", expected 0..", n - 1});
  return stage()->read({&i, 1}, epoch).tensors();
}
Tensors Dataset::all(int64_t epoch) const {
  if (stage()->size() == data::kInfinite)
    fail(Code::FailedPrecondition, {"all: the dataset has no end, expected before repeat"});
  std::vector<data::Chunk> parts;
  Iterator pass(*this, {.epoch = epoch});
  for (data::Chunk c; (c = pass.next_chunk(data::kInfinite)).rows;) parts.push_back(std::move(c));
  if (parts.empty()) {
    // What no element is: columns of no rows.
    Tensors r;
    for (size_t i = 0; i < columns(); ++i)
      r.push_back(zeros(element_sig(i).shape.with(0, 0), element_sig(i).dtype));
    return r;
  }
  return data::concatenate(parts).tensors();
}

}  // namespace evenflow
