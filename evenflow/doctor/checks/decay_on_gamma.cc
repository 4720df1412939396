// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/examination.h"

namespace evenflow::doctor {
namespace {
// Reads the optimizer's weight_decay.
class Decay : public ConfigVisitor {
 public:
  double decay = 0;
  using ConfigVisitor::field;
  void field(const char* n, double& v) override {
    if (std::string_view(n) == "weight_decay") decay = v;
  }
};
}  // namespace

DOCTOR_CHECK(S3) {
  return {.name = "decay_on_gamma",
          .looks_for =
              "a regularizer on gamma or beta (warning); an optimizer whose weight decay "
              "reaches them, where it is known (note)",
          .why =
              "decay on gamma does not bound what the net computes, since the next weights grow "
              "for it; it shrinks channels until epsilon and rounding speak louder (Goyal et "
              "al. 2017, section 5.3)",
          .advice = "leave gamma and beta out of weight decay",
          .run = [](Examination& e) {
            for (const Norm& n : e.net().norms)
              for (auto [what, r] : {std::pair{"gamma", n.layer->config.gamma_regularizer},
                                     std::pair{"beta", n.layer->config.beta_regularizer}})
                if (r)
                  e.find({.layer = n.path,
                          .value = std::max(r.l1, r.l2),
                          .saw = concat({what, " has a regularizer, l1 ", number(r.l1), ", l2 ",
                                         number(r.l2)})});
            if (!e.options().optimizer || e.net().norms.empty()) return;
            Decay d;
            e.options().optimizer.impl()->visit(d);
            if (d.decay > 0)
              e.find({.level = Level::note,
                      .value = d.decay,
                      .saw = concat({e.options().optimizer.impl()->class_name(),
                                     " has the weight_decay ", number(d.decay),
                                     ", also for gamma and beta"})});
          }};
}

}  // namespace evenflow::doctor
