// SPDX-License-Identifier: Apache-2.0
#include "evenflow/data/dataset.h"

#include <bit>
#include <cstring>

#include "evenflow/core/random.h"

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

struct Dataset::State {
  Tensors columns;
  std::shared_ptr<const std::vector<int64_t>> order;  // rows of the columns; null: all
  int64_t begin = 0, count = 0;
  std::optional<uint64_t> seed;
  int64_t batch = 0;
  bool drop_remainder = false;
};

Dataset::Dataset(Tensors columns) {
  if (columns.empty()) fail({"dataset: there is no column"});
  auto s = std::make_shared<State>();
  for (size_t i = 0; i < columns.size(); ++i) {
    if (!columns[i]) fail({"dataset: column ", i, " is an empty tensor"});
    const Shape& shape = columns[i].sig().shape;
    if (!shape.rank())
      fail({"dataset: column ", i, " is ", str(columns[i].sig()), ", expected a leading extent"});
    if (shape[0] != columns[0].sig().shape[0])
      fail({"dataset: column ", i, " is ", str(columns[i].sig()), ", expected the leading extent ",
            columns[0].sig().shape[0], " of column 0"});
  }
  s->count = columns[0].sig().shape[0];
  s->columns = std::move(columns);
  state_ = std::move(s);
}
const Dataset::State& Dataset::state() const {
  if (!state_) fail(Code::FailedPrecondition, {"dataset: it is empty"});
  return *state_;
}
int64_t Dataset::size() const { return state().count; }
int64_t Dataset::batch_size() const { return state().batch; }
size_t Dataset::columns() const { return state().columns.size(); }
bool Dataset::shuffled() const { return state().seed.has_value(); }
int64_t Dataset::batches() const {
  const State& s = state();
  if (!s.batch) fail(Code::FailedPrecondition, {"dataset: it is not batched; call batch(n)"});
  return s.drop_remainder ? s.count / s.batch : (s.count + s.batch - 1) / s.batch;
}
Sig Dataset::element_sig(size_t column) const {
  const State& s = state();
  if (column >= s.columns.size())
    fail({"dataset: column ", column, ", expected below ", s.columns.size()});
  const Sig& c = s.columns[column].sig();
  return {c.dtype, c.shape.with(0, s.batch ? s.batch : s.count)};
}

Dataset Dataset::take(int64_t n) const {
  if (n < 0) fail({"take: n is ", n, ", expected at least 0"});
  auto s = std::make_shared<State>(state());
  if (s->seed || s->batch)
    fail(Code::FailedPrecondition, {"take: expected before shuffle and batch"});
  s->count = std::min(s->count, n);
  Dataset d;
  d.state_ = std::move(s);
  return d;
}
Dataset Dataset::skip(int64_t n) const {
  if (n < 0) fail({"skip: n is ", n, ", expected at least 0"});
  auto s = std::make_shared<State>(state());
  if (s->seed || s->batch)
    fail(Code::FailedPrecondition, {"skip: expected before shuffle and batch"});
  const int64_t k = std::min(s->count, n);
  s->begin += k, s->count -= k;
  Dataset d;
  d.state_ = std::move(s);
  return d;
}
std::pair<Dataset, Dataset> Dataset::split(double fraction, uint64_t seed) const {
  if (!(fraction > 0 && fraction < 1))
    fail({"split: fraction is ", fraction, ", expected between 0 and 1"});
  const State& old = state();
  if (old.seed || old.batch)
    fail(Code::FailedPrecondition, {"split: expected before shuffle and batch"});
  auto order = std::make_shared<std::vector<int64_t>>(size_t(old.count));
  const Permutation p(old.count, seed, 0);
  for (int64_t i = 0; i < old.count; ++i) {
    const int64_t at = old.begin + p(i);
    (*order)[size_t(i)] = old.order ? (*old.order)[size_t(at)] : at;
  }
  auto whole = std::make_shared<State>(old);
  whole->order = order, whole->begin = 0;
  Dataset d;
  d.state_ = whole;
  const int64_t first = int64_t(double(old.count) * fraction);
  return {d.take(first), d.skip(first)};
}
Dataset Dataset::shuffle(uint64_t seed) const {
  auto s = std::make_shared<State>(state());
  if (s->batch) fail(Code::FailedPrecondition, {"shuffle: expected before batch"});
  s->seed = seed;
  Dataset d;
  d.state_ = std::move(s);
  return d;
}
Dataset Dataset::batch(int64_t size, bool drop_remainder) const {
  if (size < 1) fail({"batch: size is ", size, ", expected at least 1"});
  auto s = std::make_shared<State>(state());
  if (s->batch) fail(Code::FailedPrecondition, {"batch: the dataset is batched already"});
  s->batch = size, s->drop_remainder = drop_remainder;
  Dataset d;
  d.state_ = std::move(s);
  return d;
}

Tensors Dataset::gather(int64_t begin, int64_t end, int64_t epoch) const {
  const State& s = state();
  std::optional<Permutation> p;
  if (s.seed) p.emplace(s.count, *s.seed, uint64_t(epoch));
  std::vector<int64_t> rows(size_t(end - begin));
  for (int64_t i = begin; i < end; ++i) {
    const int64_t at = s.begin + (p ? (*p)(i) : i);
    rows[size_t(i - begin)] = s.order ? (*s.order)[size_t(at)] : at;
  }
  Tensors r;
  for (auto& c : s.columns) {
    const Sig sig{c.dtype(), c.sig().shape.with(0, end - begin)};
    auto b = make_buffer(sig.bytes());
    const int64_t row = c.sig().shape[0] ? c.sig().bytes() / c.sig().shape[0] : 0;
    auto* from = static_cast<const char*>(c.data());
    auto* to = static_cast<char*>(b->data());
    for (size_t i = 0; i < rows.size(); ++i)
      std::memcpy(to + int64_t(i) * row, from + rows[i] * row, size_t(row));
    r.push_back(tensor(sig, std::move(b)));
  }
  return r;
}
Tensors Dataset::batch_at(int64_t i, int64_t epoch) const {
  const int64_t n = batches();
  if (i < 0 || i >= n) fail(Code::OutOfRange, {"dataset: batch ", i, ", expected 0..", n - 1});
  const State& s = state();
  return gather(i * s.batch, std::min(s.count, (i + 1) * s.batch), epoch);
}
Tensors Dataset::all(int64_t epoch) const { return gather(0, state().count, epoch); }

}  // namespace evenflow
