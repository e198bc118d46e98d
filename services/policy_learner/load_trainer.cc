// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/load_trainer.h"

#include <torch/torch.h>

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

at::Device DeviceOfRank(const at::Device& device, int rank, int devices) {
  if (!device.is_cuda() || devices <= 0) return device;
  return {at::kCUDA, static_cast<c10::DeviceIndex>(rank % devices)};
}

absl::StatusOr<std::unique_ptr<PolicyTrainer>> LoadTrainer(
    const config::v1::RunConfig& config, Clock& clock, int rank,
    const FormGroup& form_group) {
  MPO_ASSIGN_OR_RETURN(TrainerOptions options, TrainerOptionsFrom(config));
  if (form_group && options.placement.device.is_cuda()) {
    options.placement.device =
        DeviceOfRank(options.placement.device, rank,
                     static_cast<int>(torch::cuda::device_count()));
  }
  tensor::SetThreads(ThreadsOf(config));
  // Full weights begin in float32 whatever the passes run in.
  model::LoadOptions placement = options.placement;
  if (!options.lora.has_value()) placement.dtype = at::kFloat;
  MPO_ASSIGN_OR_RETURN(auto model, model::LanguageModel::Load(
                                       config.policy().model(), placement));
  std::shared_ptr<const model::LanguageModel> reference;
  if (!config.policy().reference().empty()) {
    MPO_ASSIGN_OR_RETURN(reference,
                         model::LanguageModel::Load(config.policy().reference(),
                                                    options.placement));
  }
  std::shared_ptr<collective::ProcessGroup> group;
  if (form_group) {
    MPO_ASSIGN_OR_RETURN(group, form_group(options.placement.device));
  }
  return PolicyTrainer::Create(std::move(model), options, clock,
                               std::move(reference), std::move(group));
}

}  // namespace mpo::policy_learner
