// SPDX-License-Identifier: Apache-2.0
#include "mpo/base/clock.h"

#include <chrono>

#include "absl/time/clock.h"

namespace mpo {
namespace {

class RealClock final : public Clock {
 public:
  absl::Time Steady() const override {
    return absl::UnixEpoch() +
           absl::FromChrono(
               std::chrono::steady_clock::now().time_since_epoch());
  }
  absl::Time Wall() const override { return absl::Now(); }
};

}  // namespace

Clock& Clock::Real() {
  static RealClock clock;
  return clock;
}

}  // namespace mpo
