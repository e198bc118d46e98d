// SPDX-License-Identifier: Apache-2.0
#include "mpo/rl/policy_loss.h"

#include <torch/torch.h>

namespace mpo::rl {

at::Tensor LogRatio(const at::Tensor& logprobs, const at::Tensor& old_logprobs,
                    const at::Tensor& sequences, RatioLevel level) {
  const at::Tensor d = logprobs - old_logprobs;
  if (level == RatioLevel::kToken) return d;
  at::Tensor sum = at::zeros_like(d).index_add(0, sequences, d);
  if (level == RatioLevel::kSequenceMean) {
    const at::Tensor count =
        at::zeros_like(sum).index_add(0, sequences, at::ones_like(d).detach());
    sum = sum / count.clamp_min(1);
  }
  return sum.index_select(0, sequences);
}

PolicyLoss ClippedPolicyLoss(const at::Tensor& log_ratio,
                             const at::Tensor& advantages,
                             const ClipBounds& bounds) {
  const at::Tensor ratio = log_ratio.exp();
  const at::Tensor plain = -advantages * ratio;
  const at::Tensor bounded =
      -advantages * ratio.clamp(1 - bounds.low, 1 + bounds.high);
  PolicyLoss result;
  result.loss = at::maximum(plain, bounded);
  result.clipped = (bounded > plain).detach();
  if (bounds.dual > 0) {
    const at::Tensor most = -advantages * bounds.dual;
    result.dual_clipped =
        (advantages < 0).logical_and(result.loss > most).detach();
    result.loss = at::where(result.dual_clipped, most, result.loss);
  }
  return result;
}

at::Tensor ImportanceWeights(const at::Tensor& log_ratio, double cap,
                             AboveCap above) {
  at::NoGradGuard no_grad;
  const at::Tensor weights = log_ratio.detach().exp();
  if (above == AboveCap::kTruncate) return weights.clamp_max(cap);
  return at::where(weights > cap, 0.0, weights);
}

}  // namespace mpo::rl
