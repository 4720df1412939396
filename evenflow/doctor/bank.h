// SPDX-License-Identifier: Apache-2.0
// Banks of statistics: one model, several named sets of averages, for domains that look different
// to it (AdaBN: Li et al. 2016, arXiv:1603.04779).
//   doctor::StatisticsBank bank;
//   bank.capture("day", model);
//   bank.adapt("night", model, night_images);            // without labels
//   y = doctor::predict(model, x, bank, "night");
#pragma once
#include <map>
#include <string>
#include <vector>

#include "evenflow/doctor/recalibrate.h"
#include "evenflow/graph/variable.h"
#include "evenflow/train/train.h"

namespace evenflow::doctor {

struct CaptureOptions {
  bool affine = false;  ///< keep gamma and beta too; else they are shared by all sets
};
struct AdaptOptions {
  double prior = 16;         ///< samples that the source's statistics count for: N
  std::string source = {};   ///< the set to start from; "": the model as it is
  int64_t batch_size = 256;  ///< samples at a time: memory, not the result
};

class StatisticsBank {
 public:
  struct Layer {
    std::vector<double> mean, variance;
    std::vector<double> gamma = {}, beta = {};  ///< empty: the model's
  };
  using Set = std::map<std::string, Layer>;  ///< by the path of the layer: "inner/norm"

  /// Takes what the model has now; a set of that name is replaced.
  void capture(const std::string& name, const Model& model, CaptureOptions options = {});
  /// Makes a set from unlabelled samples x, layer by layer in the order of depth: with n samples
  /// mean = (N mean_s + n mean_t) / (N + n), and the second moments likewise (Schneider et al.
  /// 2020, arXiv:2006.16971). Says how far each layer moved from its source: KL(set || source).
  /// Throws NotFound for an unknown source, InvalidArgument for x that the model does not take, or
  /// that is not finite.
  std::vector<Recalibrated> adapt(const std::string& name, const Model& model, const Tensor& x,
                                  const AdaptOptions& options = {});
  /// Throws InvalidArgument for an empty name, lengths that differ within a layer, numbers that are
  /// not finite, and negative variances.
  void put(const std::string& name, Set set);
  void erase(const std::string& name);  ///< throws NotFound
  /// Throws NotFound, naming what there is.
  const Set& at(const std::string& name) const;
  std::vector<std::string> names() const;

  /// Writes a set into the model, all layers or none. Throws NotFound for an unknown set,
  /// InvalidArgument for a set that is not of such a model: layers missing or too many, statistics
  /// of another length.
  void apply(const std::string& name, const Model& model) const;

  /// A .npz file: the arrays "0", "1", ... and "index", the bytes of a JSON text that says whose
  /// they are. Statistics are f64.
  void save(const std::string& path) const;
  /// Throws DataLoss for a file that is no bank.
  static StatisticsBank load(const std::string& path);

 private:
  std::map<std::string, Set> sets_;
};

/// While it lives, this thread's inference uses a set; other threads and the model itself are not
/// touched, and the end restores all. Not for training: what a step writes inside is dropped.
class UseStatistics {
 public:
  UseStatistics(const StatisticsBank& bank, const std::string& name, const Model& model);
  UseStatistics(const UseStatistics&) = delete;

 private:
  Step step_;  // never committed
};
/// model.predict(x) under a set.
Tensor predict(const Model& model, const Tensor& x, const StatisticsBank& bank,
               const std::string& name, PredictOptions options = {});

}  // namespace evenflow::doctor
