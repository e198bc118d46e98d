// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace mpo::rl {

// Where the score of a response of L tokens is paid.
enum class ScorePlacement {
  kLastToken,  // At token L - 1.
  // At position L, one behind the response, which has a value of its own (of
  // the state after the last token); at L - 1 where the response is as long as
  // the longest and there is no such position. TRL 0.17's PPO and with it the
  // paper's reference implementation.
  kAfterEnd,
};

// The positions [B, T] that have a value and a reward: `mask`, with kAfterEnd
// one more in rows shorter than the longest of `mask`.
at::Tensor ValueMask(const at::Tensor& mask, ScorePlacement placement);

// Per-token rewards [B, T]: -kl_coef * kl at every token of `mask`, plus
// `scores` [B] at the last one (Stiennon et al. 2020; Ouyang et al. 2022), or
// where `placement` says. Rows without tokens stay 0. `kl` may be undefined
// when kl_coef is 0.
at::Tensor TokenRewards(const at::Tensor& scores, const at::Tensor& kl,
                        double kl_coef, const at::Tensor& mask,
                        ScorePlacement placement = ScorePlacement::kLastToken);

struct Advantages {
  at::Tensor advantages;  // [B, T], 0 outside the mask.
  at::Tensor returns;     // [B, T] advantages + values, 0 outside the mask.
};

// Generalised advantage estimation (Schulman et al. 2016):
//   delta_t = r_t + gamma V_{t+1} - V_t,  A_t = delta_t + gamma lambda A_{t+1}
// V_t is the value of the state before token t; V is 0 after the last position
// of a row. `mask` [B, T] is true on the positions of each row, which come
// first: the tokens, or those of ValueMask. No gradient flows through the
// result.
Advantages GeneralisedAdvantages(const at::Tensor& rewards,
                                 const at::Tensor& values,
                                 const at::Tensor& mask, double gamma,
                                 double lambda);

}  // namespace mpo::rl
