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
// cores). `form_group`, if not empty, is called once the models are there with
// the device of `rank` and gives the group of ranks the trainer belongs to; its
// errors are returned. INVALID_ARGUMENT as TrainerOptionsFrom and
// PolicyTrainer::Create, and as LanguageModel::Load for the directories.
using FormGroup =
    std::function<absl::StatusOr<std::shared_ptr<collective::ProcessGroup>>(
        const at::Device&)>;
absl::StatusOr<std::unique_ptr<PolicyTrainer>> LoadTrainer(
    const config::v1::RunConfig& config, Clock& clock, int rank = 0,
    const FormGroup& form_group = nullptr);

// Ranks on GPUs take those of their host in turn: `rank` modulo `devices`,
// which is right where each host has the same number of ranks and they are
// numbered host by host. A CPU stays what it is.
at::Device DeviceOfRank(const at::Device& device, int rank, int devices);

}  // namespace mpo::policy_learner
