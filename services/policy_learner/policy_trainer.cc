// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/policy_trainer.h"

#include <torch/torch.h>

#include <optional>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"
#include "mpo/model/safetensors.h"
#include "mpo/tensor/torch_errors.h"
#include "services/policy_learner/policy_update.h"

namespace mpo::policy_learner {
namespace {

constexpr char kValueFile[] = "value_model.safetensors";

// As tensor::CatchTorch; a failed collective operation gives its own status.
template <typename Function>
auto CatchAll(std::string_view what, Function function) {
  using Result = std::invoke_result_t<Function>;
  std::optional<absl::Status> failure;
  auto result = tensor::CatchTorch(what, [&]() -> Result {
    try {
      return function();
    } catch (const GroupFailure& group) {
      failure =
          absl::Status(group.status().code(),
                       absl::StrCat(std::string(what), ": ",
                                    std::string(group.status().message())));
      throw;
    }
  });
  if (failure.has_value()) result = *failure;
  return result;
}

// All ranks must train the same model: a barrier whose name holds its digest.
absl::Status CompareModels(const model::LanguageModel& base,
                           const model::LanguageModel* reference,
                           collective::ProcessGroup& group) {
  std::string digests;
  for (const model::LanguageModel* one : {&base, reference}) {
    if (one == nullptr) continue;
    MPO_ASSIGN_OR_RETURN(const std::string digest,
                         tensor::Digest(one->StateDict()));
    absl::StrAppend(&digests, " ", digest.substr(0, 16));
  }
  return group.Barrier(absl::StrCat("the model with digest", digests));
}

}  // namespace

absl::StatusOr<std::unique_ptr<PolicyTrainer>> PolicyTrainer::Create(
    std::shared_ptr<const model::LanguageModel> base,
    const TrainerOptions& options, Clock& clock,
    std::shared_ptr<const model::LanguageModel> reference,
    std::shared_ptr<collective::ProcessGroup> group) {
  if (group != nullptr) {
    MPO_RETURN_IF_ERROR(CompareModels(*base, reference.get(), *group));
  }
  std::unique_ptr<model::MasterWeights> value_trunk;
  if (options.algorithm == Algorithm::kPpo &&
      options.value_model == ValueModelKind::kSeparate) {
    MPO_ASSIGN_OR_RETURN(
        value_trunk, model::MasterWeights::Create(*base, options.placement));
  }
  MPO_ASSIGN_OR_RETURN(
      PolicyModel model,
      PolicyModel::Create(std::move(base), options.lora, options.seed,
                          std::move(reference), options.placement,
                          // Who has layers computed again is short of memory.
                          options.activations == model::Activations::kKept));
  return tensor::CatchTorch("make trainer", [&] {
    return std::unique_ptr<PolicyTrainer>(
        new PolicyTrainer(std::move(model), std::move(value_trunk), options,
                          clock, std::move(group)));
  });
}

PolicyTrainer::PolicyTrainer(PolicyModel model,
                             std::unique_ptr<model::MasterWeights> value_trunk,
                             const TrainerOptions& options, Clock& clock,
                             std::shared_ptr<collective::ProcessGroup> group)
    : options_(options),
      clock_(clock),
      group_(std::move(group)),
      parallel_(group_.get()),
      model_(std::move(model)),
      optimiser_(model_.Trainable(), options, options.weight_decay,
                 group_.get()),
      value_trunk_(std::move(value_trunk)),
      value_head_(model_.policy().config().hidden_size, options,
                  value_trunk_ ? value_trunk_->leaves().Parameters()
                               : std::vector<tensor::NamedTensor>(),
                  group_.get()) {}

absl::StatusOr<StepResult> PolicyTrainer::Train(
    int64_t step, const std::vector<TrainingSample>& samples) {
  MPO_RETURN_IF_ERROR(Announce(
      {.kind = Work::Kind::kTrain, .step = step, .samples = &samples}));
  return Update(step, samples);
}

absl::StatusOr<StepResult> PolicyTrainer::Update(
    int64_t step, const std::vector<TrainingSample>& samples) {
  MPO_ASSIGN_OR_RETURN(
      StepResult result, CatchAll(absl::StrCat("train step ", step), [&] {
        PolicyUpdate update(options_, model_, optimiser_,
                            {value_head_, value_trunk_.get()}, rewards_, clock_,
                            on_phase_, parallel_);
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

uint64_t PolicyTrainer::CheckpointBytes() const {
  std::vector<tensor::NamedTensor> trained = model_.Trainable();
  for (auto& entry : value_head_.Weights()) trained.push_back(entry);
  if (value_trunk_) {
    for (auto& entry : value_trunk_->leaves().Parameters())
      trained.push_back(entry);
  }
  uint64_t bytes = 0;
  for (const auto& entry : trained) bytes += 3 * entry.tensor.nbytes();
  return bytes;
}

std::vector<tensor::NamedTensor> PolicyTrainer::State() const {
  std::vector<tensor::NamedTensor> state = optimiser_.State("policy.");
  for (auto& entry : value_head_.OptimiserState()) state.push_back(entry);
  AppendStatistics(state);
  return state;
}

std::vector<tensor::NamedTensor> PolicyTrainer::FreshState() const {
  std::vector<tensor::NamedTensor> state = optimiser_.FreshState("policy.");
  for (auto& entry : value_head_.FreshOptimiserState()) state.push_back(entry);
  AppendStatistics(state);
  for (tensor::NamedTensor& entry : state) entry.tensor = entry.tensor.clone();
  return state;
}

void PolicyTrainer::AppendStatistics(
    std::vector<tensor::NamedTensor>& state) const {
  for (auto& entry : value_head_.Weights()) {
    state.push_back({entry.name, entry.tensor.detach()});
  }
  state.push_back(
      {"nonfinite_in_row", torch::tensor(nonfinite_in_row_, torch::kLong)});
  if (options_.normalise_rewards) {
    state.push_back(
        {"reward_moments", torch::tensor({static_cast<double>(rewards_.count),
                                          rewards_.mean, rewards_.squares},
                                         torch::kDouble)});
  }
  if (options_.popart) {
    const rl::PopArt& p = value_head_.popart();
    state.push_back({"popart", torch::tensor({static_cast<double>(p.updates),
                                              p.mean, p.square},
                                             torch::kDouble)});
  }
}

absl::Status PolicyTrainer::Save(const std::filesystem::path& directory) const {
  MPO_RETURN_IF_ERROR(Announce({.kind = Work::Kind::kSave}));
  MPO_ASSIGN_OR_RETURN(const auto state,
                       CatchAll("save trainer", [&] { return State(); }));
  MPO_RETURN_IF_ERROR(model_.Save(directory));
  if (value_trunk_) {
    MPO_RETURN_IF_ERROR(model::WriteSafetensors(
        directory / kValueFile, value_trunk_->leaves().StateDict()));
  }
  return model::WriteSafetensors(directory / "trainer.safetensors", state);
}

absl::Status PolicyTrainer::Share(
    const std::vector<tensor::NamedTensor>& state) {
  return CatchAll("share trainer", [&] {
    parallel_.Broadcast(model_.Weights());
    if (value_trunk_) parallel_.Broadcast(value_trunk_->leaves().StateDict());
    parallel_.Broadcast(state);
    Refresh();
  });
}

void PolicyTrainer::Refresh() {
  model_.Refresh();
  if (value_trunk_) value_trunk_->Refresh();
}

absl::Status PolicyTrainer::Load(const std::filesystem::path& directory) {
  MPO_RETURN_IF_ERROR(model_.Load(directory));
  const std::filesystem::path path = directory / "trainer.safetensors";
  MPO_ASSIGN_OR_RETURN(auto state, ReadSafetensors(path));
  if (value_trunk_) {
    const std::filesystem::path values = directory / kValueFile;
    MPO_ASSIGN_OR_RETURN(const auto trunk, ReadSafetensors(values));
    MPO_RETURN_IF_ERROR(
        CopyByName(trunk, value_trunk_->leaves().StateDict(), values.string()));
    MPO_RETURN_IF_ERROR(CatchAll("cast the weights", [&] { Refresh(); }));
  }
  if (group_ != nullptr) {
    // In the order and with the types of all ranks.
    std::vector<tensor::NamedTensor> ordered = FreshState();
    MPO_RETURN_IF_ERROR(CopyByName(state, ordered, path.string()));
    state = std::move(ordered);
    MPO_RETURN_IF_ERROR(Announce({.kind = Work::Kind::kLoad}));
    MPO_RETURN_IF_ERROR(Share(state));
  }
  return Restore(state, path.string());
}

absl::Status PolicyTrainer::Restore(
    const std::vector<tensor::NamedTensor>& state, const std::string& source) {
  MPO_RETURN_IF_ERROR(optimiser_.Restore(state, "policy.", source));
  MPO_RETURN_IF_ERROR(value_head_.RestoreOptimiser(state, source));
  MPO_RETURN_IF_ERROR(LoadStatistics(state, source));
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
        absl::StrCat(source, ": tensor 'nonfinite_in_row' is missing"));
  }
  return CopyByName(head, value_head_.Weights(), source);
}

absl::Status PolicyTrainer::Follow(const Work& work) {
  if (group_ == nullptr || group_->rank() == 0) {
    return absl::InvalidArgumentError("rank 0 follows nobody");
  }
  switch (work.kind) {
    case Work::Kind::kTrain:
      return Update(work.step, *work.samples).status();
    case Work::Kind::kSave:
      return CatchAll("save trainer", [&] { State(); });
    case Work::Kind::kLoad:
      break;
  }
  const std::vector<tensor::NamedTensor> state = FreshState();
  MPO_RETURN_IF_ERROR(Share(state));
  return Restore(state, "rank 0's checkpoint");
}

absl::Status PolicyTrainer::LoadStatistics(
    const std::vector<tensor::NamedTensor>& state, const std::string& source) {
  const auto three =
      [&](const std::string& name) -> absl::StatusOr<at::Tensor> {
    for (const tensor::NamedTensor& entry : state) {
      if (entry.name != name) continue;
      if (entry.tensor.numel() == 3) return entry.tensor.to(at::kDouble);
      return absl::InvalidArgumentError(
          absl::StrCat(source, ": tensor '", name, "': expected 3 numbers"));
    }
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": tensor '", name, "' is missing"));
  };
  const auto count = [](const at::Tensor& x) {
    return static_cast<int64_t>(x[0].item<double>());
  };
  if (options_.normalise_rewards) {
    MPO_ASSIGN_OR_RETURN(const at::Tensor x, three("reward_moments"));
    rewards_ = {count(x), x[1].item<double>(), x[2].item<double>()};
  }
  if (options_.popart) {
    MPO_ASSIGN_OR_RETURN(const at::Tensor x, three("popart"));
    value_head_.set_popart(
        {count(x), x[1].item<double>(), x[2].item<double>()});
  }
  return absl::OkStatus();
}

}  // namespace mpo::policy_learner
