// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/load_trainer.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "mpo/base/status_macros.h"
#include "mpo/tensor/threads.h"
#include "services/policy_learner/trainer_options_from.h"

namespace mpo::policy_learner {

absl::StatusOr<std::unique_ptr<PolicyTrainer>> LoadTrainer(
    const config::v1::RunConfig& config, Clock& clock) {
  MPO_ASSIGN_OR_RETURN(const TrainerOptions options,
                       TrainerOptionsFrom(config));
  const int threads = config.learner().threads();
  tensor::SetThreads(threads > 0
                         ? threads
                         : static_cast<int>(std::max(
                               1U, std::thread::hardware_concurrency())));
  MPO_ASSIGN_OR_RETURN(auto model,
                       model::LanguageModel::Load(config.policy().model()));
  std::shared_ptr<const model::LanguageModel> reference;
  if (!config.policy().reference().empty()) {
    MPO_ASSIGN_OR_RETURN(
        reference, model::LanguageModel::Load(config.policy().reference()));
  }
  return PolicyTrainer::Create(std::move(model), options, clock,
                               std::move(reference));
}

}  // namespace mpo::policy_learner
