// SPDX-License-Identifier: Apache-2.0
// A learner of several ranks against one of one.
#include <torch/torch.h>

#include <catch2/catch.hpp>
#include <limits>
#include <map>

#include "services/policy_learner/parallel_checks.h"
#include "services/policy_learner/trainer_checks.h"
#include "tests/support/temporary_directory.h"

namespace mpo::policy_learner {
namespace {

using Catch::Contains;

TrainerOptions Options(Algorithm algorithm, bool lora) {
  TrainerOptions options = ToyTask::Options();
  options.algorithm = algorithm;
  options.epochs = 2;
  options.learning_rate = options.value_learning_rate = 1e-3;
  // AdamW's first steps are as long for a gradient of rounding errors as for
  // any other; with this they are in proportion to it.
  options.adam_epsilon = 1e-5;
  options.max_grad_norm = 0.5;
  options.weight_decay = 0.01;
  if (!lora) options.lora.reset();
  if (algorithm == Algorithm::kPpo) {
    options.kl_in = KlPlace::kReward;
    options.kl_estimator = rl::KlEstimator::kK1;
    options.value_updates = 2;
    options.value_coef = 1;
  }
  return options;
}

// Steps [from, through] of both on the same samples. The figures agree to
// 1e-4 of their size, sums of float32 in another order.
void TrainBoth(PolicyTrainer& one, ParallelTrainers& many, int64_t from,
               int64_t through) {
  for (int64_t step = from; step <= through; ++step) {
    const auto samples = ToyTask::Sample(one.model(), step, 1);
    const auto alone = one.Train(step, samples);
    REQUIRE(alone.ok());
    const StepResult together = many.Train(step, samples);
    REQUIRE(alone->metrics.size() == together.metrics.size());
    for (const auto& [name, value] : alone->metrics) {
      INFO("step " << step << " " << name);
      // Values at the border of the clip count or not by their rounding.
      const double margin = name == "value_clip_fraction" ? 0.02 : 1e-6;
      CHECK(together.metrics.at(name) ==
            Approx(value).epsilon(1e-4).margin(margin));
    }
  }
}

void CheckSame(const PolicyTrainer& one, const ParallelTrainers& many) {
  CHECK(WeightDifference(one, *many.trainers[0]) < 1e-5);
  for (const auto& trainer : many.trainers) {
    CHECK(Digest(*trainer) == Digest(*many.trainers[0]));
  }
}

TEST_CASE("Two and three ranks give the weights of one", "[learner]") {
  const int ranks = GENERATE(2, 3);
  TrainerOptions options = Options(GENERATE(Algorithm::kGrpo, Algorithm::kPpo),
                                   GENERATE(true, false));
  SECTION("one minibatch") {}
  SECTION("several minibatches and micro-batches") {
    options.minibatches = 3;
    options.micro_batch_tokens = 40;
  }
  const auto one = NewTrainer(options);
  const std::string before = Digest(*one);
  ParallelTrainers many(options, ranks, /*gloo=*/false);
  TrainBoth(*one, many, 1, 3);
  CHECK(Digest(*one) != before);
  CheckSame(*one, many);
}

TEST_CASE("Two ranks over Gloo give the weights of one", "[learner]") {
  const TrainerOptions options = Options(
      GENERATE(Algorithm::kGrpo, Algorithm::kPpo), GENERATE(true, false));
  const auto one = NewTrainer(options);
  ParallelTrainers many(options, 2, /*gloo=*/true);
  TrainBoth(*one, many, 1, 3);
  CheckSame(*one, many);
}

TEST_CASE("Every other way of an update is the same on several ranks",
          "[learner]") {
  TrainerOptions options = Options(Algorithm::kPpo, true);
  SECTION("a value model of its own, with blocks and PopArt") {
    options.value_model = ValueModelKind::kSeparate;
    options.score_placement = rl::ScorePlacement::kAfterEnd;
    options.loss_block = 2;
    options.whitening_block = 16;
    options.popart = true;
    options.normalise_rewards = true;
  }
  SECTION("old log-probs of generation, importance weights") {
    options.algorithm = Algorithm::kDrGrpo;
    options.old_logprobs = OldLogprobs::kBehaviour;
    options.truncated_importance = 2;
    options.entropy_coef = 0.01;
    options.dual_clip = 3;
  }
  SECTION("KL in the loss, means of sequences") {
    options.algorithm = Algorithm::kReinforcePlusPlus;
    options.kl_in = KlPlace::kLoss;
    options.loss_aggregation = rl::LossAggregation::kSequenceMean;
    options.ratio = rl::RatioLevel::kSequence;
  }
  SECTION("more minibatches than rows of a rank") { options.minibatches = 30; }
  const auto one = NewTrainer(options);
  ParallelTrainers many(options, 2, /*gloo=*/false);
  TrainBoth(*one, many, 1, 2);
  CheckSame(*one, many);
}

TEST_CASE("A checkpoint of two ranks is one of one, and the other way round",
          "[learner]") {
  TrainerOptions options = Options(Algorithm::kPpo, GENERATE(true, false));
  options.value_model =
      GENERATE(ValueModelKind::kHead, ValueModelKind::kSeparate);
  const TemporaryDirectory of_two, of_one;
  const auto one = NewTrainer(options);
  ParallelTrainers two(options, 2, /*gloo=*/false);
  TrainBoth(*one, two, 1, 2);
  two.Save(of_two.path);
  REQUIRE(one->Save(of_one.path).ok());
  // The same files with the same tensors, but for the order of sums.
  for (const auto& entry : std::filesystem::directory_iterator(of_one.path)) {
    const auto name = entry.path().filename();
    INFO(name);
    if (name.extension() != ".safetensors") continue;
    const auto a = ReadSafetensors(entry.path());
    const auto b = ReadSafetensors(of_two.path / name);
    REQUIRE(a.ok());
    REQUIRE(b.ok());
    REQUIRE(a->size() == b->size());
    for (size_t i = 0; i < a->size(); ++i) {
      CHECK((*a)[i].name == (*b)[i].name);
      CHECK(at::allclose((*a)[i].tensor.to(at::kDouble),
                         (*b)[i].tensor.to(at::kDouble), 1e-3, 1e-5));
    }
  }
  // Train two ranks, go on with one; and one, then three.
  const auto resumed = NewTrainer(options);
  REQUIRE(resumed->Load(of_two.path).ok());
  ParallelTrainers three(options, 3, /*gloo=*/false);
  three.Load(of_one.path);
  CHECK(Digest(*resumed) == Digest(*two.trainers[0]));
  CHECK(Digest(*three.trainers[2]) == Digest(*one));
  TrainBoth(*one, three, 3, 4);
  CheckSame(*one, three);
  TrainBoth(*resumed, two, 3, 4);
  CheckSame(*resumed, two);
}

TEST_CASE("Two ranks that are resumed equal two that never stopped",
          "[learner]") {
  const TrainerOptions options = Options(Algorithm::kPpo, true);
  const TemporaryDirectory directory;
  ParallelTrainers undisturbed(options, 2, false), resumed(options, 2, false);
  const auto train = [](ParallelTrainers& two, int64_t from, int64_t through) {
    for (int64_t step = from; step <= through; ++step) {
      two.Train(step, ToyTask::Sample(two.trainers[0]->model(), step, 1));
    }
  };
  train(undisturbed, 1, 2);
  undisturbed.Save(directory.path);
  train(undisturbed, 3, 4);
  train(resumed, 1, 1);  // What it held before must not matter.
  resumed.Load(directory.path);
  train(resumed, 3, 4);
  CHECK(Digest(*resumed.trainers[0]) == Digest(*undisturbed.trainers[0]));
}

TEST_CASE("A loss that is not finite on one rank is skipped by all",
          "[learner]") {
  TrainerOptions options = Options(Algorithm::kGrpo, true);
  options.algorithm = Algorithm::kRloo;
  options.advantage_whitening = rl::Whitening::kNone;
  options.max_nonfinite_steps = 2;
  ParallelTrainers two(options, 2, /*gloo=*/false);
  auto samples = ToyTask::Sample(two.trainers[0]->model(), 1, 1);
  samples[0].verdict.reward = 3e38;
  const std::string before = Digest(*two.trainers[0]);
  CHECK(two.Train(1, samples).metrics.at("nonfinite") == 1);
  CHECK(Digest(*two.trainers[0]) == before);
  CHECK(Digest(*two.trainers[1]) == before);
  for (const absl::Status& status : two.Try([&](int rank) {
         return two.trainers[rank]->Train(2, samples).status();
       })) {
    CHECK(absl::IsInternal(status));
    CHECK_THAT(std::string(status.message()), Contains("2 steps in a row"));
  }
}

TEST_CASE("A batch without a scored sample leaves several ranks alone",
          "[learner]") {
  ParallelTrainers two(Options(Algorithm::kPpo, true), 2, /*gloo=*/false);
  auto samples = ToyTask::Sample(two.trainers[0]->model(), 1, 1);
  for (auto& sample : samples) sample.verdict = {};
  const std::string before = Digest(*two.trainers[0]);
  CHECK(two.Train(1, samples).metrics.at("unscorable") == 32);
  CHECK(Digest(*two.trainers[1]) == before);
}

TEST_CASE("A rank that is lost fails the update with its name", "[learner]") {
  ParallelTrainers two(Options(Algorithm::kGrpo, true), 2, /*gloo=*/false);
  const auto samples = ToyTask::Sample(two.trainers[0]->model(), 1, 1);
  two.group.rendezvous().End(absl::UnavailableError("rank 1 is gone"));
  const auto result = two.trainers[0]->Train(1, samples);
  CHECK(absl::IsUnavailable(result.status()));
  CHECK_THAT(std::string(result.status().message()),
             Contains("train step 1: all_reduce of log-probs and values on "
                      "rank 0: rank 1 is gone"));
  const TemporaryDirectory directory;
  CHECK(absl::IsUnavailable(two.trainers[0]->Save(directory.path)));
}

TEST_CASE("Ranks with different models are refused", "[learner]") {
  collective::TestGroup group(2, /*gloo=*/false);
  std::vector<absl::Status> statuses(2);
  collective::OnEachRank(2, [&](int rank) {
    auto base = ToyTask::Model();
    if (rank == 1) {
      at::NoGradGuard no_grad;
      at::Tensor(base->StateDict()[0].tensor).add_(1);
    }
    statuses[rank] =
        PolicyTrainer::Create(base, ToyTask::Options(), Clock::Real(), nullptr,
                              group.groups[rank])
            .status();
  });
  for (const absl::Status& status : statuses) {
    CHECK(absl::IsInternal(status));
    CHECK_THAT(std::string(status.message()),
               Contains("the model with digest"));
  }
}

TEST_CASE("Rank 0 announces its work before it does it", "[learner]") {
  const auto alone = NewTrainer(ToyTask::Options());
  std::vector<PolicyTrainer::Work::Kind> announced;
  alone->OnWork([&](const PolicyTrainer::Work& work) {
    announced.push_back(work.kind);
    return work.kind == PolicyTrainer::Work::Kind::kSave
               ? absl::UnavailableError("rank 1 is gone")
               : absl::OkStatus();
  });
  REQUIRE(alone->Train(1, ToyTask::Sample(alone->model(), 1, 1)).ok());
  const TemporaryDirectory directory;
  CHECK(absl::IsUnavailable(alone->Save(directory.path)));
  const bool in_order =
      announced == std::vector{PolicyTrainer::Work::Kind::kTrain,
                               PolicyTrainer::Work::Kind::kSave};
  CHECK(in_order);
  CHECK(absl::IsInvalidArgument(alone->Follow({})));
}

}  // namespace
}  // namespace mpo::policy_learner
