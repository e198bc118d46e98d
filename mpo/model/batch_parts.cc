// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/batch_parts.h"

#include <torch/torch.h>

#include "mpo/tensor/parallel.h"

namespace mpo::model {
namespace {

// Tokens of a part that are worth packing the weights once more.
constexpr int64_t kLeastTokens = 256;

}  // namespace

std::vector<int64_t> ThreadParts(const at::Tensor& hidden,
                                 const at::Tensor& wanted) {
  const int64_t rows = hidden.size(0);
  const int64_t parts = at::get_num_threads();
  const int64_t most = (rows + parts - 1) / parts;
  if (!tensor::HasOpenMp() || parts == 1 || rows < parts ||
      !hidden.device().is_cpu() || at::in_parallel_region() ||
      rows / parts * hidden.size(1) < kLeastTokens ||
      10 * most * parts > 11 * rows ||
      (wanted.defined() && !wanted.diff().gt(0).all().item<bool>())) {
    return {};
  }
  std::vector<int64_t> begins;
  for (int64_t i = 0; i <= parts; ++i) begins.push_back(rows * i / parts);
  return begins;
}

BatchPart TakePart(const SequenceBatch& batch, const at::Tensor& wanted,
                   int64_t begin, int64_t end) {
  const auto rows = [&](const at::Tensor& x) {
    return x.defined() ? x.narrow(0, begin, end - begin) : x;
  };
  BatchPart part{{.tokens = rows(batch.tokens),
                  .valid = rows(batch.valid),
                  .positions = rows(batch.positions),
                  .bias = rows(batch.bias)},
                 {}};
  if (!wanted.defined()) return part;
  const int64_t length = batch.positions.size(1);
  const at::Tensor mine =
      wanted.ge(begin * length).logical_and(wanted.lt(end * length));
  part.wanted = wanted.masked_select(mine).sub(begin * length);
  return part;
}

}  // namespace mpo::model
