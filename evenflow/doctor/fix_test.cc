// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/fix.h"

#include <gmock/gmock.h>

#include "evenflow/data/digits.h"
#include "evenflow/doctor/net.h"
#include "evenflow/model/layers.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/train/train.h"

namespace evenflow::doctor {
namespace {
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const char* const kLoss = "sparse_categorical_crossentropy";
Tensors digits(int64_t n) { return data::digits().take(n).all(); }
Model biased() {
  set_random_seed(6);
  return Sequential({to_layer(Input({8, 8, 1})),
                     Conv2D({.filters = 6, .kernel_size = 3, .name = "c"}),
                     BatchNormalization({.name = "n"}), ReLU(), Flatten(),
                     Dense({.units = 10, .activation = "softmax", .name = "class"})});
}
void train(const Model& m, int64_t epochs) {
  m.compile({.optimizer = Adam({.learning_rate = 3e-3}), .loss = kLoss});
  const Tensors t = digits(640);
  m.fit(t[0], t[1], {.epochs = epochs, .verbose = 0, .seed = 2});
}
BatchNormalizationImpl& norm(const Model& m) {
  return static_cast<BatchNormalizationImpl&>(*m.get_layer("n").impl());
}
double worst(const Tensor& a, const Tensor& b) {
  const auto v = a.to_vector(), w = b.to_vector();
  double d = 0;
  for (size_t i = 0; i < v.size(); ++i) d = std::max(d, double(std::abs(v[i] - w[i])));
  return d;
}

TEST(Fix, a_dropped_bias_changes_no_prediction) {
  const Model m = biased();
  train(m, 3);
  auto& bias = m.get_layer("c").weights()[1].variable;
  bias.assign(constant({1, -2, .5, 0, 3, -.25}, {6}, DType::f32));
  const Fixed f = fix(m, examine(m));
  EXPECT_THAT(f.done, ElementsAre("the bias of c is dropped"));
  EXPECT_EQ(f.model.count_params(), m.count_params() - 6);
  EXPECT_LE(worst(f.model.predict(digits(64)[0]), m.predict(digits(64)[0])), 1e-5);
  EXPECT_EQ(norm(f.model).update_count.read().item(), norm(m).update_count.read().item());
  EXPECT_THAT(examine(f.model).findings, IsEmpty());
  EXPECT_EQ(m.get_layer("c").weights().size(), 2u) << "the model itself stays";
}
// What a debiased layer would have counted in the same training is what fixing a plain one gives.
TEST(Fix, debiased_averages_are_those_that_were_counted_from_the_first_update_on) {
  const Model plain = biased(), counted = biased();
  norm(plain).set_averages(BatchNormAverages::plain);
  train(plain, 2), train(counted, 2);
  const Diagnosis d = examine(plain, {.x = digits(640)[0], .only = {"T1"}});
  const Fixed f = fix(plain, d);
  EXPECT_THAT(f.done, ElementsAre("the averages of n are debiased"));
  const auto want = norm(counted).moving_variance.read().to_vector(),
             got = norm(f.model).moving_variance.read().to_vector();
  for (size_t c = 0; c < want.size(); ++c) EXPECT_NEAR(got[c], want[c], 1e-5);
  EXPECT_EQ(norm(f.model).averages(), BatchNormAverages::exponential);
  EXPECT_THAT(examine(f.model, {.only = {"T1"}}).findings, IsEmpty());
}
TEST(Fix, drifted_averages_are_recalibrated_where_there_is_data) {
  const Model m = biased();
  train(m, 3);
  norm(m).moving_mean.assign(norm(m).moving_mean.read() + 3.f);
  const Tensors t = digits(512);
  const Options o{.x = t[0], .y = t[1], .loss = kLoss};
  const Diagnosis d = examine(m, o);
  EXPECT_FALSE(d.healthy());
  const Fixed f = fix(m, d, o);
  EXPECT_TRUE(examine(f.model, o).healthy()) << diagnosis_text(examine(f.model, o));
  EXPECT_THAT(fix(m, d).done, ElementsAre("the bias of c is dropped")) << "no data, no averages";
}

}  // namespace
}  // namespace evenflow::doctor
