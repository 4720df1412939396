// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "evenflow/data/dataset.h"

namespace evenflow::data {

/// The UCI optical digits, on board: x f32 [1797,8,8,1] in 0..1, y i64 [1797] in 0..9, in the order
/// of the file. E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
/// Learning Repository, 1998, CC BY 4.0.
Dataset digits();

}  // namespace evenflow::data
