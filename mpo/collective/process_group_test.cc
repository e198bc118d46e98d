// SPDX-License-Identifier: Apache-2.0
#include "mpo/collective/process_group.h"

#include <torch/torch.h>

#include <catch2/catch.hpp>

#include "mpo/collective/group_checks.h"

namespace mpo::collective {
namespace {

using Catch::Contains;

// Runs `call` on each rank; all must succeed.
void Each(TestGroup& test, int ranks,
          const std::function<absl::Status(int, ProcessGroup&)>& call) {
  for (const absl::Status& status : test.statuses) {
    INFO(status);
    REQUIRE(status.ok());
  }
  std::vector<absl::Status> statuses(ranks);
  OnEachRank(ranks, [&](int rank) {
    statuses[rank] = call(rank, *test.groups[rank]);
  });
  for (const absl::Status& status : statuses) {
    INFO(status);
    CHECK(status.ok());
  }
}

TEST_CASE("A sum is that of all ranks, the same bits on each", "[collective]") {
  const int ranks = GENERATE(2, 3);
  TestGroup test(ranks, GENERATE(false, true));
  for (const auto type : {at::kFloat, at::kDouble, at::kLong}) {
    std::vector<at::Tensor> tensors;
    at::Tensor expected = at::zeros({3, 1001}, type);
    for (int rank = 0; rank < ranks; ++rank) {
      tensors.push_back(
          (at::arange(3003).view({3, 1001}) % 17 + rank).to(type) /
          (type == at::kLong ? 1 : 3));
      tensors.back() = tensors.back().to(type).contiguous();
      expected = expected + tensors.back();
    }
    Each(test, ranks, [&](int rank, ProcessGroup& group) {
      return group.AllReduceSum(tensors[rank], "x");
    });
    CHECK(at::allclose(tensors[0], expected));
    for (const at::Tensor& tensor : tensors) {
      CHECK(at::equal(tensor, tensors[0]));
    }
  }
}

TEST_CASE("A broadcast is the root's tensor", "[collective]") {
  const int ranks = 3;
  TestGroup test(ranks, GENERATE(false, true));
  std::vector<at::Tensor> tensors;
  for (int rank = 0; rank < ranks; ++rank) {
    tensors.push_back(at::full({5}, rank, at::kFloat));
  }
  Each(test, ranks, [&](int rank, ProcessGroup& group) {
    return group.Broadcast(tensors[rank], 1, "x");
  });
  for (const at::Tensor& tensor : tensors) {
    CHECK(at::equal(tensor, at::full({5}, 1, at::kFloat)));
  }
}

TEST_CASE("Parts are gathered in the order of the ranks", "[collective]") {
  const int ranks = 3;
  TestGroup test(ranks, GENERATE(false, true));
  std::vector<at::Tensor> all;
  for (int rank = 0; rank < ranks; ++rank) {
    all.push_back(at::zeros({ranks * 2}));
  }
  Each(test, ranks, [&](int rank, ProcessGroup& group) {
    const absl::Status status =
        group.AllGather(at::full({2}, rank, at::kFloat), all[rank], "x");
    return status.ok() ? group.Barrier("the end") : status;
  });
  for (const at::Tensor& tensor : all) {
    CHECK(at::equal(tensor,
                    torch::tensor({0., 0., 1., 1., 2., 2.}).to(at::kFloat)));
  }
}

TEST_CASE("Nothing is sent of an empty tensor", "[collective]") {
  TestGroup test(2, GENERATE(false, true));
  Each(test, 2, [&](int, ProcessGroup& group) {
    return group.AllReduceSum(at::zeros({0}), "x");
  });
}

TEST_CASE("A tensor that cannot be sent is refused before anything is",
          "[collective]") {
  FakeClock clock;
  Rendezvous rendezvous({.ranks = 2, .config_sha256 = "c"}, clock);
  const auto groups = MakeThreadGroups(rendezvous);
  ProcessGroup& group = *groups[0];
  const auto refused = [&](const absl::Status& status, const char* part) {
    CHECK(absl::IsInvalidArgument(status));
    CHECK_THAT(std::string(status.message()), Contains(part));
  };
  refused(group.AllReduceSum(at::zeros({2, 2}).t(), "weights"),
          "weights: expected a contiguous tensor");
  refused(group.AllReduceSum(at::zeros({2}, at::kHalf), "x"), "Half [2]");
  refused(group.AllReduceSum(at::Tensor(), "x"), "got none");
  refused(group.Broadcast(at::zeros({2}), 2, "x"),
          "expected a root in [0, 2), got 2");
  refused(group.AllGather(at::zeros({2}), at::zeros({3}), "x"),
          "expected room for 2 parts of 2 elements, got 3");
}

TEST_CASE("An operation that a rank misses ends with its name",
          "[collective]") {
  FakeClock clock;
  Rendezvous rendezvous({.ranks = 2, .config_sha256 = "c"}, clock);
  const auto groups = MakeThreadGroups(rendezvous);
  absl::Status status;
  std::jthread waiting(
      [&] { status = groups[0]->AllReduceSum(at::zeros({2}), "gradients"); });
  // However late the thread begins to wait: time goes on until it is done.
  while (rendezvous.ended().ok()) {
    clock.Advance(absl::Seconds(21));
    rendezvous.Check();
    std::this_thread::yield();
  }
  waiting.join();
  CHECK(absl::IsDeadlineExceeded(status));
  CHECK_THAT(std::string(status.message()),
             Contains("all_reduce of gradients on rank 0: rank 1"));
  CHECK(groups[1]->Barrier("later").message() ==
        "barrier of later on rank 1: " +
            std::string(rendezvous.ended().message()));
}

TEST_CASE("Ranks that call different operations are told", "[collective]") {
  TestGroup test(2, GENERATE(false, true));
  std::vector<absl::Status> statuses(2);
  OnEachRank(2, [&](int rank) {
    statuses[rank] = rank == 0
                         ? test.groups[0]->AllReduceSum(at::zeros({2}), "x")
                         : test.groups[1]->Broadcast(at::zeros({2}), 0, "x");
  });
  for (const absl::Status& status : statuses) {
    CHECK(absl::IsInternal(status));
    CHECK_THAT(std::string(status.message()),
               Contains("all_reduce of x") && Contains("broadcast of x"));
  }
}

TEST_CASE("The address towards loopback is loopback's", "[collective]") {
  CHECK(*LocalAddressTowards("127.0.0.1:7") == "127.0.0.1");
  CHECK(absl::IsUnavailable(
      LocalAddressTowards("no-such-host.invalid:7").status()));
}

}  // namespace
}  // namespace mpo::collective
