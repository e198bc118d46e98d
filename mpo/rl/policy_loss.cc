// SPDX-License-Identifier: Apache-2.0
#include "mpo/rl/policy_loss.h"

#include <torch/torch.h>

namespace mpo::rl {

PolicyLoss ClippedPolicyLoss(const at::Tensor& logprobs,
                             const at::Tensor& old_logprobs,
                             const at::Tensor& advantages, double clip_low,
                             double clip_high) {
  const at::Tensor ratio = (logprobs - old_logprobs).exp();
  const at::Tensor plain = -advantages * ratio;
  const at::Tensor bounded =
      -advantages * ratio.clamp(1 - clip_low, 1 + clip_high);
  return {at::maximum(plain, bounded), (bounded > plain).detach()};
}

at::Tensor TruncatedImportance(const at::Tensor& logprobs,
                               const at::Tensor& behaviour_logprobs,
                               double cap) {
  at::NoGradGuard no_grad;
  return (logprobs - behaviour_logprobs).exp().clamp_max(cap);
}

}  // namespace mpo::rl
