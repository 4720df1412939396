// SPDX-License-Identifier: Apache-2.0
// Glorot & Bengio 2010, He et al. 2015, LeCun 1998, Saxe et al. 2013 (orthogonal).
#include <algorithm>
#include <array>
#include <cmath>

#include "evenflow/core/random.h"
#include "evenflow/model/config.h"

namespace evenflow {
namespace {

struct Known {
  std::string_view name, short_name;
  double a, b;
};
constexpr Known kKnown[] = {
    {"Zeros", "zeros", 0, 0},
    {"Ones", "ones", 0, 0},
    {"Constant", "constant", 0, 0},
    {"RandomNormal", "random_normal", 0, 0.05},
    {"RandomUniform", "random_uniform", -0.05, 0.05},
    {"TruncatedNormal", "truncated_normal", 0, 0.05},
    {"VarianceScaling", "variance_scaling", 1, 0},
    {"GlorotNormal", "glorot_normal", 0, 0},
    {"GlorotUniform", "glorot_uniform", 0, 0},
    {"HeNormal", "he_normal", 0, 0},
    {"HeUniform", "he_uniform", 0, 0},
    {"LecunNormal", "lecun_normal", 0, 0},
    {"LecunUniform", "lecun_uniform", 0, 0},
    {"Orthogonal", "orthogonal", 1, 0},
    {"Identity", "identity", 1, 0},
};
// What Keras calls them too.
constexpr std::pair<std::string_view, std::string_view> kAliases[] = {
    {"normal", "RandomNormal"},
    {"uniform", "RandomUniform"},
    {"one", "Ones"},
    {"zero", "Zeros"},
    {"IdentityInitializer", "Identity"},
    {"OrthogonalInitializer", "Orthogonal"}};

// Uniform and normal numbers from one stream.
class Source {
 public:
  explicit Source(uint64_t seed) : philox_{seed} {}
  double uniform() {
    if (at_ == 4) words_ = philox_(0x696e6974, counter_++), at_ = 0;
    const double u = uniform_f64(words_[at_], words_[at_ + 1]);
    at_ += 2;
    return u;
  }
  double normal() {  // Box & Muller 1958
    const double u = 1 - uniform(), v = uniform();
    return std::sqrt(-2 * std::log(u)) * std::cos(2 * 3.14159265358979323846 * v);
  }
  double truncated_normal() {
    for (;;)
      if (double x = normal(); std::abs(x) <= 2) return x;
  }

 private:
  Philox philox_;
  std::array<uint32_t, 4> words_{};
  uint64_t counter_ = 0;
  size_t at_ = 4;
};

struct Fans {
  double in, out;
};
Fans fans(const Shape& s) {
  if (s.rank() == 0) return {1, 1};
  if (s.rank() == 1) return {double(s[0]), double(s[0])};
  double field = 1;
  for (int i = 0; i < s.rank() - 2; ++i) field *= double(s[i]);
  return {field * double(s.dim(-2)), field * double(s.dim(-1))};
}

std::vector<double> orthogonal(const Shape& s, double gain, Source& source) {
  if (s.rank() < 2) fail({"Orthogonal: the weight is ", str(s), ", expected rank 2 or more"});
  const int64_t cols = s.dim(-1), rows = cols ? s.count() / cols : 0;
  const int64_t n = std::max(rows, cols), m = std::min(rows, cols);
  std::vector<double> q(
      size_t(n * m));  // n x m, its columns made orthonormal by modified Gram-Schmidt, twice
  for (double& x : q) x = source.normal();
  for (int64_t j = 0; j < m; ++j) {
    for (int pass = 0; pass < 2; ++pass)
      for (int64_t k = 0; k < j; ++k) {
        double dot = 0;
        for (int64_t i = 0; i < n; ++i) dot += q[size_t(i * m + k)] * q[size_t(i * m + j)];
        for (int64_t i = 0; i < n; ++i) q[size_t(i * m + j)] -= dot * q[size_t(i * m + k)];
      }
    double norm = 0;
    for (int64_t i = 0; i < n; ++i) norm += q[size_t(i * m + j)] * q[size_t(i * m + j)];
    for (int64_t i = 0; i < n; ++i) q[size_t(i * m + j)] /= std::sqrt(norm);
  }
  std::vector<double> r(size_t(rows * cols));
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j)
      r[size_t(i * cols + j)] = gain * (rows >= cols ? q[size_t(i * m + j)] : q[size_t(j * m + i)]);
  return r;
}
}  // namespace

