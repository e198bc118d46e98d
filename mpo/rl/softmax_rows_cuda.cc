// SPDX-License-Identifier: Apache-2.0
#include "mpo/rl/softmax_rows_cuda.h"

#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/torch.h>

#include "mpo/rl/softmax_rows_kernel.h"

namespace mpo::rl {
namespace {

LogitType TypeOf(const at::Tensor& logits) {
  switch (logits.scalar_type()) {
    case at::kFloat:
      return LogitType::kFloat32;
    case at::kBFloat16:
      return LogitType::kBfloat16;
    case at::kHalf:
      return LogitType::kFloat16;
    default:
      TORCH_CHECK(false,
                  "softmax of rows: expected float32, bfloat16 or "
                  "float16 logits, found ",
                  logits.scalar_type());
  }
}

}  // namespace

void SoftmaxRowsCuda(const at::Tensor& logits, const at::Tensor& targets,
                     const at::Tensor& logprobs, const at::Tensor& entropies,
                     const at::Tensor& sums) {
  TORCH_CHECK(logits.is_contiguous() && targets.is_contiguous(),
              "softmax of rows: expected contiguous logits and targets");
  const c10::DeviceGuard guard(logits.device());
  const c10::Stream stream =
      c10::impl::VirtualGuardImpl(at::kCUDA).getStream(logits.device());
  const char* const error = LaunchSoftmaxRows(
      TypeOf(logits), logits.mutable_data_ptr(), logits.size(0), logits.size(1),
      targets.const_data_ptr<int64_t>(), logprobs.mutable_data_ptr<float>(),
      entropies.mutable_data_ptr<float>(),
      sums.defined() ? sums.mutable_data_ptr<float>() : nullptr,
      stream.native_handle());
  TORCH_CHECK(error == nullptr, "softmax of rows: ", error);
}

}  // namespace mpo::rl
