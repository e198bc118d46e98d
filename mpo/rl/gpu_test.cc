// SPDX-License-Identifier: Apache-2.0
// Needs a CUDA device and a build with MPO_WITH_CUDA; skips without.
#include <torch/torch.h>

#include <catch2/catch.hpp>

#include "mpo/rl/selective_logprob.h"

namespace mpo::rl {
namespace {

struct Found {
  at::Tensor logprobs, entropy, hidden_grad, head_grad;
};

Found Run(const at::Device& device, at::ScalarType dtype, bool train_head) {
  torch::manual_seed(3);
  const auto place = [&](const at::Tensor& x) {
    return x.to(device, dtype).detach();
  };
  const at::Tensor hidden = place(torch::randn({70, 32})).requires_grad_(true);
  const at::Tensor head =
      place(torch::randn({1000, 32})).requires_grad_(train_head);
  const TokenStatistics s = SelectiveLogprob(
      hidden, head, torch::randint(1000, {70}).to(device),
      (torch::rand({70}) + 0.5).to(device), {.logits_bytes = 30 * 1000 * 4});
  (s.logprobs.to(at::kFloat) * torch::linspace(-1, 1, 70).to(device))
      .sum()
      .backward();
  const auto back = [](const at::Tensor& x) {
    return x.defined() ? x.detach().to(at::kCPU, at::kFloat) : x;
  };
  return {back(s.logprobs), back(s.entropy), back(hidden.grad()),
          back(head.grad())};
}

}  // namespace

TEST_CASE("SelectiveLogprob on a GPU equals that on the CPU", "[rl][gpu]") {
  if (!at::hasCUDA()) {
    WARN("skipped: no CUDA device");
    return;
  }
  const bool train_head = GENERATE(false, true);
  const bool half = GENERATE(false, true);
  const double tolerance = half ? 0.1 : 1e-3;
  const Found cpu = Run(at::kCPU, at::kFloat, train_head);
  const Found gpu =
      Run(at::kCUDA, half ? at::kBFloat16 : at::kFloat, train_head);
  CHECK(at::allclose(cpu.logprobs, gpu.logprobs, tolerance, tolerance));
  CHECK(at::allclose(cpu.entropy, gpu.entropy, tolerance, tolerance));
  CHECK(at::allclose(cpu.hidden_grad, gpu.hidden_grad, tolerance, tolerance));
  if (train_head)
    CHECK(at::allclose(cpu.head_grad, gpu.head_grad, tolerance, tolerance));
}

}  // namespace mpo::rl
