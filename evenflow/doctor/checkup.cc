// SPDX-License-Identifier: Apache-2.0
// The callback: counts what a training does to the averages.
#include <cmath>

#include "evenflow/doctor/examination.h"

namespace evenflow::doctor {
namespace {
bool learns(const Norm& n) { return n.trainable && n.layer->mode() == BatchNormMode::train; }
}  // namespace

void Checkup::on_train_begin(TrainingState& s) {
  trace = {}, diagnosis = {}, counts_.clear(), skipped_ = 0;
  for (const Norm& n : Net(s.model).norms) {
    counts_[n.path] = {int64_t(n.layer->update_count.read().item()),
                       int64_t(n.layer->rejected_count.read().item())};
    trace.layers[n.path].from_initial = untouched(n);
  }
}
void Checkup::on_epoch_begin(TrainingState&, int64_t) { skipped_ = 0; }
void Checkup::on_train_batch_end(TrainingState& s, int64_t, const Logs& logs) {
  const int64_t skipped = int64_t(logs.find("skipped_steps").value_or(0));
  const bool committed = skipped == skipped_;
  trace.skipped += skipped - skipped_, skipped_ = skipped;
  trace.steps += committed;
  for (const Norm& n : Net(s.model).norms) {
    auto& [updates, rejected] = counts_[n.path];
    const int64_t now = int64_t(n.layer->update_count.read().item()), made = now - updates,
                  refused = int64_t(n.layer->rejected_count.read().item());
    const bool whole = refused == rejected;  // else it saw what is not finite, and counted that
    updates = now, rejected = refused;
    Trace::Layer& t = trace.layers[n.path];
    t.updates += made;
    // Keras's averages take one use after the other; the others merge the uses of a step.
    const bool plain = n.layer->averages() == BatchNormAverages::plain;
    const int64_t expected = !committed || !learns(n) ? 0 : plain ? int64_t(n.uses.size()) : 1;
    if (whole && made != expected) ++t.odd_steps, t.odd_updates = made;
  }
}
void Checkup::on_train_end(TrainingState& s) {
  Options o = options_;
  o.trace = trace;
  if (o.only.empty())
    for (auto& c : checks())
      if (c.id[0] == 'T') o.only.push_back(c.id);
  diagnosis = examine(s.model, o);
  if (s.verbose && !diagnosis.findings.empty())
    std::fputs(diagnosis_text(diagnosis).c_str(), s.out);
}

}  // namespace evenflow::doctor
