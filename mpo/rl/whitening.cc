// SPDX-License-Identifier: Apache-2.0
#include "mpo/rl/whitening.h"

#include <torch/torch.h>

namespace mpo::rl {

at::Tensor Whiten(const at::Tensor& x, const at::Tensor& mask, double epsilon,
                  EpsilonIn in) {
  return WhitenGroups(x, mask,
                      at::zeros({x.size(0)}, x.options().dtype(at::kLong)),
                      epsilon, in);
}

at::Tensor WhitenGroups(const at::Tensor& x, const at::Tensor& mask,
                        const at::Tensor& groups, double epsilon,
                        EpsilonIn in) {
  at::NoGradGuard no_grad;
  const int64_t rows = x.size(0);
  const at::Tensor flat = at::where(mask, x, 0.0).reshape({rows, -1});
  const at::Tensor inside = mask.reshape({rows, -1});
  const auto spread = [&](const at::Tensor& per_row) {
    return at::zeros_like(per_row)
        .index_add(0, groups, per_row)
        .index_select(0, groups)
        .unsqueeze(1);
  };
  const at::Tensor count = spread(inside.sum(1).to(flat.scalar_type()));
  const at::Tensor mean = spread(flat.sum(1)) / count.clamp_min(1);
  const at::Tensor deviation = at::where(inside, flat - mean, 0.0);
  const at::Tensor variance =
      spread(deviation.square().sum(1)) / (count - 1).clamp_min(1);
  // A lone entry has deviation 0; epsilon may be 0, and 0 / 0 must not be.
  const at::Tensor divisor = in == EpsilonIn::kVariance
                                 ? (variance + epsilon).sqrt()
                                 : variance.sqrt() + epsilon;
  return at::where(divisor > 0, deviation / divisor, 0.0).reshape(x.sizes());
}

}  // namespace mpo::rl
