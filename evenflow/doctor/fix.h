// SPDX-License-Identifier: Apache-2.0
// The safe part of what the doctor advises, done.
#pragma once
#include <string>
#include <vector>

#include "evenflow/doctor/doctor.h"

namespace evenflow::doctor {

struct Fixed {
  Model model;                    ///< a copy
  std::vector<std::string> done;  ///< a sentence each
};
/// Does what the findings say under `fix`: averages that did not warm up are debiased (their
/// initial values, mean 0 and variance 1, taken out); a bias before a batch normalisation is
/// dropped and moved into moving_mean, which changes no prediction; averages that lag, drifted or
/// were never updated are recalibrated, where there is x.
Fixed fix(const Model& model, const Diagnosis& diagnosis, const Options& options = {});

}  // namespace evenflow::doctor
