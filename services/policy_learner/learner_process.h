// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "mpo/collective/process_group.h"
#include "mpo/config/v1/config.pb.h"
#include "services/policy_learner/learner_group.h"

namespace mpo::policy_learner {

struct LearnerProcessOptions {
  config::v1::RunConfig config;  // Validated, defaults filled in.
  std::string config_sha256;
  std::string name = "policy_learner";
  std::string listen;          // host:port of the gRPC server.
  std::string metrics_listen;  // host:port, empty = none.
  int rank = 0;                // Of config.learner.ranks.
  // host:port of the rendezvous where it is not mesh.learner_group: rank 0
  // listens there, other ranks go there.
  std::string group;
};

// Runs the policy learner until a termination signal, which must be blocked
// already, or until training cannot go on. OK after a signal. A rank above 0 is
// run by RunRank.
absl::Status RunLearner(const LearnerProcessOptions& options);

// Joins the ranks that `options` name, with a model on `device`; `holder` keeps
// the group alive. Errors as LearnerGroup::Form.
absl::StatusOr<std::shared_ptr<collective::ProcessGroup>> JoinGroup(
    const LearnerProcessOptions& options, const at::Device& device,
    std::unique_ptr<LearnerGroup>& holder);

}  // namespace mpo::policy_learner
