// SPDX-License-Identifier: Apache-2.0
// What a dataset holds, by one pass: counts, classes, means and deviations, and what batch
// normalisation would suffer from.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "evenflow/core/statistics.h"
#include "evenflow/data/dataset.h"

namespace evenflow::data {

struct SurveyOptions {
  int64_t rows = kInfinite;  ///< at most so many are read
  int64_t batch_size = 32;   ///< of the training that is planned
};
/// The numbers of a column, channel by channel along the last axis; a scalar has one channel.
struct ColumnSurvey {
  Field field;
  std::vector<Stats> channels = {};
  std::vector<double> low = {}, high = {};  ///< of the finite values of each channel
  int64_t not_finite = 0;
  std::vector<float> sample = {};  ///< of all its finite values, for histograms
  /// A column of classes: i64 scalars or short texts with at most 1,000 different values. Texts are
  /// sorted; numbers too, by value.
  std::vector<std::pair<std::string, int64_t>> classes = {};
  int64_t changes = 0;  ///< rows whose class is not that of the row before
};
struct Warning {
  std::string what, advice;
};
struct Survey {
  int64_t rows = 0;
  bool is_whole = true;  ///< not cut off by SurveyOptions::rows
  std::vector<ColumnSurvey> columns;
  std::vector<Warning> warnings;
};
/// Reads the dataset, which must not be batched, in its order; throws what reading throws.
Survey survey(const Dataset& dataset, const SurveyOptions& options = {});

}  // namespace evenflow::data
