// SPDX-License-Identifier: Apache-2.0
// Folding: a batch normalisation in inference is y = s x + t, channel by channel, with
// s = gamma / sqrt(variance + epsilon) and t = beta - mean s; the linear layer before or behind it
// takes s and t into its weights (Jacob et al. 2018, arXiv:1712.05877).
#pragma once
#include <string>
#include <vector>

#include "evenflow/model/model.h"

namespace evenflow::doctor {

struct FoldOptions {
  Tensors x = {};           ///< probe data, a tensor for each input; none: normal numbers
  int64_t samples = 64;     ///< at most so many of the probe
  bool degenerate = false;  ///< fold channels without gamma, or with a variance far below epsilon
};
/// One fold, and how much it changed on the probe.
struct Fold {
  std::string norm, into;  ///< paths of the layer that is gone and of the one that took it
  std::string side;        ///< where the other layer lies: "before" or "behind"
  double absolute = 0;   ///< largest difference of what the taker, with all that it took, computes
  double relative = 0;   ///< that, of the largest value
  double int8_risk = 0;  ///< max |s| / median |s|: what one scale for all channels loses
};
struct Kept {
  std::string norm, reason;
  std::vector<int64_t> channels = {};  ///< those that are refused, where it is for some
};
/// The folded model with its certificate.
struct Folded {
  Model model;
  std::vector<Fold> folds;
  std::vector<Kept> kept;
  double absolute = 0, relative = 0;  ///< of the outputs
  int64_t samples = 0;                ///< of the probe
  bool random_probe = false;
};
/// Folds every batch normalisation that it can: into the dense, convolutional, depthwise,
/// separable or transposed layer before it; into that behind it, where "same" padding meets no
/// shift; into a batch normalisation behind it. Dropout, linear activations and average pooling may
/// lie between. What is used several times, is read by others too, or takes the batch's own
/// statistics stays, with the reason. The model is not changed. Throws FailedPrecondition for a
/// model that is not built, InvalidArgument for a probe that it does not take.
Folded fold(const Model& model, const FoldOptions& options = {});

std::string certificate_text(const Folded& f);
std::string certificate_json(const Folded& f);

}  // namespace evenflow::doctor
