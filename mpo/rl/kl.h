// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace mpo::rl {

// Single-sample estimators of KL(policy || reference), Schulman 2020,
// "Approximating KL divergence". With d = ln reference - ln policy of a token
// drawn from the policy:
//   k1 = -d             unbiased, high variance, may be negative
//   k2 = d^2 / 2        biased, low variance
//   k3 = exp(d) - 1 - d unbiased, low variance, never negative
enum class KlEstimator { kK1, kK2, kK3 };

// One estimate a token, in nats, same shape as the inputs; differentiable.
// `max_ratio` > 0 bounds exp(d) in k3, whose gradient is otherwise without
// bound on a token that the reference likes and the policy does not.
at::Tensor EstimateKl(const at::Tensor& logprobs,
                      const at::Tensor& reference_logprobs,
                      KlEstimator estimator, double max_ratio = 0);

// `kl` times exp(log_ratio), log_ratio = LogRatio(pi, pi_old): an estimate
// under the policy that is trained in place of the one that drew the token. As
// the ratio is differentiable, k3's gradient becomes that of the divergence
// even where the ratio is 1 (DeepSeek-V3.2, 2025; TRL's
// use_bias_correction_kl).
at::Tensor RatioWeightedKl(const at::Tensor& kl, const at::Tensor& log_ratio);

}  // namespace mpo::rl
