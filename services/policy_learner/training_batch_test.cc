// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/training_batch.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <set>
#include <string>

namespace mpo::policy_learner {
namespace {

using Catch::Contains;

TrainingSample GoodSample() {
  TrainingSample s;
  s.rollout.sample_key = "k1";
  s.rollout.step = 3;
  s.rollout.group = "p1";
  s.rollout.prompt_tokens = {1, 2};
  s.rollout.response_tokens = {3, 4};
  s.rollout.logprobs = {-0.5F, 0};
  s.rollout.spans = {{0, 1, 1}, {1, 2, 2}};
  s.verdict.scored = true;
  s.verdict.reward = 2;
  return s;
}

TEST_CASE("ValidateSample takes only a trunk that fits", "[learner]") {
  const SampleLimits limits{.vocabulary = 5,
                            .context = 4,
                            .hidden = 2,
                            .trunk_layer = 1,
                            .newest_version = 2};
  Trunk trunk{1, {1, 2, 3, 4, 5, 6}};
  std::string field;
  SECTION("good") {}
  SECTION("layer") {
    trunk.layer = 2;
    field = "trunk.layer: expected 1";
  }
  SECTION("size") {
    trunk.inputs.resize(8);
    field = "trunk.inputs: expected 3 x 2 numbers, got 8";
  }
  SECTION("NaN") {
    trunk.inputs[5] = std::numeric_limits<float>::quiet_NaN();
    field = "got nan at 5";
  }
  TrainingSample s = GoodSample();
  s.trunk = std::make_shared<Trunk>(trunk);
  const absl::Status status = ValidateSample(s, limits);
  CHECK(status.ok() == field.empty());
  CHECK(std::string(status.message()).find(field) != std::string::npos);
}

TEST_CASE("ValidateSample names the key and the field", "[learner]") {
  const SampleLimits limits{
      .vocabulary = 5, .context = 4, .newest_version = 2, .last_step = 9};
  CHECK(ValidateSample(GoodSample(), limits).ok());
  TrainingSample s = GoodSample();
  Rollout& r = s.rollout;
  std::string field;
  SECTION("key") { r.sample_key = "", field = "sample_key"; }
  SECTION("step") { r.step = 0, field = "step"; }
  SECTION("step beyond the run") { r.step = 10, field = "at most 9"; }
  SECTION("group") { r.group = "", field = "group"; }
  SECTION("prompt") { r.prompt_tokens.clear(), field = "prompt_tokens"; }
  SECTION("lengths") { r.logprobs.pop_back(), field = "logprobs: 1 for 2"; }
  SECTION("negative id") { r.prompt_tokens[0] = -1, field = "prompt_tokens"; }
  SECTION("id") { r.response_tokens[1] = 5, field = "id 5 at 1"; }
  SECTION("context") { r.prompt_tokens.resize(4, 1), field = "context is 4"; }
  SECTION("log-prob above 0") { r.logprobs[0] = 0.1F, field = "logprobs"; }
  SECTION("log-prob NaN") {
    r.logprobs[0] = std::numeric_limits<float>::quiet_NaN(), field = "logprobs";
  }
  SECTION("log-prob -inf") {
    r.logprobs[0] = -std::numeric_limits<float>::infinity();
    field = "logprobs";
  }
  SECTION("future") { r.spans[1].policy_version = 3, field = "version 3"; }
  SECTION("hole") { r.spans[1].begin = 2, field = "spans"; }
  SECTION("short span") { r.spans.pop_back(), field = "cover 1 of 2"; }
  SECTION("greedy") { r.temperature = 0, field = "temperature"; }
  SECTION("reward") {
    s.verdict.reward =
        GENERATE(std::numeric_limits<double>::quiet_NaN(), 1.1e9, -3e38);
    field = "verdict.reward";
  }
  SECTION("failed") {
    r.finish_reason = FinishReason::kFailed, field = "finish_reason";
  }
  SECTION("no response") {
    r.response_tokens.clear(), r.logprobs.clear(), r.spans.clear();
    field = "response_tokens";
  }
  const absl::Status status = ValidateSample(s, limits);
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  CHECK_THAT(std::string(status.message()),
             Contains("rollout '" + r.sample_key + "'") && Contains(field));
}

TEST_CASE("An unscorable sample may be broken where nothing reads it",
          "[learner]") {
  TrainingSample s = GoodSample();
  s.verdict = {};
  s.rollout.finish_reason = FinishReason::kFailed;
  s.rollout.logprobs[1] = std::numeric_limits<float>::quiet_NaN();
  CHECK(ValidateSample(s, {.vocabulary = 5, .context = 4, .newest_version = 2})
            .ok());
}

TEST_CASE("MakeTrainingBatch scales rewards and charges a missing end",
          "[learner]") {
  TrainerOptions options;
  options.reward_scale = 0.1;
  options.missing_eos_penalty = 1;
  std::vector<TrainingSample> samples(3, GoodSample());
  samples[1].rollout.finish_reason = FinishReason::kStop;
  samples[2].verdict = {};
  const TrainingBatch b = MakeTrainingBatch(samples, options);
  CHECK(b.scores[0].item<float>() == Approx(-0.8));
  CHECK(b.scores[1].item<float>() == Approx(0.2));
  CHECK(b.active == std::vector<int64_t>{0, 1});
  CHECK(b.mask.sum().item<int>() == 4);
  CHECK(b.inputs[0] == std::vector<int32_t>{1, 2, 3});
}

TEST_CASE("Rewards are normalised over the run, cut, then charged",
          "[learner]") {
  TrainerOptions options;
  options.normalise_rewards = true;
  options.reward_clip = 0.5;
  options.missing_eos_penalty = 2;
  std::vector<TrainingSample> samples(4, GoodSample());
  samples[0].verdict.reward = 1;
  samples[1].verdict.reward = 3;
  samples[2].verdict.reward = 2;
  samples[2].rollout.finish_reason = FinishReason::kStop;
  samples[3].verdict = {};
  samples[3].verdict.reward = 100;
  rl::Moments moments;
  const TrainingBatch b = MakeTrainingBatch(samples, options, &moments);
  CHECK(moments.count == 3);
  CHECK(moments.mean == Approx(2));
  CHECK(moments.Deviation() == Approx(1));
  CHECK(b.scores[0].item<float>() == Approx(-0.5 - 2));
  CHECK(b.scores[1].item<float>() == Approx(0.5 - 2));
  CHECK(b.scores[2].item<float>() == Approx(0));
  CHECK(b.scores[3].item<float>() == 0);
  CHECK(b.raw_rewards[1].item<float>() == 3);
  // The next batch is read against all of the run.
  for (auto& s : samples) s.verdict.reward = 4;
  MakeTrainingBatch(samples, options, &moments);
  CHECK(moments.count == 6);
  CHECK(moments.mean == Approx(3));
}

TEST_CASE("A score behind the end needs the last token as input", "[learner]") {
  TrainerOptions options;
  options.score_placement = rl::ScorePlacement::kAfterEnd;
  std::vector<TrainingSample> samples(2, GoodSample());
  samples[1].rollout.response_tokens = {3};
  samples[1].rollout.logprobs = {-0.5F};
  const TrainingBatch b = MakeTrainingBatch(samples, options);
  CHECK(b.inputs[0] == std::vector<int32_t>{1, 2, 3, 4});
  CHECK(b.inputs[1] == std::vector<int32_t>{1, 2, 3});
  CHECK(b.mask.sum().item<int>() == 3);
  CHECK(b.value_mask.sum().item<int>() == 4);
  options.algorithm = Algorithm::kReinforcePlusPlus;
  CHECK(MakeTrainingBatch(samples, options).inputs[1] ==
        std::vector<int32_t>{1, 2});
}

TEST_CASE("Blocks are whitened by themselves, without the unscorable",
          "[learner]") {
  TrainerOptions options;
  options.algorithm = Algorithm::kReinforcePlusPlus;
  options.kl_coef = 0;
  options.whitening_block = 2;
  options.whitening_epsilon = 0;
  std::vector<TrainingSample> samples(5, GoodSample());
  const double rewards[] = {1, 9, 3, 100, 300};
  for (int i = 0; i < 5; ++i) samples[i].verdict.reward = rewards[i];
  samples[1].verdict = {};
  const TrainingBatch b = MakeTrainingBatch(samples, options);
  const at::Tensor a = ComputeAdvantages(options, b, {}, {}).advantages;
  // Two tokens each with the same advantage: deviation of {-1, -1, 1, 1} is
  // sqrt(4/3).
  const float one = std::sqrt(0.75F);
  CHECK(a[0][0].item<float>() == Approx(-one));
  CHECK(a[2][1].item<float>() == Approx(one));
  CHECK(a[3][0].item<float>() == Approx(-one));
  CHECK(a[4][0].item<float>() == Approx(one));
  CHECK(a[1].abs().max().item<float>() == 0);
}

TEST_CASE("REINFORCE++ with baseline compares samples of one prompt",
          "[learner]") {
  TrainerOptions options;
  options.algorithm = Algorithm::kReinforcePlusPlusBaseline;
  options.kl_coef = 0;
  options.advantage_whitening = rl::Whitening::kNone;
  std::vector<TrainingSample> samples(5, GoodSample());
  const double rewards[] = {1, 1, 0, 0, 7};
  for (int i = 0; i < 5; ++i) samples[i].verdict.reward = rewards[i];
  samples[1].verdict = {};
  samples[4].rollout.group = "alone";
  const TrainingBatch b = MakeTrainingBatch(samples, options);
  at::Tensor a = ComputeAdvantages(options, b, {}, {}).advantages;
  CHECK(a[0][1].item<float>() == Approx(2 / 3.0));
  CHECK(a[0][0].item<float>() == Approx(2 / 3.0));
  CHECK(a[2][1].item<float>() == Approx(-1 / 3.0));
  CHECK(a[1].abs().max().item<float>() == 0);
  CHECK(a[4].abs().max().item<float>() == 0);
  // Nor does the lone sample enter the whitening.
  options.advantage_whitening = rl::Whitening::kBatch;
  a = ComputeAdvantages(options, b, {}, {}).advantages;
  CHECK(a.sum().item<float>() == Approx(0).margin(1e-5));
  CHECK(a[4].abs().max().item<float>() == 0);
}

TEST_CASE("Micro-batches keep the budget and take every row once",
          "[learner]") {
  TrainingBatch batch;
  std::vector<int64_t> rows;
  for (int i = 0; i < 50; ++i) {
    // A prompt of its own for each: nothing to share.
    batch.inputs.emplace_back(10 + (i * 7) % 41, i);
    batch.prompt_lengths.push_back(4);
    rows.push_back(i);
  }
  std::set<int64_t> seen;
  for (const auto& micro : PlanMicroBatches(batch, rows, 1000)) {
    int64_t longest = 0, tokens = 0;
    for (const PackedRow& row : micro) {
      REQUIRE(row.samples.size() == 1);
      CHECK(seen.insert(row.samples[0]).second);
      longest = std::max(longest, row.length);
      tokens += row.length;
    }
    const auto padded = longest * static_cast<int64_t>(micro.size());
    CHECK(padded <= 1000);
    if (tokens > 600) CHECK(tokens * 10 >= padded * 9);
  }
  CHECK(seen.size() == 50);
  CHECK(PlanMicroBatches(batch, {4, 5}, 1).size() == 2);
}

TEST_CASE("Samples of one prompt share it within a row", "[learner]") {
  TrainingBatch batch;
  for (int i = 0; i < 5; ++i) {
    std::vector<int32_t> input(10, 7);
    input.resize(20, i);
    batch.inputs.push_back(input);
    batch.prompt_lengths.push_back(10);
  }
  batch.inputs[2][3] = 8;  // Another prompt.
  const auto plan = PlanMicroBatches(batch, {0, 1, 2, 3, 4}, 1000);
  REQUIRE(plan.size() == 1);
  REQUIRE(plan[0].size() == 2);
  CHECK(plan[0][0].samples == std::vector<int64_t>{0, 1, 3, 4});
  CHECK(plan[0][0].length == 50);
  CHECK(plan[0][1].samples == std::vector<int64_t>{2});
  // As many as the budget allows.
  CHECK(PlanMicroBatches(batch, {0, 1, 3, 4}, 30).size() == 2);
}

}  // namespace
}  // namespace mpo::policy_learner
