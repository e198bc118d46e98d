// SPDX-License-Identifier: Apache-2.0
#include "mpo/generation/forward_pass.h"

#include <utility>

#include "mpo/generation/ragged_forward.h"
#include "mpo/generation/torch_forward.h"

namespace mpo::generation {

std::unique_ptr<ForwardPass> MakeForwardPass(
    std::shared_ptr<const model::LanguageModel> model, bool fused) {
  if (fused && model->dtype() == at::kFloat && model->device().is_cpu())
    return std::make_unique<RaggedForward>(std::move(model));
  return std::make_unique<TorchForward>(std::move(model));
}

}  // namespace mpo::generation
