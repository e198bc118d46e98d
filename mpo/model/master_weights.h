// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "mpo/model/language_model.h"

namespace mpo::model {

// The weights of full-weight training: float32 leaves that an optimiser
// updates, and what the passes run on, which is the leaves themselves or, in
// half precision, casts of them. Gradients pass the casts and add up in float32
// (mixed precision with master weights, Micikevicius et al. 2018, section 3.1;
// bfloat16 needs no loss scaling). Not thread-safe.
class MasterWeights {
 public:
  // Leaves with the values of `source` on options.device; passes run in
  // options.dtype. RESOURCE_EXHAUSTED when memory is short.
  static absl::StatusOr<std::unique_ptr<MasterWeights>> Create(
      const LanguageModel& source, const LoadOptions& options);

  // The leaves; update them in place through Parameters() under no_grad, then
  // call Refresh.
  const LanguageModel& leaves() const { return *leaves_; }
  // What the passes run on; the reference stays valid.
  const LanguageModel& compute() const { return *compute_; }

  // Casts anew. LibTorch's exceptions pass through.
  void Refresh();

 private:
  MasterWeights() = default;
  std::shared_ptr<LanguageModel> leaves_;
  std::shared_ptr<LanguageModel> compute_;  // leaves_ itself in float32.
  at::ScalarType dtype_ = at::kFloat;
};

}  // namespace mpo::model
