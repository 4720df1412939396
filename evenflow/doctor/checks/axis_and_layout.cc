// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/examination.h"

namespace evenflow::doctor {
namespace {
// The data format of the nearest layer above that has one, or "".
std::string layout_above(const Net& net, int use) {
  for (;;) {
    const auto& in = net.uses[size_t(use)].inputs;
    if (in.empty()) return "";
    use = in[0];
    const Use& u = net.uses[size_t(use)];
    if (u.dims.size() != 4) return "";
    if (auto format = text_field(*u.layer, "data_format")) return *format;
  }
}
}  // namespace

DOCTOR_CHECK(S2) {
  return {.name = "axis_and_layout",
          .looks_for =
              "an axis that is not the channel axis of the images that the layers before "
              "it make (error)",
          .why =
              "rows or columns of pixels get statistics of their own, and channels share one: "
              "the layer then also takes images of one size only",
          .advice = "axis=-1 for channels_last, axis=1 for channels_first",
          .run = [](Examination& e) {
            const Net& net = e.net();
            for (const Norm& n : net.norms) {
              const std::string format = layout_above(net, n.uses[0]);
              if (format.empty()) continue;
              const int64_t want = format == "channels_first" ? 1 : 3;
              if (n.axes() == std::vector{want}) continue;
              e.find({.level = Level::error,
                      .layer = n.path,
                      .value = double(n.axes()[0]),
                      .saw = concat({"axis is ", n.layer->config.axis.axes[0],
                                     ", and what it reads is ", format, " ",
                                     str_dims(n.layer->input_dims[0])})});
            }
          }};
}

}  // namespace evenflow::doctor