Initializer::Initializer(const char* n) : Initializer(std::string(n)) {}
Initializer::Initializer(const std::string& n) {
  std::string_view wanted = n;
  for (auto [alias, name_of] : kAliases)
    if (n == alias) wanted = name_of;
  for (const Known& k : kKnown)
    if (wanted == k.name || wanted == k.short_name) {
      name = k.name, a = k.a, b = k.b;
      return;
    }
  fail({"initializer is \"", n,
        "\", expected one of Keras's, such as \"glorot_uniform\", \"he_normal\", \"zeros\""});
}

std::vector<float> Initializer::operator()(const Shape& shape, uint64_t layer_seed) const {
  if (name == "VarianceScaling") {
    if (mode != "fan_in" && mode != "fan_out" && mode != "fan_avg")
      fail({"VarianceScaling: mode is \"", mode.substr(0, 80),
            "\", expected fan_in, fan_out or fan_avg"});
    if (distribution != "truncated_normal" && distribution != "untruncated_normal" &&
        distribution != "uniform" && distribution != "normal")
      fail({"VarianceScaling: distribution is \"", distribution.substr(0, 80),
            "\", expected truncated_normal, untruncated_normal or uniform"});
    if (!(a > 0)) fail({"VarianceScaling: scale is ", a, ", expected above 0"});
  }
  std::vector<float> r(size_t(shape.count()));
  Source source(seed ? uint64_t(*seed) : layer_seed);
  auto fill = [&](auto f) { std::generate(r.begin(), r.end(), [&] { return float(f()); }); };
  auto scaled = [&](double scale, const std::string& fan, const std::string& kind) {
    const auto [in, out] = fans(shape);
    const double n = fan == "fan_in"    ? in
                     : fan == "fan_out" ? out
                                        : (in + out) / 2,
                 s = scale / std::max(1.0, n);
    if (kind == "uniform")
      fill([&, limit = std::sqrt(3 * s)] { return limit * (2 * source.uniform() - 1); });
    else if (kind == "untruncated_normal")
      fill([&, d = std::sqrt(s)] { return d * source.normal(); });
    else
      fill([&, d = std::sqrt(s) / .87962566103423978] {
        return d * source.truncated_normal();
      });  // the deviation of a normal cut at 2
  };
  if (name == "Zeros") return r;
  if (name == "Ones")
    std::fill(r.begin(), r.end(), 1.f);
  else if (name == "Constant")
    std::fill(r.begin(), r.end(), float(a));
  else if (name == "RandomNormal")
    fill([&] { return a + b * source.normal(); });
  else if (name == "TruncatedNormal")
    fill([&] { return a + b * source.truncated_normal(); });
  else if (name == "RandomUniform")
    fill([&] { return a + (b - a) * source.uniform(); });
  else if (name == "VarianceScaling")
    scaled(a, mode, distribution);
  else if (name == "GlorotNormal")
    scaled(1, "fan_avg", "truncated_normal");
  else if (name == "GlorotUniform")
    scaled(1, "fan_avg", "uniform");
  else if (name == "HeNormal")
    scaled(2, "fan_in", "truncated_normal");
  else if (name == "HeUniform")
    scaled(2, "fan_in", "uniform");
  else if (name == "LecunNormal")
    scaled(1, "fan_in", "truncated_normal");
  else if (name == "LecunUniform")
    scaled(1, "fan_in", "uniform");
  else if (name == "Orthogonal") {
    auto q = orthogonal(shape, a, source);
    std::copy(q.begin(), q.end(), r.begin());
  } else {  // Identity
    if (shape.rank() != 2) fail({"Identity: the weight is ", str(shape), ", expected rank 2"});
    for (int64_t i = 0; i < std::min(shape[0], shape[1]); ++i)
      r[size_t(i * shape[1] + i)] = float(a);
  }
  return r;
}

std::string str_dims(const Dims& dims) {
  std::string s = "(";
  for (size_t i = 0; i < dims.size(); ++i)
    s += (i ? ", " : "") + (dims[i] < 0 ? "None" : std::to_string(dims[i]));
  return s + (dims.size() == 1 ? ",)" : ")");
}

}  // namespace evenflow
