// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/policy_model.h"

#include <torch/torch.h>

#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"
#include "mpo/model/safetensors.h"
#include "mpo/tensor/torch_errors.h"

namespace mpo::policy_learner {

using tensor::NamedTensor;

namespace {

// The model itself where it has that placement already.
absl::StatusOr<std::shared_ptr<const model::LanguageModel>> PlacedAs(
    std::shared_ptr<const model::LanguageModel> model,
    const model::LoadOptions& placement) {
  if (model->dtype() == placement.dtype &&
      model->device() == placement.device) {
    return model;
  }
  return model::LanguageModel::FromTensors(model->config(), model->StateDict(),
                                           placement);
}

// Weights of a model whose layers are packed.
constexpr int64_t kMostPacked = int64_t{1} << 28;

}  // namespace

absl::StatusOr<PolicyModel> PolicyModel::Create(
    std::shared_ptr<const model::LanguageModel> base,
    const std::optional<model::LoraConfig>& lora, uint64_t seed,
    std::shared_ptr<const model::LanguageModel> reference,
    const model::LoadOptions& placement, bool packed) {
  PolicyModel policy;
  if (reference != nullptr) {
    const model::ModelConfig &own = base->config(),
                             &other = reference->config();
    if (own.vocab_size != other.vocab_size || other.context < own.context) {
      return absl::InvalidArgumentError(
          absl::StrCat("policy.reference: expected a vocabulary of ",
                       own.vocab_size, " and a context of at least ",
                       own.context, " tokens as in policy.model, found ",
                       other.vocab_size, " and ", other.context));
    }
    MPO_ASSIGN_OR_RETURN(policy.reference_,
                         PlacedAs(std::move(reference), placement));
  }
  if (lora.has_value()) {
    MPO_ASSIGN_OR_RETURN(const auto fresh, model::LoraAdapter::Create(
                                               *lora, base->config(), seed));
    MPO_ASSIGN_OR_RETURN(policy.adapter_, fresh->Clone(placement.device));
  } else {
    MPO_ASSIGN_OR_RETURN(policy.full_,
                         model::MasterWeights::Create(*base, placement));
  }
  MPO_ASSIGN_OR_RETURN(policy.base_, PlacedAs(std::move(base), placement));
  if (packed && policy.adapter_ &&
      policy.base_->config().parameters() <= kMostPacked) {
    MPO_RETURN_IF_ERROR(tensor::CatchTorch("pack the weights", [&] {
      policy.base_ = std::make_shared<const model::LanguageModel>(
          policy.base_->WithPacked(policy.adapter_->first_layer()));
    }));
  }
  return policy;
}

std::vector<NamedTensor> PolicyModel::Trainable() const {
  return adapter_ ? adapter_->Parameters() : full_->leaves().Parameters();
}

std::vector<NamedTensor> PolicyModel::Weights() const {
  return adapter_ ? adapter_->Parameters() : full_->leaves().StateDict();
}

std::string PolicyModel::adapter_config() const {
  if (!adapter_) return "";
  return model::ToPeftJson(adapter_->config(), base_->config());
}

absl::Status PolicyModel::Save(const std::filesystem::path& directory) const {
  if (adapter_) return adapter_->Save(directory);
  return model::WriteSafetensors(directory / "model.safetensors", Weights());
}

absl::Status PolicyModel::Load(const std::filesystem::path& directory) {
  if (adapter_) {
    MPO_ASSIGN_OR_RETURN(auto loaded,
                         model::LoraAdapter::Load(directory, base_->config()));
    return CopyByName(loaded->Parameters(), Weights(), directory.string());
  }
  const std::filesystem::path path = directory / "model.safetensors";
  MPO_ASSIGN_OR_RETURN(std::vector<NamedTensor> values, ReadSafetensors(path));
  MPO_RETURN_IF_ERROR(CopyByName(values, Weights(), path.string()));
  return tensor::CatchTorch("cast the weights", [&] { Refresh(); });
}

absl::Status CopyByName(const std::vector<NamedTensor>& values,
                        const std::vector<NamedTensor>& targets,
                        const std::string& source) {
  std::map<std::string, at::Tensor> by_name;
  for (const NamedTensor& value : values) by_name[value.name] = value.tensor;
  for (const NamedTensor& target : targets) {
    const auto it = by_name.find(target.name);
    if (it == by_name.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat(source, ": tensor '", target.name, "' is missing"));
    }
    if (it->second.sizes() != target.tensor.sizes()) {
      return absl::InvalidArgumentError(
          absl::StrCat(source, ": tensor '", target.name, "': expected shape ",
                       tensor::ShapeString(target.tensor.sizes()), ", found ",
                       tensor::ShapeString(it->second.sizes())));
    }
    MPO_RETURN_IF_ERROR(tensor::CatchTorch("copy weights", [&] {
      at::NoGradGuard no_grad;
      at::Tensor(target.tensor).copy_(it->second);
    }));
    by_name.erase(it);
  }
  if (!by_name.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        source, ": tensor '", by_name.begin()->first, "' is not expected"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<NamedTensor>> ReadSafetensors(
    const std::filesystem::path& path) {
  MPO_ASSIGN_OR_RETURN(auto file, model::SafetensorsFile::Open(path));
  std::vector<NamedTensor> tensors;
  for (const auto& [name, entry] : file->header().entries) {
    MPO_ASSIGN_OR_RETURN(at::Tensor value, file->Read(name));
    tensors.push_back({name, std::move(value)});
  }
  return tensors;
}

}  // namespace mpo::policy_learner
