// SPDX-License-Identifier: Apache-2.0
// Control flow as operations: attributes hold sub-graphs, captures become inputs, writes to
// variables become outputs. Outside a trace plain C++ control flow runs instead. Shapes of carried
// values stay the same over iterations.
#pragma once
#include <functional>

#include "evenflow/graph/tensor.h"

namespace evenflow {

/// yes() when the boolean scalar holds, else no(). Both return tensors of the same signatures; only
/// the taken branch runs.
Tensors cond(In pred, const std::function<Tensors()>& yes, const std::function<Tensors()>& no);
/// Repeats state = body(state) while go_on(state) is true. A gradient needs maximum_iterations > 0;
/// it keeps the states of all iterations. Throws ResourceExhausted when maximum_iterations is
/// reached and go_on still holds; 0 is no bound.
Tensors while_loop(const std::function<Tensor(const Tensors&)>& go_on,
                   const std::function<Tensors(const Tensors&)>& body, const Tensors& init,
                   int64_t maximum_iterations = 0);
struct ScanResult {
  Tensors state;    ///< after the last element
  Tensors outputs;  ///< [n, ...], stacked
};
/// For each i: (state, outputs[i]) = body(state, xs[i]), over the leading extent n of all xs. body
/// returns the new state followed by the outputs of one element.
ScanResult scan(const std::function<Tensors(const Tensors& state, const Tensors& x)>& body,
                const Tensors& init, const Tensors& xs);

}  // namespace evenflow
