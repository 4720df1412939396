// SPDX-License-Identifier: Apache-2.0
// Statistics that merge: count, mean, and sum of squared deviations from the mean (Chan, Golub and
// LeVeque, 1979; one value at a time it is Welford's method). Plain C++, for every device. Never
// E[x^2] - E[x]^2, which loses all digits at mean 1e4.
#pragma once

#ifndef EVENFLOW_FN
#ifdef __CUDACC__
#define EVENFLOW_FN __host__ __device__
#else
#define EVENFLOW_FN
#endif
#endif

namespace evenflow {

/// n may be a sum of weights. With n = 0 the rest is 0.
struct Stats {
  double n = 0, mean = 0, m2 = 0;
};

/// The statistics of both sets together. A set of no elements changes no bit of the other.
EVENFLOW_FN inline Stats merge(const Stats& a, const Stats& b) {
  if (b.n == 0) return a;
  if (a.n == 0) return b;
  const double n = a.n + b.n, delta = b.mean - a.mean, share = b.n / n;
  return {n, a.mean + delta * share, a.m2 + b.m2 + delta * delta * (a.n * share)};
}
/// One value more, of weight `weight`.
EVENFLOW_FN inline Stats add(const Stats& a, double value, double weight = 1) {
  return merge(a, {weight, value, 0});
}
/// M2 / n, the variance that batch normalisation divides by; 0 for n = 0.
EVENFLOW_FN inline double population_variance(const Stats& s) { return s.n > 0 ? s.m2 / s.n : 0; }
/// M2 / (n - 1); 0 for n <= 1.
EVENFLOW_FN inline double sample_variance(const Stats& s) { return s.n > 1 ? s.m2 / (s.n - 1) : 0; }

}  // namespace evenflow
