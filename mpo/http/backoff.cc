// SPDX-License-Identifier: Apache-2.0
#include "mpo/http/backoff.h"

#include <algorithm>
#include <cmath>

namespace mpo::http {

absl::Duration Backoff::Pause(int retry) {
  const absl::Duration longest =
      std::min(longest_, first_ * std::pow(2.0, std::min(retry, 20)));
  MutexLock lock(mu_);
  return longest * std::uniform_real_distribution<double>(0, 1)(random_);
}

bool Wait(absl::Duration pause, std::stop_token stop) {
  Mutex mu;
  CondVar never;
  MutexLock lock(mu);
  never.WaitFor(mu, stop, pause, [] { return false; });
  return !stop.stop_requested();
}

}  // namespace mpo::http
