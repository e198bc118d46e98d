// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/load_trainer.h"

#include <algorithm>
#include <cstdlib>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "mpo/base/status_macros.h"
#include "mpo/tensor/threads.h"
#include "services/policy_learner/trainer_options_from.h"

namespace mpo::policy_learner {
namespace {

// What was asked for, else the share of the cores that `mpo train` gives this
// process, else all cores.
int ThreadsOf(const config::v1::RunConfig& config) {
  if (config.learner().threads() > 0) return config.learner().threads();
  int given = 0;
  const char* text = std::getenv("OMP_NUM_THREADS");
  if (text != nullptr && absl::SimpleAtoi(text, &given) && given > 0) {
    return given;
  }
  return static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<PolicyTrainer>> LoadTrainer(
    const config::v1::RunConfig& config, Clock& clock,
    const std::function<
        absl::StatusOr<std::shared_ptr<collective::ProcessGroup>>()>&
        form_group) {
  MPO_ASSIGN_OR_RETURN(const TrainerOptions options,
                       TrainerOptionsFrom(config));
  tensor::SetThreads(ThreadsOf(config));
  MPO_ASSIGN_OR_RETURN(auto model,
                       model::LanguageModel::Load(config.policy().model()));
  std::shared_ptr<const model::LanguageModel> reference;
  if (!config.policy().reference().empty()) {
    MPO_ASSIGN_OR_RETURN(
        reference, model::LanguageModel::Load(config.policy().reference()));
  }
  std::shared_ptr<collective::ProcessGroup> group;
  if (form_group) {
    MPO_ASSIGN_OR_RETURN(group, form_group());
  }
  return PolicyTrainer::Create(std::move(model), options, clock,
                               std::move(reference), std::move(group));
}

}  // namespace mpo::policy_learner
