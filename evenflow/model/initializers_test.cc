// SPDX-License-Identifier: Apache-2.0
// Initializers against the statistics of Keras's: tests/reference/initializers.json.
#include <gmock/gmock.h>

#include <cmath>

#include "evenflow/core/error.h"
#include "evenflow/model/config.h"
#include "tests/reference_values.h"

namespace evenflow {
namespace {
using nlohmann::json;

Initializer initializer_of(const json& c) {
  Initializer i(c["initializer"].get<std::string>());
  const json& o = c["config"];
  i.a =
      o.value("value", o.value("mean", o.value("minval", o.value("gain", o.value("scale", i.a)))));
  i.b = o.value("stddev", o.value("maxval", i.b));
  i.mode = o.value("mode", i.mode), i.distribution = o.value("distribution", i.distribution);
  return i;
}

TEST(Initializers, DrawAsKerassDo) {
  int n = 0;
  for (const json& c : reference::document("initializers.json")["cases"]) {
    if (!c.contains("drawn")) continue;
    const Shape shape(c["shape"].get<std::vector<int64_t>>());
    SCOPED_TRACE(c["initializer"].get<std::string>() + " " + c["config"].dump() + " " + str(shape));
    const Initializer init = initializer_of(c);
    const int64_t draws = c["drawn"].get<int64_t>() / shape.count();
    double sum = 0, squares = 0, least = INFINITY, most = -INFINITY;
    for (int64_t d = 0; d < draws; ++d)
      for (float v : init(shape, uint64_t(d + 1)))
        sum += v, squares += double(v) * v, least = std::min<double>(least, v),
                                            most = std::max<double>(most, v);
    const double count = double(draws * shape.count()), mean = sum / count,
                 variance = squares / count - mean * mean;
    const double want = c["variance"], deviation = std::sqrt(want);
    // Two samples of 60,000 from one distribution: five standard errors of their difference.
    EXPECT_NEAR(mean, c["mean"].get<double>(), 5 * deviation * std::sqrt(2 / count));
    EXPECT_NEAR(variance, want, 5 * want * std::sqrt(4 / count));
    const bool normal = c["initializer"].get<std::string>() == "RandomNormal" ||
                        c["config"].value("distribution", "") == "untruncated_normal";
    const double slack =
        normal ? 1.5 * deviation : .01 * deviation;  // the tail of a normal is open
    EXPECT_NEAR(least, c["min"].get<double>(), slack);
    EXPECT_NEAR(most, c["max"].get<double>(), slack);
    ++n;
  }
  EXPECT_GE(n, 60);
}

TEST(Initializers, ConstantsAreKerass) {
  int n = 0;
  for (const json& c : reference::document("initializers.json")["cases"]) {
    if (!c.contains("value")) continue;
    const Shape shape(c["shape"].get<std::vector<int64_t>>());
    EXPECT_EQ(initializer_of(c)(shape, 1), reference::to_tensor(c["value"]).to_vector())
        << c.dump();
    ++n;
  }
  EXPECT_EQ(n, 5);
}

TEST(Initializers, OrthogonalIs) {
  int n = 0;
  for (const json& c : reference::document("initializers.json")["cases"]) {
    if (!c.contains("gram_diagonal")) continue;
    const Shape shape(c["shape"].get<std::vector<int64_t>>());
    const auto q = initializer_of(c)(shape, 3);
    const int64_t columns = shape.dim(-1), rows = shape.count() / columns,
                  few = std::min(rows, columns), many = std::max(rows, columns);
    auto at = [&](int64_t i, int64_t k) {
      return double(rows >= columns ? q[size_t(k * columns + i)] : q[size_t(i * columns + k)]);
    };
    for (int64_t i = 0; i < few; ++i)
      for (int64_t j = 0; j < few; ++j) {
        double dot = 0;
        for (int64_t k = 0; k < many; ++k) dot += at(i, k) * at(j, k);
        EXPECT_NEAR(dot, i == j ? c["gram_diagonal"].get<double>() : 0, 1e-5);
      }
    ++n;
  }
  EXPECT_EQ(n, 3);
}

TEST(Initializers, AreFunctionsOfSeedAndShape) {
  const Initializer a("he_normal");
  EXPECT_EQ(a({4, 5}, 7), a({4, 5}, 7));
  EXPECT_NE(a({4, 5}, 7), a({4, 5}, 8));
  EXPECT_EQ(Initializer("uniform").name, "RandomUniform");
  EXPECT_EQ(Initializer("normal").name, "RandomNormal");
  Initializer own("he_normal");
  own.seed = 3;  // a seed of its own is whatever the layer's
  EXPECT_EQ(own({4, 5}, 7), own({4, 5}, 8));
}

TEST(Initializers, UnknownOnesAndWrongRanksAreRefused) {
  EXPECT_THROW(Initializer("glorot"), Error);
  EXPECT_THROW(Initializer("orthogonal")({5}, 1), Error);
  EXPECT_THROW(Initializer("identity")({2, 2, 2}, 1), Error);
  Initializer v("variance_scaling");
  v.mode = "fan_sum";
  EXPECT_THROW(v({2, 2}, 1), Error);
  v.mode = "fan_in", v.distribution = "cauchy";
  EXPECT_THROW(v({2, 2}, 1), Error);
  v.distribution = "uniform", v.a = -1;
  EXPECT_THROW(v({2, 2}, 1), Error);
}

}  // namespace
}  // namespace evenflow
