// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/master_weights.h"

#include <torch/torch.h>

#include "mpo/base/status_macros.h"
#include "mpo/tensor/torch_errors.h"

namespace mpo::model {

absl::StatusOr<std::unique_ptr<MasterWeights>> MasterWeights::Create(
    const LanguageModel& source, const LoadOptions& options) {
  std::unique_ptr<MasterWeights> made(new MasterWeights());
  MPO_ASSIGN_OR_RETURN(made->leaves_, source.TrainableCopy(options.device));
  made->dtype_ = options.dtype;
  made->compute_ = made->leaves_;
  if (options.dtype == at::kFloat) return made;
  MPO_RETURN_IF_ERROR(tensor::CatchTorch("cast the weights", [&] {
    made->compute_ =
        std::make_shared<LanguageModel>(made->leaves_->Cast(options.dtype));
  }));
  return made;
}

void MasterWeights::Refresh() {
  if (compute_ != leaves_) *compute_ = leaves_->Cast(dtype_);
}

}  // namespace mpo::model
