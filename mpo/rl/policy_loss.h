// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace mpo::rl {

// What a probability ratio is taken over.
enum class RatioLevel {
  kToken,         // pi(token) / pi_old(token): PPO, GRPO.
  kSequence,      // Of the whole response: TRL's RLOO.
  kSequenceMean,  // Its geometric mean a token: GSPO (Zheng et al. 2025).
};

// ln(pi / pi_old) for each of N tokens; with d = logprobs - old_logprobs,
//   kToken         d_t
//   kSequence      sum of d over the tokens of the sequence
//   kSequenceMean  their mean
// the latter two the same for every token of a sequence, and differentiable
// through all of them. `sequences` [N] int64 says which token belongs to which
// sequence, any ids in [0, N); it is read by the latter two only, and all
// tokens of a sequence must be among the N.
at::Tensor LogRatio(const at::Tensor& logprobs, const at::Tensor& old_logprobs,
                    const at::Tensor& sequences, RatioLevel level);

struct ClipBounds {
  double low = 0.2;
  double high = 0.2;
  double dual = 0;  // Above 1, or 0 = off.
};

struct PolicyLoss {
  at::Tensor loss;     // One value a token, differentiable in the log-ratio.
  at::Tensor clipped;  // bool: a bound of the ratio decided: no gradient flows.
  at::Tensor dual_clipped;  // bool: the dual bound decided; undefined if off.
};

// PPO's clipped surrogate (Schulman et al. 2017) with bounds that may differ
// (DAPO, Yu et al. 2025); with ratio = exp(log_ratio):
//   loss = max(-A ratio, -A clamp(ratio, 1 - low, 1 + high))
// and, with the dual bound (Ye et al. 2020, "Mastering Complex Control in MOBA
// Games"), where A < 0:  loss = min(loss, -A dual).
// `advantages` broadcast against the log-ratio.
PolicyLoss ClippedPolicyLoss(const at::Tensor& log_ratio,
                             const at::Tensor& advantages,
                             const ClipBounds& bounds);

// What becomes of an importance weight above its bound.
enum class AboveCap {
  kTruncate,  // It is the bound.
  kDrop,      // It is 0: the token or sequence is left out of the loss.
};

// Weights that correct for tokens drawn from another policy than the one
// trained (stale weights, other numerics), bounded by `cap` > 0 (Ionides 2008;
// Espeholt et al. 2018): min(exp(log_ratio), cap), log_ratio =
// LogRatio(pi, pi_behaviour), by token or by sequence. Times the surrogate of
// ratio pi / pi_old, where pi_old is the policy just before the update, they
// make decoupled PPO (Hilton et al. 2022; AReaL, Fu et al. 2025). No gradient.
at::Tensor ImportanceWeights(const at::Tensor& log_ratio, double cap,
                             AboveCap above = AboveCap::kTruncate);

}  // namespace mpo::rl
