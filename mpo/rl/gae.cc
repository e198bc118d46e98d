// SPDX-License-Identifier: Apache-2.0
#include "mpo/rl/gae.h"

#include <torch/torch.h>

namespace mpo::rl {

at::Tensor ValueMask(const at::Tensor& mask, ScorePlacement placement) {
  at::NoGradGuard no_grad;
  if (placement == ScorePlacement::kLastToken) return mask;
  const at::Tensor lengths = mask.sum(1);
  // Rows that are not trained on must not decide whether there is room.
  const at::Tensor longest = lengths.max();
  const at::Tensor last = at::where(lengths > 0, lengths, -1);
  const at::Tensor column = at::arange(mask.size(1), lengths.options());
  return column.unsqueeze(0)
      .le(last.unsqueeze(1))
      .logical_and(column.unsqueeze(0) < longest);
}

at::Tensor TokenRewards(const at::Tensor& scores, const at::Tensor& kl,
                        double kl_coef, const at::Tensor& mask,
                        ScorePlacement placement) {
  at::NoGradGuard no_grad;
  const at::Tensor lengths = mask.sum(1);
  at::Tensor rewards = at::zeros(mask.sizes(), scores.options());
  if (kl_coef != 0) rewards -= at::where(mask, kl, 0.0) * kl_coef;
  const at::Tensor last =
      (ValueMask(mask, placement).sum(1) - 1).clamp_min(0).unsqueeze(1);
  const at::Tensor score = at::where(lengths > 0, scores, 0.0).unsqueeze(1);
  return rewards.scatter_add(1, last, score);
}

Advantages GeneralisedAdvantages(const at::Tensor& rewards,
                                 const at::Tensor& values,
                                 const at::Tensor& mask, double gamma,
                                 double lambda) {
  at::NoGradGuard no_grad;
  const at::Tensor v = at::where(mask, values, 0.0);
  const at::Tensor r = at::where(mask, rewards, 0.0);
  const int64_t length = mask.size(1);
  at::Tensor next_value = at::zeros({mask.size(0)}, v.options());
  at::Tensor running = at::zeros_like(next_value);
  at::Tensor advantages = at::zeros_like(v);
  for (int64_t t = length - 1; t >= 0; --t) {
    const at::Tensor delta =
        r.select(1, t) + gamma * next_value - v.select(1, t);
    running =
        at::where(mask.select(1, t), delta + gamma * lambda * running, 0.0);
    advantages.select(1, t).copy_(running);
    next_value = v.select(1, t);
  }
  return {advantages, advantages + v};
}

}  // namespace mpo::rl
