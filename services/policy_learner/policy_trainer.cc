// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/policy_trainer.h"

#include <torch/torch.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"
#include "mpo/model/safetensors.h"
#include "mpo/tensor/torch_errors.h"
#include "services/policy_learner/policy_update.h"

namespace mpo::policy_learner {

absl::StatusOr<std::unique_ptr<PolicyTrainer>> PolicyTrainer::Create(
    std::shared_ptr<const model::LanguageModel> base,
    const TrainerOptions& options, Clock& clock) {
  MPO_ASSIGN_OR_RETURN(
      PolicyModel model,
      PolicyModel::Create(std::move(base), options.lora, options.seed));
  return tensor::CatchTorch("make trainer", [&] {
    return std::unique_ptr<PolicyTrainer>(
        new PolicyTrainer(std::move(model), options, clock));
  });
}

PolicyTrainer::PolicyTrainer(PolicyModel model, const TrainerOptions& options,
                             Clock& clock)
    : options_(options),
      clock_(clock),
      model_(std::move(model)),
      optimiser_(model_.Trainable(), options, options.weight_decay),
      value_head_(model_.reference().config().hidden_size, options) {}

absl::StatusOr<StepResult> PolicyTrainer::Train(
    int64_t step, const std::vector<TrainingSample>& samples) {
  MPO_ASSIGN_OR_RETURN(
      StepResult result,
      tensor::CatchTorch(absl::StrCat("train step ", step), [&] {
        PolicyUpdate update(options_, model_, optimiser_, value_head_, clock_,
                            on_phase_);
        return update.Run(step, samples);
      }));
  nonfinite_in_row_ =
      result.metrics["nonfinite"] > 0 ? nonfinite_in_row_ + 1 : 0;
  if (nonfinite_in_row_ >= options_.max_nonfinite_steps) {
    return absl::InternalError(absl::StrCat(
        "step ", step, ": loss or gradient not finite in ", nonfinite_in_row_,
        " steps in a row; lower learner.learning_rate or raise "
        "learner.kl_coef"));
  }
  return result;
}

absl::Status PolicyTrainer::Save(const std::filesystem::path& directory) const {
  MPO_RETURN_IF_ERROR(model_.Save(directory));
  return tensor::CatchTorch("save trainer", [&]() -> absl::Status {
    std::vector<tensor::NamedTensor> state = optimiser_.State("policy.");
    for (auto& entry : value_head_.OptimiserState()) state.push_back(entry);
    for (auto& entry : value_head_.Weights()) {
      state.push_back({entry.name, entry.tensor.detach()});
    }
    state.push_back(
        {"nonfinite_in_row", torch::tensor(nonfinite_in_row_, torch::kLong)});
    return model::WriteSafetensors(directory / "trainer.safetensors", state);
  });
}

absl::Status PolicyTrainer::Load(const std::filesystem::path& directory) {
  MPO_RETURN_IF_ERROR(model_.Load(directory));
  const std::filesystem::path path = directory / "trainer.safetensors";
  MPO_ASSIGN_OR_RETURN(auto state, ReadSafetensors(path));
  MPO_RETURN_IF_ERROR(optimiser_.Restore(state, "policy.", path.string()));
  MPO_RETURN_IF_ERROR(value_head_.RestoreOptimiser(state, path.string()));
  std::vector<tensor::NamedTensor> head;
  bool counted = false;
  for (const tensor::NamedTensor& entry : state) {
    if (entry.name.starts_with("value_head.")) head.push_back(entry);
    if (entry.name == "nonfinite_in_row") {
      nonfinite_in_row_ = static_cast<int>(entry.tensor.item<int64_t>());
      counted = true;
    }
  }
  if (!counted) {
    return absl::InvalidArgumentError(
        absl::StrCat(path.string(), ": tensor 'nonfinite_in_row' is missing"));
  }
  return CopyByName(head, value_head_.Weights(), path.string());
}

}  // namespace mpo::policy_learner
