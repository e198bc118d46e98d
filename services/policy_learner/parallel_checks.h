// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <catch2/catch.hpp>
#include <memory>
#include <vector>

#include "mpo/collective/group_checks.h"
#include "services/policy_learner/policy_trainer.h"
#include "services/policy_learner/toy_task.h"

namespace mpo::policy_learner {

// The ranks of one learner as threads, for tests.
struct ParallelTrainers {
  ParallelTrainers(const TrainerOptions& options, int ranks, bool gloo)
      : group(ranks, gloo), trainers(ranks) {
    All([&](int rank) -> absl::Status {
      auto made =
          PolicyTrainer::Create(ToyTask::Model(), options, Clock::Real(),
                                nullptr, group.groups[rank]);
      if (made.ok()) trainers[rank] = *std::move(made);
      return made.status();
    });
  }
  // Calls run(rank) on each rank at once; all must succeed.
  void All(const std::function<absl::Status(int)>& run) {
    for (const absl::Status& status : Try(run)) {
      INFO(status);
      REQUIRE(status.ok());
    }
  }
  std::vector<absl::Status> Try(const std::function<absl::Status(int)>& run) {
    std::vector<absl::Status> statuses(trainers.size());
    collective::OnEachRank(static_cast<int>(trainers.size()),
                           [&](int rank) { statuses[rank] = run(rank); });
    return statuses;
  }
  // One update on all ranks; what rank 0 says of it.
  StepResult Train(int64_t step, const std::vector<TrainingSample>& samples) {
    std::vector<StepResult> results(trainers.size());
    All([&](int rank) -> absl::Status {
      auto result = trainers[rank]->Train(step, samples);
      if (result.ok()) results[rank] = *result;
      return result.status();
    });
    for (const StepResult& result : results) {
      CHECK(result.metrics == results[0].metrics);
    }
    return results[0];
  }
  // Rank 0 saves and the others do their part.
  void Save(const std::filesystem::path& directory) {
    All([&](int rank) {
      return rank == 0 ? trainers[0]->Save(directory)
                       : trainers[rank]->Follow(
                             {.kind = PolicyTrainer::Work::Kind::kSave});
    });
  }
  void Load(const std::filesystem::path& directory) {
    All([&](int rank) {
      return rank == 0 ? trainers[0]->Load(directory)
                       : trainers[rank]->Follow(
                             {.kind = PolicyTrainer::Work::Kind::kLoad});
    });
  }

  collective::TestGroup group;
  std::vector<std::unique_ptr<PolicyTrainer>> trainers;
};

// Largest difference of two policies' weights.
inline double WeightDifference(const PolicyTrainer& a, const PolicyTrainer& b) {
  double largest = 0;
  const auto wa = a.model().Weights(), wb = b.model().Weights();
  for (size_t i = 0; i < wa.size(); ++i) {
    largest = std::max(
        largest, (wa[i].tensor - wb[i].tensor).abs().max().item<double>());
  }
  return largest;
}

}  // namespace mpo::policy_learner
