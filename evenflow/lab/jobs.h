// SPDX-License-Identifier: Apache-2.0
// Many small trainings side by side.
#pragma once
#include <cstddef>
#include <functional>

namespace evenflow::lab {

/// Calls job(i) for each i in [0, n), as many at once as there are threads, each with one; done(k)
/// when k have ended, never two at once. The first exception ends the rest and is thrown here.
void run_jobs(size_t n, const std::function<void(size_t)>& job,
              const std::function<void(size_t)>& done = {});

}  // namespace evenflow::lab
