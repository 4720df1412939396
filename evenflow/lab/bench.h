// SPDX-License-Identifier: Apache-2.0
// What experiments are made of: nets, trainings, curves, spreads over seeds.
#pragma once
#include <cmath>
#include <map>

#include "evenflow/lab/jobs.h"
#include "evenflow/lab/lab.h"
#include "evenflow/model/batch_normalization.h"
#include "evenflow/model/layers.h"
#include "evenflow/model/model.h"

namespace evenflow::lab {

/// A fully connected classifier; each hidden layer is a product, a normalisation or a bias, and an
/// activation. The paper's for MNIST has three hidden layers of 100 sigmoids (section 4.1).
struct Net {
  std::vector<int64_t> hidden = {100, 100, 100};
  std::string activation = "sigmoid";
  enum Norm { none, batch, layer } norm = none;
  BatchNormalizationConfig batch_norm = {};
  /// Of the normal distribution that kernels begin with; 0: He's, the root of 2 / inputs (He et
  /// al. 2015).
  double deviation = 0.1;
  /// The same kernels for the same seed, whatever the normalisation.
  Sequential make(uint64_t seed) const;
};
struct Training {
  double rate = 0.1;
  int64_t batch = 60, steps = 1000;
  int64_t every = 10;  ///< steps between looks at the test data
  double momentum = 0;
  int64_t micro_batch = 0;        ///< samples at a time, as in compile(); 0: the whole batch
  bool exact = false;             ///< micro-batches are normalised together
  int ranks = 1;                  ///< threads that share each batch, for train_over_ranks()
  bool diverges_for_good = true;  ///< stops at the first loss that is not finite
};
/// Of one training; the first point is before the first step.
struct Curve {
  std::vector<double> step, accuracy, loss;  ///< of the test data
  bool diverged = false;
  double best() const;
  double last() const { return diverged || accuracy.empty() ? 0 : accuracy.back(); }
  /// The first step from which it was seen at this accuracy; infinite if never.
  double steps_to(double least) const;
};

/// Mean and standard deviation over seeds. What is not finite makes the mean infinite.
struct Spread {
  double mean = 0, deviation = 0, least = 0, most = 0;
  size_t n = 0;
  explicit Spread(const std::vector<double>& v);
  std::string text(const char* format = "%.0f") const;  ///< "120 ± 8"; "never" for infinity
};
double median(std::vector<double> v);
std::string number(double v, const char* format = "%.3g");
std::string percent(double share);
/// null for what is not finite.
format::Json json(double v);
format::Json json(const std::vector<double>& v);
format::Json json(const Curve& c);

inline constexpr int kPlainColor = 0, kNormedColor = 1;

class Bench {
 public:
  explicit Bench(const Options& options);
  const Options& options;
  int64_t scaled(int64_t full, int64_t quick) const { return options.quick ? quick : full; }

  using Look = std::function<void(const Model&, int64_t step)>;
  /// Trains a net with SGD from its seed; the same data in the same order for the same seed. `look`
  /// is called before each step, and once after the last.
  Curve train(const Sequential& net, const Training& t, uint64_t seed, const Look& look = {}) const;
  /// The same by t.ranks ranks, each with a net of its own and its part of every batch. Looks at
  /// the test data when all is done.
  Curve train_over_ranks(const Net& net, const Training& t, uint64_t seed) const;
  /// Loss and accuracy on the test data.
  std::pair<double, double> test(const Model& model) const;
  /// The trainings of `settings` settings with each seed: [setting][seed].
  std::vector<std::vector<Curve>> grid(
      std::string_view experiment, size_t settings,
      const std::function<Curve(size_t setting, uint64_t seed)>& one) const;
  uint64_t seed_of(size_t i) const { return options.seed + i; }

  /// The paper's net without and with batch normalisation at the learning rate that is best for it
  /// without: made on first use. With ReLUs, kernels begin as He's.
  struct Pair {
    Net plain_net, normed_net;
    double rate;                               ///< the best for the plain net
    std::vector<double> rates, rate_accuracy;  ///< what it was chosen from
    std::vector<Curve> plain, normed;          ///< a curve a seed
    double plain_best;                         ///< the mean over seeds of the best accuracy
  };
  const Pair& pair(const std::string& activation = "sigmoid");
  Training training() const;

  Dataset train_batches(int64_t batch, uint64_t seed) const;

 private:
  void prepare(const Sequential& net, const Training& t, const Dataset& data) const;
  std::map<std::string, Pair> pairs_;
};

/// Mean curve over seeds, with the band from the lowest to the highest.
Band band(const std::string& name, const std::vector<Curve>& curves, int color);
std::vector<double> map_curves(const std::vector<Curve>& curves,
                               const std::function<double(const Curve&)>& f);

Outcome run_r1(Bench&);
Outcome run_r2(Bench&);
Outcome run_r3(Bench&);
Outcome run_r4(Bench&);
Outcome run_r5(Bench&);
Outcome run_r6(Bench&);
Outcome run_r7(Bench&);
Outcome run_r8(Bench&);

}  // namespace evenflow::lab
