// SPDX-License-Identifier: Apache-2.0
#include "mpo/rl/reinforce_pp.h"

#include <torch/torch.h>

#include "mpo/rl/gae.h"
#include "mpo/rl/grpo.h"

namespace mpo::rl {

at::Tensor ReinforcePlusPlusAdvantages(const at::Tensor& rewards,
                                       const at::Tensor& mask, double gamma) {
  // The sum to come is the generalised advantage of a value that is 0.
  return GeneralisedAdvantages(rewards, at::zeros_like(rewards), mask, gamma,
                               /*lambda=*/1)
      .advantages;
}

at::Tensor ReinforcePlusPlusScores(const at::Tensor& rewards,
                                   const at::Tensor& scored,
                                   const at::Tensor& groups) {
  return DrGrpoAdvantages(rewards, scored, groups);
}

}  // namespace mpo::rl
