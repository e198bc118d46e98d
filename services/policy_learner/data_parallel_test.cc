// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/data_parallel.h"

#include <torch/torch.h>

#include <catch2/catch.hpp>
#include <numeric>
#include <set>

#include "mpo/collective/group_checks.h"
#include "services/policy_learner/leaf_shard.h"
#include "services/policy_learner/toy_task.h"
#include "services/policy_learner/trainer_checks.h"

namespace mpo::policy_learner {
namespace {

using collective::OnEachRank;
using collective::TestGroup;

TrainingBatch ToyBatch() {
  const auto trainer = NewTrainer(ToyTask::Options());
  return MakeTrainingBatch(ToyTask::Sample(trainer->model(), 1, 1),
                           ToyTask::Options());
}

TEST_CASE("The ranks' rows are all rows, each once, in even shares",
          "[learner]") {
  const TrainingBatch batch = ToyBatch();
  const int ranks = GENERATE(2, 3, 5);
  TestGroup test(ranks, /*gloo=*/false);
  std::vector<int64_t> rows = batch.active;
  std::multiset<int64_t> seen;
  int64_t total = 0, largest = 0;
  for (int rank = 0; rank < ranks; ++rank) {
    const DataParallel parallel(test.groups[rank].get());
    CHECK(parallel.shared());
    const auto own = parallel.OwnRows(batch, rows);
    CHECK(std::is_sorted(own.begin(), own.end()));
    int64_t tokens = 0;
    for (int64_t row : own) {
      tokens += static_cast<int64_t>(batch.inputs[row].size());
      seen.insert(row);
    }
    total += tokens;
    largest = std::max(largest, tokens);
    // The same rows whatever their order.
    auto reversed = parallel.OwnRows(batch, {rows.rbegin(), rows.rend()});
    std::reverse(reversed.begin(), reversed.end());
    CHECK(reversed == own);
  }
  CHECK(seen == std::multiset<int64_t>(rows.begin(), rows.end()));
  // At most one row of 12 tokens beyond an even share.
  CHECK(largest <= total / ranks + 12);
}

TEST_CASE("One rank alone has all rows and changes nothing", "[learner]") {
  const DataParallel alone;
  CHECK(!alone.shared());
  CHECK(alone.OwnRows(ToyBatch(), {3, 1, 2}) == std::vector<int64_t>{3, 1, 2});
  const at::Tensor matrix = torch::ones({2, 2});
  double number = 3;
  alone.Complete({matrix}, "x");
  alone.Sum({&number}, "x");
  alone.SumGradients({{"a", matrix}}, {&number}, "x");
  alone.Broadcast({{"a", matrix}});
  alone.Progress();
  CHECK(number == 3);
  CHECK(at::equal(matrix, torch::ones({2, 2})));
}

TEST_CASE("Fewer rows than ranks leave ranks without one", "[learner]") {
  const TrainingBatch batch = ToyBatch();
  TestGroup test(3, /*gloo=*/false);
  size_t rows = 0;
  for (const auto& group : test.groups) {
    rows += DataParallel(group.get()).OwnRows(batch, {4}).size();
  }
  CHECK(rows == 1);
}

TEST_CASE("Gradients are summed, and those that no rank has stay undefined",
          "[learner]") {
  TestGroup test(2, /*gloo=*/false);
  std::vector<std::vector<tensor::NamedTensor>> leaves(2);
  std::vector<double> losses = {1, 2};
  for (int rank = 0; rank < 2; ++rank) {
    for (const char* name : {"both", "one", "none"}) {
      leaves[rank].push_back({name, torch::zeros({2, 3}).requires_grad_(true)});
    }
    leaves[rank][0].tensor.mutable_grad() = torch::full({2, 3}, rank + 1.0F);
  }
  leaves[1][1].tensor.mutable_grad() = torch::full({2, 3}, 5.0F);
  OnEachRank(2, [&](int rank) {
    DataParallel(test.groups[rank].get())
        .SumGradients(leaves[rank], {&losses[rank]}, "gradients");
  });
  for (int rank = 0; rank < 2; ++rank) {
    CHECK(losses[rank] == 3);
    CHECK(at::equal(leaves[rank][0].tensor.grad(), torch::full({2, 3}, 3.0F)));
    CHECK(at::equal(leaves[rank][1].tensor.grad(), torch::full({2, 3}, 5.0F)));
    CHECK(!leaves[rank][2].tensor.grad().defined());
  }
}

TEST_CASE("Shards cover the leaves and come together again", "[learner]") {
  // 5 ranks of 3 elements: the last has one, and leaves are cut.
  const int ranks = GENERATE(2, 3, 5);
  TestGroup test(ranks, /*gloo=*/false);
  const auto whole = [](float from) {
    return std::vector<at::Tensor>{
        torch::arange(from, from + 6).to(at::kFloat).view({2, 3}),
        torch::arange(from + 6, from + 7).to(at::kFloat),
        torch::arange(from + 7, from + 13).to(at::kFloat).view({3, 2})};
  };
  std::vector<std::vector<at::Tensor>> gathered(ranks);
  std::vector<std::vector<tensor::NamedTensor>> leaves(ranks);
  OnEachRank(ranks, [&](int rank) {
    for (const at::Tensor& tensor : whole(0)) {
      leaves[rank].push_back({"leaf", tensor});
    }
    const LeafShard shard(leaves[rank], *test.groups[rank]);
    std::vector<at::Tensor> parts;
    const auto others = whole(100);
    for (size_t i = 0; i < shard.own().size(); ++i) {
      parts.push_back(shard.PartOf(i, others[shard.LeafOf(i)]));
      at::Tensor(shard.own()[i].tensor).mul_(2);
    }
    gathered[rank] = shard.Gather(parts, "state");
    shard.GatherLeaves();
  });
  REQUIRE(gathered[0].size() == 3);
  for (size_t leaf = 0; leaf < 3; ++leaf) {
    CHECK(at::equal(gathered[0][leaf], whole(100)[leaf]));
    for (int rank = 0; rank < ranks; ++rank) {
      CHECK(at::equal(leaves[rank][leaf].tensor, whole(0)[leaf] * 2));
    }
  }
  CHECK(gathered[1].empty());
}

TEST_CASE("A failed operation is thrown with its status", "[learner]") {
  TestGroup test(2, /*gloo=*/false);
  test.rendezvous().End(absl::UnavailableError("rank 1 is gone"));
  const DataParallel parallel(test.groups[0].get());
  double number = 0;
  try {
    parallel.Sum({&number}, "figures");
    FAIL("nothing was thrown");
  } catch (const GroupFailure& failure) {
    CHECK(absl::IsUnavailable(failure.status()));
    CHECK_THAT(failure.what(), Catch::Contains("rank 1 is gone"));
  }
}

}  // namespace
}  // namespace mpo::policy_learner
