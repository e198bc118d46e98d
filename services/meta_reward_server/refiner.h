// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <stop_token>
#include <string>

#include "absl/status/statusor.h"
#include "mpo/types/refinement.h"

namespace mpo::meta_reward_server {

// How far a refinement is.
struct RefinementProgress {
  std::string phase;  // "analyse", "refine", "merge" or "validate".
  int done = 0;
  int total = 0;
};

// Called from any thread, perhaps from several at once; must not block.
using ProgressSink = std::function<void(const RefinementProgress&)>;

// Something that turns evidence into a rubric proposal. Thread-safe.
class Refiner {
 public:
  virtual ~Refiner() = default;
  // Blocks until there is a proposal or an error; `stop` ends it early with
  // CANCELLED. INVALID_ARGUMENT: the request cannot be worked on. UNAVAILABLE:
  // the meta-judge did not answer. FAILED_PRECONDITION: its proposal was not a
  // valid rubric (every problem listed), or it refuses our requests.
  virtual absl::StatusOr<RefinementProposal> Refine(
      const RefinementRequest& request, const ProgressSink& progress,
      std::stop_token stop) = 0;
};

}  // namespace mpo::meta_reward_server
