// SPDX-License-Identifier: Apache-2.0
// The precision, the place and the memory of an update.
#include <torch/torch.h>

#include <catch2/catch.hpp>

#include "services/policy_learner/load_trainer.h"
#include "services/policy_learner/parallel_checks.h"
#include "services/policy_learner/placement_checks.h"
#include "services/policy_learner/trainer_checks.h"
#include "tests/support/temporary_directory.h"

namespace mpo::policy_learner {
namespace {

TEST_CASE("An update in bfloat16 is nearly that in float32", "[learner]") {
  CheckNearlyEqual(KindOfWeights(), {.dtype = at::kBFloat16});
}

TEST_CASE("A learner in bfloat16 raises the reward", "[learner]") {
  TrainerOptions options = KindOfWeights();
  options.placement.dtype = at::kBFloat16;
  auto trainer = NewTrainer(options);
  double first = 0, last = 0;
  for (int64_t step = 1; step <= 30; ++step) {
    const auto result =
        trainer->Train(step, ToyTask::Sample(trainer->model(), step, 1));
    REQUIRE(result.ok());
    if (step == 1) first = result->metrics.at("reward");
    last = result->metrics.at("reward");
  }
  INFO(first << " -> " << last);
  CHECK(last > first + 0.2);
}

TEST_CASE("What is trained in bfloat16 is kept and resumed in float32",
          "[learner]") {
  TrainerOptions options = KindOfWeights();
  options.placement.dtype = at::kBFloat16;
  auto whole = NewTrainer(options);
  auto before = NewTrainer(options);
  const TemporaryDirectory dir;
  std::vector<std::vector<TrainingSample>> steps;
  for (int64_t step = 1; step <= 4; ++step) {
    steps.push_back(ToyTask::Sample(whole->model(), step, 1));
    REQUIRE(whole->Train(step, steps.back()).ok());
    if (step > 2) continue;
    REQUIRE(before->Train(step, steps.back()).ok());
  }
  REQUIRE(before->Save(dir.path).ok());
  auto after = NewTrainer(options);
  REQUIRE(after->Load(dir.path).ok());
  for (int64_t step = 3; step <= 4; ++step) {
    REQUIRE(after->Train(step, steps[step - 1]).ok());
  }
  CHECK(Digest(*after) == Digest(*whole));
  for (const auto& weight : after->model().Weights()) {
    CHECK(weight.tensor.scalar_type() == at::kFloat);
  }
}

TEST_CASE("Two ranks in bfloat16 hold the same weights", "[learner]") {
  TrainerOptions options = KindOfWeights();
  options.placement.dtype = at::kBFloat16;
  ParallelTrainers many(options, 2, /*gloo=*/false);
  for (int64_t step = 1; step <= 3; ++step) {
    many.Train(step, ToyTask::Sample(many.trainers[0]->model(), step, 1));
  }
  CHECK(Digest(*many.trainers[0]) == Digest(*many.trainers[1]));
}

TEST_CASE("Activations computed again change no bit of an update",
          "[learner]") {
  TrainerOptions options = KindOfWeights();
  // One micro-batch, whose first pass is kept, and several.
  options.micro_batch_tokens = GENERATE(4096, 64);
  auto kept = NewTrainer(options);
  options.activations = model::Activations::kRecomputed;
  auto again = NewTrainer(options);
  for (int64_t step = 1; step <= 3; ++step) {
    const auto samples = ToyTask::Sample(kept->model(), step, 1);
    REQUIRE(kept->Train(step, samples).ok());
    REQUIRE(again->Train(step, samples).ok());
  }
  CHECK(Digest(*kept) == Digest(*again));
}

TEST_CASE("Ranks take the GPUs of their host in turn", "[learner]") {
  const at::Device first(at::kCUDA, 0);
  CHECK(DeviceOfRank(first, 0, 4).index() == 0);
  CHECK(DeviceOfRank(first, 3, 4).index() == 3);
  CHECK(DeviceOfRank(first, 5, 4).index() == 1);
  CHECK(DeviceOfRank(first, 7, 1).index() == 0);
  CHECK(DeviceOfRank(at::kCPU, 3, 4).is_cpu());
}

}  // namespace
}  // namespace mpo::policy_learner
