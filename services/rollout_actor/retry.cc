// SPDX-License-Identifier: Apache-2.0
#include "services/rollout_actor/retry.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "mpo/base/mutex.h"
#include "mpo/logging/log.h"

namespace mpo::rollout_actor {

bool WorthAnotherTry(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kUnimplemented:
      return false;
    default:
      return true;
  }
}

void Pause(absl::Duration pause, std::stop_token stop) {
  Mutex mu;
  CondVar never;
  MutexLock lock(mu);
  never.WaitFor(mu, stop, pause, [] { return false; });
}

absl::Status TryUntil(const char* what, const RetryPolicy& policy,
                      std::stop_token stop,
                      const std::function<absl::Status()>& call) {
  absl::Duration pause = policy.first;
  absl::Status status;
  for (int tries = 0; !stop.stop_requested(); ++tries) {
    status = call();
    if (status.ok()) return status;
    if (stop.stop_requested()) break;
    if (!WorthAnotherTry(status)) return status;
    if (tries % 10 == 0) {
      logging::Warning(
          "call failed, trying again",
          {{"call", what}, {"tries", tries + 1}, {"status", status}});
    }
    Pause(pause, stop);
    pause = std::min(2 * pause, policy.longest);
  }
  return absl::CancelledError(absl::StrCat(
      what, " stopped; last answer: ", std::string(status.message())));
}

}  // namespace mpo::rollout_actor
