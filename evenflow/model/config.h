// SPDX-License-Identifier: Apache-2.0
// What a layer is configured by. A layer's configuration is a plain struct with one `fields`
// function; reading and writing it (a .keras file's config.json, the summary) is derived from it.
// Names are Keras's.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "evenflow/core/shape.h"
#include "evenflow/model/constraint.h"

namespace evenflow {

/// Extents of a model's tensor; -1 is unknown until a batch comes (the batch extent always is).
using Dims = std::vector<int64_t>;
std::string str_dims(const Dims& dims);  ///< "(None, 8, 8, 1)"

/// Steps of a sequence.
struct Size1 {
  static constexpr int rank = 1;
  int64_t size;
  Size1(int64_t size) : size(size) {}  // NOLINT: implicit on purpose
  bool operator==(const Size1&) const = default;
};
/// Height and width; one number stands for both.
struct Size2 {
  static constexpr int rank = 2;
  int64_t height, width;
  Size2(int64_t both) : height(both), width(both) {}  // NOLINT: implicit on purpose
  Size2(int64_t h, int64_t w) : height(h), width(w) {}
  bool operator==(const Size2&) const = default;
};
/// Steps before and behind.
struct Padding1 {
  int64_t before, after;
  Padding1(int64_t both) : before(both), after(both) {}  // NOLINT: implicit on purpose
  Padding1(int64_t b, int64_t a) : before(b), after(a) {}
};
/// Rows above, below, columns left, right.
struct Padding2 {
  int64_t top, bottom, left, right;
  Padding2(int64_t all) : top(all), bottom(all), left(all), right(all) {}                // NOLINT
  Padding2(Size2 s) : top(s.height), bottom(s.height), left(s.width), right(s.width) {}  // NOLINT
  Padding2(int64_t t, int64_t b, int64_t l, int64_t r) : top(t), bottom(b), left(l), right(r) {}
};
/// From low to high. One number f stands for -|f| to |f|, and is written as it was given.
struct Factor {
  double low, high;
  bool one_number;
  Factor(double f)  // NOLINT: implicit on purpose
      : low(f < 0 ? f : -f), high(f < 0 ? -f : f), one_number(true) {}
  Factor(double a, double b) : low(a < b ? a : b), high(a < b ? b : a), one_number(false) {}
  bool operator==(const Factor&) const = default;
};
/// One axis, or several.
struct ChannelAxes {
  std::vector<int64_t> axes;
  ChannelAxes(int64_t axis) : axes{axis} {}  // NOLINT: implicit on purpose
  ChannelAxes(std::initializer_list<int64_t> several) : axes(several) {}  // NOLINT
};
/// One number, or several.
struct Numbers {
  std::vector<double> values;
  Numbers(double one) : values{one} {}                                 // NOLINT: implicit
  Numbers(std::initializer_list<double> several) : values(several) {}  // NOLINT
};

/// How a weight begins. Keras's names and formulas.
struct Initializer {
  std::string name;     ///< "GlorotUniform", or Keras's short form "glorot_uniform"
  double a = 0, b = 0;  ///< Constant: value; RandomNormal, TruncatedNormal: mean, stddev;
                        ///< RandomUniform: minval, maxval; Orthogonal, Identity: gain
  std::string mode = "fan_in",
              distribution = "truncated_normal";  ///< VarianceScaling, whose scale is a
  std::optional<int64_t> seed;
  Initializer(const char* name);         // NOLINT: implicit on purpose
  Initializer(const std::string& name);  // NOLINT
  Initializer(std::string name, double a, double b = 0) : Initializer(std::move(name)) {
    this->a = a, this->b = b;
  }
  /// Row-major values for a weight of this shape, a pure function of seed and shape.
  /// Fans are Keras's: the last two extents, times the receptive field.
  std::vector<float> operator()(const Shape& shape, uint64_t seed) const;
};

/// l1 * sum |w| + l2 * sum w^2, added to the loss.
struct Regularizer {
  double l1 = 0, l2 = 0;
  explicit operator bool() const { return l1 != 0 || l2 != 0; }
};

/// Goes over the fields of a configuration, to read or to write them. Fields of the types
/// that it does not override it passes over.
class ConfigVisitor {
 public:
  virtual ~ConfigVisitor() = default;
  /// Whether the fields are written: those that are off can then be left out.
  virtual bool writing() const { return false; }
  virtual void field(const char*, bool&) {}
  virtual void field(const char*, int64_t&) {}
  virtual void field(const char*, double&) {}
  virtual void field(const char*, std::string&) {}
  virtual void field(const char*, std::vector<int64_t>&) {}
  virtual void field(const char*, std::optional<double>&) {}
  virtual void field(const char*, std::optional<int64_t>&) {}
  virtual void field(const char*, std::optional<std::vector<double>>&) {}
  /// Of none is Keras's None.
  virtual void field(const char*, std::vector<double>&) {}
  virtual void field(const char*, Numbers&) {}
  virtual void field(const char*, Factor&) {}
  virtual void field(const char*, std::optional<Factor>&) {}
  virtual void field(const char*, Size1&) {}
  virtual void field(const char*, std::optional<Size1>&) {}
  virtual void field(const char*, Size2&) {}
  virtual void field(const char*, std::optional<Size2>&) {}
  virtual void field(const char*, Padding1&) {}
  virtual void field(const char*, Padding2&) {}
  virtual void field(const char*, Initializer&) {}
  virtual void field(const char*, Regularizer&) {}
  virtual void field(const char*, Constraint&) {}
  virtual void field(const char*, ChannelAxes&) {}
  /// One number, or a list of several.
  virtual void axes(const char*, std::vector<int64_t>&) {}
  /// Numbers with names; null is none of them.
  virtual void field(const char*, std::map<std::string, double>&) {}
  /// The name of an activation; null stands for "linear".
  virtual void activation(const char*, std::string&) {}
};

}  // namespace evenflow
