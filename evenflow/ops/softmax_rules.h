// SPDX-License-Identifier: Apache-2.0
// What softmax, cross-entropy and their kernels share.
#pragma once
#include "evenflow/graph/op.h"

namespace evenflow {

struct SoftmaxAttrs {
  int64_t axis = -1;
  static void fields(auto& self, auto&& field) {
    field("axis", self.axis, "the axis that sums to one");
  }
};

template <class T>
int64_t label_at(const T* labels, int64_t row, int64_t classes) {
  const int64_t l = labels[row];
  if (l < 0 || l >= classes)
    fail(Code::OutOfRange, {"labels[", row, "] is ", l, ", expected 0..", classes - 1});
  return l;
}
template <class F>
void with_labels(const View& labels, F f) {
  if (labels.dtype() == DType::i32)
    f(labels.as<int32_t>());
  else
    f(labels.as<int64_t>());
}

}  // namespace evenflow
