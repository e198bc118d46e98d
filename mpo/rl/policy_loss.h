// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace mpo::rl {

struct PolicyLoss {
  at::Tensor loss;     // One value a token, differentiable in `logprobs`.
  at::Tensor clipped;  // bool: the bound decided, so no gradient flows.
};

// PPO's clipped surrogate (Schulman et al. 2017) with bounds that may differ
// (DAPO, Yu et al. 2025); with ratio = exp(logprobs - old_logprobs):
//   loss = max(-A ratio, -A clamp(ratio, 1 - clip_low, 1 + clip_high))
// `advantages` broadcast against the log-probs.
PolicyLoss ClippedPolicyLoss(const at::Tensor& logprobs,
                             const at::Tensor& old_logprobs,
                             const at::Tensor& advantages, double clip_low,
                             double clip_high);

// Weights that correct for tokens drawn from another policy than the one
// trained (stale weights, other numerics), cut at `cap` > 0 (Ionides 2008;
// Espeholt et al. 2018): min(exp(logprobs - behaviour_logprobs), cap).
// No gradient.
at::Tensor TruncatedImportance(const at::Tensor& logprobs,
                               const at::Tensor& behaviour_logprobs,
                               double cap);

}  // namespace mpo::rl
