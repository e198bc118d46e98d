// SPDX-License-Identifier: Apache-2.0
// One rank over NCCL where there is one GPU, two where there are two.
#include <torch/torch.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <iostream>

#include "mpo/collective/group_checks.h"
#include "mpo/collective/nccl/nccl_group.h"

namespace mpo::collective {
namespace {

TEST_CASE("NCCL sums, broadcasts and gathers as threads do", "[gpu]") {
  if (!torch::cuda::is_available()) {
    std::cout << "skipped: no CUDA device\n";
    return;
  }
  const int ranks = std::min(2, static_cast<int>(torch::cuda::device_count()));
  FakeClock clock;
  Rendezvous rendezvous({.ranks = ranks, .config_sha256 = "c"}, clock);
  std::vector<at::Tensor> sums(ranks), alls(ranks), ones(ranks);
  std::vector<absl::Status> statuses(ranks);
  OnEachRank(ranks, [&](int rank) {
    statuses[rank] = [&]() -> absl::Status {
      auto group = NcclGroup::Connect(
          std::make_shared<LocalMembership>(rendezvous, rank),
          {.device = rank});
      if (!group.ok()) return group.status();
      const at::Device device(at::kCUDA, static_cast<char>(rank));
      const auto make = [&](at::IntArrayRef sizes, float value) {
        return at::full(sizes, value, at::TensorOptions(device));
      };
      sums[rank] = make({1000}, 1.0F + static_cast<float>(rank));
      alls[rank] = make({ranks * 3}, 0);
      ones[rank] = make({4}, static_cast<float>(rank));
      absl::Status status = (*group)->AllReduceSum(sums[rank], "x");
      if (status.ok()) {
        status = (*group)->AllGather(make({3}, static_cast<float>(rank)),
                                     alls[rank], "y");
      }
      if (status.ok()) status = (*group)->Broadcast(ones[rank], 0, "z");
      if (!absl::IsInvalidArgument(
              (*group)->AllReduceSum(at::zeros({1}), "on the CPU"))) {
        return absl::InternalError("a tensor of the CPU was taken");
      }
      return status;
    }();
  });
  for (int rank = 0; rank < ranks; ++rank) {
    INFO(statuses[rank]);
    REQUIRE(statuses[rank].ok());
    CHECK(sums[rank].cpu()[7].item<float>() == (ranks == 1 ? 1 : 3));
    CHECK(alls[rank].cpu()[ranks * 3 - 1].item<float>() == ranks - 1);
    CHECK(ones[rank].cpu()[0].item<float>() == 0);
  }
}

}  // namespace
}  // namespace mpo::collective
