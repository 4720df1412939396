// SPDX-License-Identifier: Apache-2.0
#include "evenflow/data/survey.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "evenflow/core/random.h"

namespace evenflow::data {
namespace {

constexpr size_t kMostClasses = 1000, kSample = 8192;
constexpr int64_t kMostChannels = 65536;

// The classes of a column, until it turns out to have none.
class Classes {
 public:
  explicit Classes(const Field& f)
      : counts_(f.kind == ColumnKind::strings ||
                (f.kind == ColumnKind::dense && f.dims.empty() && f.dtype == DType::i64)) {}
  void add(const Column& c) {
    if (!counts_) return;
    if (c.kind() == ColumnKind::strings) {
      for (int64_t i = 0; i < c.rows(); ++i) count(texts_, std::string(c.strings()[i]), last_text_);
    } else {
      const auto* v = reinterpret_cast<const int64_t*>(c.row(0));
      for (int64_t i = 0; i < c.rows(); ++i) count(numbers_, v[i], last_number_);
    }
    counts_ = texts_.size() <= kMostClasses && numbers_.size() <= kMostClasses;
  }
  void finish(ColumnSurvey& s) const {
    if (!counts_) return;
    for (auto& [text, n] : texts_) s.classes.emplace_back(text, n);
    for (auto& [number, n] : numbers_) s.classes.emplace_back(std::to_string(number), n);
    s.changes = changes_;
  }

 private:
  template <class T>
  void count(std::map<T, int64_t>& counts, T value, std::optional<T>& last) {
    ++counts[value];
    changes_ += last && *last != value;
    last = std::move(value);
  }
  bool counts_;
  std::map<std::string, int64_t> texts_;
  std::map<int64_t, int64_t> numbers_;
  std::optional<std::string> last_text_;
  std::optional<int64_t> last_number_;
  int64_t changes_ = 0;
};

// Each value is in the sample with the same probability (Vitter's algorithm R).
class Sample {
 public:
  void add(float v) {
    const int64_t n = seen_++;
    if (n < int64_t(kSample)) return values_.push_back(v);
    const auto words = Philox{1}(0, uint64_t(n));
    const auto at = size_t(uniform_f64(words[0], words[1]) * double(n + 1));
    if (at < kSample) values_[at] = v;
  }
  std::vector<float> take() { return std::move(values_); }

