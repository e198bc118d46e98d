// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "mpo/base/clock.h"
#include "mpo/config/v1/config.pb.h"
#include "services/policy_learner/policy_trainer.h"

namespace mpo::policy_learner {

// The trainer a validated configuration describes: its options, the model of
// `policy.model`, the reference of `policy.reference` where one is given.
// Sets LibTorch's threads to `learner.threads` (0 = OMP_NUM_THREADS, or all
// cores). `form_group`, if not empty, is called once the models are there and
// gives the group of ranks the trainer belongs to; its errors are returned.
// INVALID_ARGUMENT as TrainerOptionsFrom and PolicyTrainer::Create, and as
// LanguageModel::Load for the directories.
absl::StatusOr<std::unique_ptr<PolicyTrainer>> LoadTrainer(
    const config::v1::RunConfig& config, Clock& clock,
    const std::function<absl::StatusOr<
        std::shared_ptr<collective::ProcessGroup>>()>& form_group = nullptr);

}  // namespace mpo::policy_learner
