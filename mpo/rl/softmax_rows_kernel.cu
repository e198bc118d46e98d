// SPDX-License-Identifier: Apache-2.0
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "mpo/rl/softmax_rows_kernel.h"
#include "mpo/rl/softmax_state.h"

namespace mpo::rl {
namespace {

constexpr int kThreads = 512;
constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xFFFFFFFFU;

__device__ SoftmaxState FromLane(const SoftmaxState& mine, int offset) {
  return {__shfl_xor_sync(kAllLanes, mine.top, offset),
          __shfl_xor_sync(kAllLanes, mine.sum, offset),
          __shfl_xor_sync(kAllLanes, mine.weighted, offset)};
}

// The state of all threads' parts, in every thread.
__device__ SoftmaxState MergeBlock(SoftmaxState state) {
  __shared__ SoftmaxState warps[kThreads / kWarp];
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    state = Merge(state, FromLane(state, offset));
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = state;
  __syncthreads();
  SoftmaxState all = warps[0];
  for (int i = 1; i < kThreads / kWarp; ++i) all = Merge(all, warps[i]);
  return all;
}

template <typename Logit>
__global__ void SoftmaxRowsKernel(Logit* logits, int64_t vocabulary,
                                  const int64_t* targets, float* logprobs,
                                  float* entropies, float* sums) {
  const int64_t row = blockIdx.x;
  Logit* const begin = logits + row * vocabulary;
  SoftmaxState part;
  for (int64_t i = threadIdx.x; i < vocabulary; i += kThreads)
    part = Add(part, static_cast<float>(begin[i]));
  const SoftmaxState all = MergeBlock(part);
  if (threadIdx.x == 0) {
    logprobs[row] = LogProb(all, static_cast<float>(begin[targets[row]]));
    entropies[row] = Entropy(all);
    if (sums != nullptr) sums[row] = all.sum;
  }
  if (sums == nullptr) return;
  // The target's logit has been read before it is written over.
  __syncthreads();
  for (int64_t i = threadIdx.x; i < vocabulary; i += kThreads)
    begin[i] = static_cast<Logit>(expf(static_cast<float>(begin[i]) - all.top));
}

}  // namespace

const char* LaunchSoftmaxRows(LogitType type, void* logits, int64_t rows,
                              int64_t vocabulary, const int64_t* targets,
                              float* logprobs, float* entropies, float* sums,
                              void* stream) {
  if (rows == 0) return nullptr;
  const auto launch = [&](auto* typed) -> const char* {
    SoftmaxRowsKernel<<<static_cast<unsigned>(rows), kThreads, 0,
                        static_cast<cudaStream_t>(stream)>>>(
        typed, vocabulary, targets, logprobs, entropies, sums);
    const cudaError_t error = cudaGetLastError();
    return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
  };
  switch (type) {
    case LogitType::kFloat32:
      return launch(static_cast<float*>(logits));
    case LogitType::kBfloat16:
      return launch(static_cast<__nv_bfloat16*>(logits));
    case LogitType::kFloat16:
      return launch(static_cast<__half*>(logits));
  }
  return "unknown type of logits";
}

}  // namespace mpo::rl