 private:
  int64_t seen_ = 0;
  std::vector<float> values_;
};

void add_numbers(ColumnSurvey& s, Sample& sample, const Column& c) {
  if (c.kind() == ColumnKind::strings) return;
  const Array& a = c.values();
  const std::vector<double> v = tensor(a.sig, a.data).to_vector<double>();
  const size_t channels = s.channels.size();
  std::vector<Stats> chunk(channels);
  for (size_t i = 0; i < v.size(); ++i) {
    const size_t k = i % channels;
    if (!std::isfinite(v[i])) {
      ++s.not_finite;
      continue;
    }
    chunk[k] = evenflow::add(chunk[k], v[i]);
    s.low[k] = std::min(s.low[k], v[i]), s.high[k] = std::max(s.high[k], v[i]);
    // Of pictures some rows of pixels are enough.
    if (v.size() < 4096 || i % 61 == 0) sample.add(float(v[i]));
  }
  for (size_t k = 0; k < channels; ++k) s.channels[k] = merge(s.channels[k], chunk[k]);
}

std::string named(const ColumnSurvey& s, size_t index) {
  return s.field.name.empty() ? concat({"column ", index}) : "\"" + s.field.name + "\"";
}
std::string short_number(double v) {
  char s[32];
  std::snprintf(s, sizeof s, "%.3g", v);
  return s;
}

void warn_of_numbers(const ColumnSurvey& s, const std::string& name, std::vector<Warning>& to) {
  int64_t constant = 0, far = 0;
  double least = std::numeric_limits<double>::infinity(), most = 0;
  for (auto& c : s.channels) {
    const double deviation = std::sqrt(population_variance(c));
    if (c.n < 2) continue;
    // What f32 cannot tell from a constant is one.
    if (deviation <= std::abs(c.mean) * 1e-7) {
      ++constant;
      continue;
    }
    least = std::min(least, deviation), most = std::max(most, deviation);
    far += std::abs(c.mean) > 100 * deviation;
  }
  const std::string of = concat({" of ", s.channels.size(), " channels of ", name});
  if (s.not_finite)
    to.push_back(
        {concat({s.not_finite, " values of ", name, " are not finite"}),
         "one of them makes the statistics of its whole batch NaN: leave such rows out, or "
         "fill what is missing"});
  if (constant)
    to.push_back({concat({constant, of, constant == 1 ? " is" : " are", " constant"}),
                  "batch norm divides by sqrt(epsilon) there, and enlarges noise that comes later: "
                  "leave them out"});
  if (most > 1e3 * least)
    to.push_back({concat({"the deviations of ", name, " differ by a factor of ",
                          short_number(most / least)}),
                  "put Normalization, adapted to the data, or a BatchNormalization first"});
  if (far)
    to.push_back(
        {concat({far, of, far == 1 ? " is" : " are", " more than 100 deviations from zero"}),
         "f32 loses digits there: subtract the mean by Normalization"});
}
void warn_of_classes(const ColumnSurvey& s, const std::string& name, int64_t rows,
                     int64_t batch_size, std::vector<Warning>& to) {
  if (s.classes.size() < 2 || rows < 20) return;
  int64_t least = rows, most = 0;
  double same = 0;  // the probability that two rows have one class
  for (auto& [text, n] : s.classes) {
    least = std::min(least, n), most = std::max(most, n);
    same += double(n) / double(rows) * double(n) / double(rows);
  }
  // An identifier is no class.
  if (int64_t(s.classes.size()) > rows / 4) return;
  const double expected = (1 - same) * double(rows - 1);
  if (double(s.changes) < expected / 4)
    to.push_back({concat({"the rows are sorted by ", name, ": the class changes ", s.changes,
                          " times, mixed it would ", int64_t(expected)}),
                  "a batch of one class has statistics that no other batch has: shuffle()"});
  if (most > 10 * least)
    to.push_back({concat({"the classes of ", name, " have ", least, " to ", most, " rows"}),
                  concat({"a batch of ", batch_size, " has ",
                          short_number(double(least) / double(rows) * double(batch_size)),
                          " rows of the rarest: rebalance(), or class weights"})});
}

}  // namespace

Survey survey(const Dataset& dataset, const SurveyOptions& o) {
  if (dataset.batch_size())
    fail(Code::FailedPrecondition, {"survey: the dataset is batched, expected rows"});
  if (o.rows < 1 || o.batch_size < 1)
    fail({"survey: rows is ", o.rows, " and batch_size ", o.batch_size, ", expected at least 1"});
  Survey r;
  std::vector<Classes> classes;
  std::vector<Sample> samples(dataset.columns());
  for (auto& f : dataset.schema()) {
    ColumnSurvey s{.field = f};
    if (f.kind != ColumnKind::strings) {
      const int64_t last = f.dims.empty() ? 1 : f.dims.back();
      const size_t n = last >= 1 && last <= kMostChannels ? size_t(last) : 1;
      s.channels.resize(n);
      s.low.assign(n, std::numeric_limits<double>::infinity());
      s.high.assign(n, -std::numeric_limits<double>::infinity());
    }
    r.columns.push_back(std::move(s));
    classes.emplace_back(f);
  }
  Iterator pass(dataset);
  for (Chunk c; r.rows < o.rows; r.rows += c.rows) {
    c = pass.next_chunk(std::min<int64_t>(o.rows - r.rows, 1024));
    if (!c.rows) break;
    for (size_t k = 0; k < r.columns.size(); ++k) {
      add_numbers(r.columns[k], samples[k], c.columns[k]);
      classes[k].add(c.columns[k]);
    }
  }
  r.is_whole = r.rows < o.rows || !pass.next_chunk(1).rows;
  for (size_t k = 0; k < r.columns.size(); ++k) {
    ColumnSurvey& s = r.columns[k];
    s.sample = samples[k].take();
    classes[k].finish(s);
    const std::string name = named(s, k);
    if (s.classes.empty()) warn_of_numbers(s, name, r.warnings);
    warn_of_classes(s, name, r.rows, o.batch_size, r.warnings);
  }
  if (r.is_whole && r.rows > o.batch_size && r.rows % o.batch_size == 1)
    r.warnings.push_back(
        {concat({r.rows, " rows in batches of ", o.batch_size, " leave a last batch of one"}),
         "its variance is 0, and so is what batch norm makes of it: batch(n, drop_remainder), or "
         "another size"});
  return r;
}

}  // namespace evenflow::data
