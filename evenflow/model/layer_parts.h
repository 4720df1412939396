// SPDX-License-Identifier: Apache-2.0
// What the layers' sources share: checks of configurations, bias and activation, channels-first.
// For model/*layers.cc.
#pragma once
#include <algorithm>
#include <string>
#include <vector>

#include "evenflow/model/layer.h"
#include "evenflow/ops/activations.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/shape.h"

namespace evenflow {

// Makes a class known to load_model by its name.
#define LAYER(name)                     \
  static const LayerEntry name##_entry( \
      #name, []() -> std::shared_ptr<LayerImpl> { return std::make_shared<name##Impl>(); })

template <class L>
void expect(const L& layer, bool ok, std::string_view what, Part found, std::string_view expected) {
  if (!ok)
    fail({layer.class_name(), " \"", layer.name, "\": ", what, " is ", found.text, ", expected ",
          expected});
}
template <class L>
void expect_activation(const L& layer, const std::string& a) {
  expect(layer, is_activation(a), "activation", "\"" + a.substr(0, 80) + "\"",
         "one of Keras's names");
}
template <class L>
void expect_format(const L& layer, const std::string& format) {
  expect(layer, format == "channels_last" || format == "channels_first", "data_format",
         "\"" + format.substr(0, 80) + "\"", "\"channels_last\" or \"channels_first\"");
}

/// The extents that an activation leaves: "glu" halves the last one. Throws InvalidArgument where
/// it cannot.
template <class L>
Dims activated(const L& layer, const std::string& activation_name, Dims d) {
  if (activation_name != "glu") return d;
  expect(layer, !d.empty() && d.back() >= 0 && d.back() % 2 == 0, "what goes into \"glu\"",
         str_dims(d), "an even last extent");
  d.back() /= 2;
  return d;
}
/// Keras's activation of that name. They are the operations of ops/activations.h, but for
/// "sparsemax": Keras sums the cumulative sums of the support where the paper takes the last one,
/// and a model that was trained so must go on so.
Tensor activated(const std::string& activation_name, const Tensor& x);
inline Tensor with_bias(const Tensor& y, const Variable& bias) {
  return bias ? y + cast(bias.read(), y.dtype()) : y;
}

/// Channels-first layers compute on channels-last tensors: [n, c, h, w] to [n, h, w, c] and back,
/// [n, c, steps] to [n, steps, c].
template <class T>
bool is_channels_first(const std::string& format, const T& axes) {
  return format == "channels_first" && (axes == 3 || axes == 4);
}
inline Dims to_last(const std::string& format, Dims d) {
  if (is_channels_first(format, d.size())) std::rotate(d.begin() + 1, d.begin() + 2, d.end());
  return d;
}
inline Dims from_last(const std::string& format, Dims d) {
  if (is_channels_first(format, d.size())) std::rotate(d.begin() + 1, d.end() - 1, d.end());
  return d;
}
inline Tensor to_last(const std::string& format, const Tensor& x) {
  if (!is_channels_first(format, x.rank())) return x;
  return x.rank() == 3 ? transpose(x, {0, 2, 1}) : transpose(x, {0, 2, 3, 1});
}
inline Tensor from_last(const std::string& format, const Tensor& x) {
  if (!is_channels_first(format, x.rank())) return x;
  return x.rank() == 3 ? transpose(x, {0, 2, 1}) : transpose(x, {0, 3, 1, 2});
}

}  // namespace evenflow
