// SPDX-License-Identifier: Apache-2.0
// What is checked of every operation, derived from its declaration: each check walks one case at
// one choice of element types and returns complaints, so that a planted mistake can be asserted
// upon. Names no operation.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "evenflow/graph/op.h"

namespace evenflow::checks {

using Complaints = std::vector<std::string>;

/// A case of an operation with element types chosen and values drawn.
struct Point {
  const OpDef* op = nullptr;
  const OpDef::Case* c = nullptr;
  Sigs sigs;                                ///< of the inputs
  std::vector<std::vector<double>> values;  ///< as the element type holds them
  std::string name;                         ///< "op/case/f32,i64"
  bool fits = true;  ///< the shape rule takes these types with these attributes
  Tensors tensors() const;
};
/// The declared argument of input i (the last one repeats when variadic), and whether only its
/// shape is read.
const Arg& arg_of(const OpDef& op, size_t i);
bool shape_only(const OpDef& op, size_t i);
/// One case at each choice of element types (one letter varies at a time). Cases that must be
/// refused have one point.
std::vector<Point> points(const OpDef& op, const OpDef::Case& c, bool drawn = true);
/// The point whose floating letters are f64 (f32 where the operation has no f64); empty if none is
/// floating.
std::vector<Point> widest(const OpDef& op, const OpDef::Case& c);
/// The point at its first element type.
Point first(const OpDef& op, const OpDef::Case& c);
/// The same call with other signatures; values are drawn again.
Point with_sigs(const Point& p, const Sigs& sigs);

/// Whether a gradient can be asked for at all, and is meant to be right at these values.
bool differentiable(const Point& p);

// ---- the checks
// ---------------------------------------------------------------------------------------------------------------
/// Every kernel that accepts, the loop and the reference: signatures as the shape rule says, values
/// as the oracle (the reference, else the loop, in f64), nothing written outside, no output left
/// unwritten, inputs untouched. `slack` multiplies the tolerance, for values that nobody chose.
Complaints kernels(const Point& p, double slack = 1);
/// Every kernel for accelerators that accepts, and the call as a compiled function on `on`: values
/// as the oracle. `ran` tells whether it ran there at all.
Complaints on_accelerator(const Point& p, Accelerator* on, bool* ran = nullptr);
/// The same with other extents, one after the other, wherever the shape rule takes them: what a
/// kernel does with the rest of a vector or of a block.
Complaints sizes(const Point& p);
/// Own kernels and loops give the same bits for 1, 2 and 3 threads.
Complaints threads(const Point& p);
/// The same with each extent in turn so large that the work is divided.
Complaints threads_enlarged(const Point& p);
/// Immediate, recorded in a Step and compiled: the same bits.
Complaints modes(const Point& p);
/// Against differences; `p` from widest().
Complaints gradient_once(const Point& p);
Complaints gradient_twice(const Point& p);
/// The same tensor for two arguments, or one argument made from another: the gradient is the sum of
/// those of the arguments.
Complaints gradient_of_shared(const Point& p);
/// One trace of values and gradients serves the leading extents n, n + 1, n - 1 and 0. `skipped`
/// tells which sizes the shape rule refuses.
Complaints batches(const Point& p, std::string* skipped = nullptr);
/// Wrong ranks and extents: a typed Error or a valid result.
Complaints wrong_shapes(const Point& p);
/// Wrong element types (the error names the argument) and wrong numbers of inputs.
Complaints wrong_types(const Point& p);
/// The case is refused with its text.
Complaints refusal(const Point& p);
/// Attributes survive get and make; hostile values are refused or harmless.
Complaints attributes(const Point& p);
/// Each declared element type is taken in one case at least.
Complaints types(const OpDef& op);
/// The sheet itself: texts, cases, a gradient or a reason.
Complaints sheet(const OpDef& op);

/// What is being checked just now, for the handler that speaks when a check crashes.
void announce(const std::string& what);
/// Prints what was announced when the process dies by a signal.
void install_crash_handler();

}  // namespace evenflow::checks
