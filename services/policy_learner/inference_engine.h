// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/ScalarType.h>

#include <filesystem>
#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "mpo/config/v1/config.pb.h"
#include "mpo/http/secret.h"
#include "mpo/types/rollout.h"

namespace mpo::policy_learner {

// An inference engine that loads weights from a directory. Meanings and
// defaults are those of mpo/config/v1/config.proto (Engine).
struct InferenceEngine {
  enum class Kind { kSglang, kVllm, kDirectory };
  Kind kind = Kind::kDirectory;
  std::string url = {};  // Without a slash at its end; empty with kDirectory.
  std::filesystem::path directory = {};
  int every = 1;
  int kept = 2;
  at::ScalarType dtype = at::kFloat;
  bool required = false;
  absl::Duration timeout = absl::Minutes(5);  // Of one request.
  int attempts = 4;
  absl::Duration backoff = absl::Milliseconds(500);
  http::Secret api_key = {};
  // Waits between tries; false when stopped. Tests replace it.
  std::function<bool(absl::Duration, std::stop_token)> sleep = {};

  // For messages: the URL, or the directory where there is none.
  std::string name() const { return url.empty() ? directory.string() : url; }
};

// The engines of a configuration. INVALID_ARGUMENT with every problem: a URL
// that is missing, not http(s) or not read by anything, and two engines with
// one directory that differ in `kept` or `dtype`; the errors of ReadSecretFile.
absl::StatusOr<std::vector<InferenceEngine>> EnginesFrom(
    const config::v1::Learner& learner);

// Has an engine load the model directory of a version, and waits until it has.
// Requests are tried again where that may help. Nothing to do for kDirectory.
// OK only when the engine says that it has loaded the weights. Else the
// message names the engine's URL:
// UNAVAILABLE, RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED  all tries are used;
// FAILED_PRECONDITION  the engine refuses (4xx, "success": false);
// DATA_LOSS            an answer that is not the engine's;
// CANCELLED            `stop`.
absl::Status LoadInto(const InferenceEngine& engine,
                      const std::filesystem::path& directory,
                      PolicyVersion version, std::stop_token stop);

}  // namespace mpo::policy_learner
