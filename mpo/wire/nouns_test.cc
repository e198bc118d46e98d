// SPDX-License-Identifier: Apache-2.0
#include "mpo/wire/nouns.h"

#include <catch2/catch.hpp>
#include <cctype>
#include <string>

namespace mpo::wire {

TEST_CASE("Rubrics and verdicts survive the wire", "[wire]") {
  Rubric rubric;
  rubric.id = "essay";
  rubric.scope = std::string("cluster:a");
  rubric.aggregation = Aggregation::kSaturating;
  rubric.scale = RewardScale::kNone;
  Criterion criterion;
  criterion.id = "x";
  criterion.text = "text";
  criterion.minimum = 1;
  criterion.weight = 2.5;
  criterion.polarity = Polarity::kDeduct;
  criterion.tier = Tier::kPitfall;
  criterion.mode = CriterionMode::kVeto;
  criterion.executor = Executor::kProgram;
  criterion.levels = {{1, "bad"}, {5, "good"}};
  criterion.check = Check{"words", 3, 0.5};
  rubric.criteria = {criterion, {}};
  CHECK(*FromProto(ToProto(rubric)) == rubric);

  Verdict scored;
  scored.scored = true;
  scored.rubric_sha256 = "sha";
  scored.judge = "embedded";
  scored.criteria = {{"x", 2, 0, 5, "why"}};
  scored.raw = 2;
  scored.maximum = 5;
  scored.reward = 0.4;
  CHECK(*FromProto(ToProto(scored)) == scored);
  Verdict unscorable;
  unscorable.reason = UnscorableReason::kJudgeRefused;
  unscorable.detail = std::string("401");
  CHECK(*FromProto(ToProto(unscorable)) == unscorable);
  const BaseStatistics base{-1, 2, 3};
  CHECK(FromProto(ToProto(base)) == base);
}

TEST_CASE("Every value of an enum has its own name on the wire", "[wire]") {
  for (int i = 0; i <= static_cast<int>(UnscorableReason::kInvalidResponse);
       ++i) {
    Verdict verdict;
    verdict.reason = static_cast<UnscorableReason>(i);
    std::string name = Name(verdict.reason);
    for (char& c : name) c = static_cast<char>(std::toupper(c));
    CHECK(v1::UnscorableReason_Name(ToProto(verdict).unscorable().reason()) ==
          "UNSCORABLE_REASON_" + name);
  }
  CHECK(ToProto(FinishReason::kStop) == v1::FINISH_REASON_STOP);
  CHECK(ToProto(FinishReason::kLength) == v1::FINISH_REASON_LENGTH);
  CHECK(ToProto(FinishReason::kCancelled) == v1::FINISH_REASON_CANCELLED);
  CHECK(ToProto(FinishReason::kFailed) == v1::FINISH_REASON_FAILED);
  CHECK(ToProto(WorkKind::kTraining) == v1::WORK_KIND_TRAINING);
  Rubric rubric;
  const auto aggregation = [&](Aggregation value) {
    rubric.aggregation = value;
    return ToProto(rubric).aggregation();
  };
  CHECK(aggregation(Aggregation::kRawSum) == v1::AGGREGATION_RAW_SUM);
  CHECK(aggregation(Aggregation::kNormalisedMean) ==
        v1::AGGREGATION_NORMALISED_MEAN);
  CHECK(aggregation(Aggregation::kWeighted) == v1::AGGREGATION_WEIGHTED);
  CHECK(aggregation(Aggregation::kGated) == v1::AGGREGATION_GATED);
  CHECK(aggregation(Aggregation::kImplicit) == v1::AGGREGATION_IMPLICIT);
  const auto scale = [&](RewardScale value) {
    rubric.scale = value;
    return ToProto(rubric).scale();
  };
  CHECK(scale(RewardScale::kNone) == v1::REWARD_SCALE_NONE);
  CHECK(scale(RewardScale::kByMaximum) == v1::REWARD_SCALE_BY_MAXIMUM);
  CHECK(scale(RewardScale::kContinuity) == v1::REWARD_SCALE_CONTINUITY);
  rubric.criteria.resize(1);
  Criterion& criterion = rubric.criteria[0];
  const auto sent = [&] { return ToProto(rubric).criteria(0); };
  criterion.tier = Tier::kEssential;
  CHECK(sent().tier() == v1::TIER_ESSENTIAL);
  criterion.tier = Tier::kImportant;
  CHECK(sent().tier() == v1::TIER_IMPORTANT);
  criterion.tier = Tier::kOptional;
  CHECK(sent().tier() == v1::TIER_OPTIONAL);
  criterion.mode = CriterionMode::kScore;
  CHECK(sent().mode() == v1::CRITERION_MODE_SCORE);
  criterion.mode = CriterionMode::kGate;
  CHECK(sent().mode() == v1::CRITERION_MODE_GATE);
  criterion.mode = CriterionMode::kVeto;
  CHECK(sent().mode() == v1::CRITERION_MODE_VETO);
  criterion.executor = Executor::kJudge;
  CHECK(sent().executor() == v1::EXECUTOR_JUDGE);
  criterion.polarity = Polarity::kAward;
  CHECK(sent().polarity() == v1::POLARITY_AWARD);
}

TEST_CASE("What is unspecified on the wire is an invalid argument", "[wire]") {
  CHECK(absl::IsInvalidArgument(FromProto(v1::Verdict()).status()));
  CHECK(absl::IsInvalidArgument(FromProto(v1::Rubric()).status()));
  CHECK(absl::IsInvalidArgument(
      FromProto(v1::FINISH_REASON_UNSPECIFIED).status()));
  v1::Verdict verdict;
  verdict.mutable_unscorable();
  CHECK(absl::IsInvalidArgument(FromProto(verdict).status()));
  v1::Rubric rubric = ToProto(Rubric{});
  rubric.add_criteria()->set_id("x");
  const absl::Status status = FromProto(rubric).status();
  CHECK(std::string(status.message()).find("criterion x: polarity") == 0);
}

TEST_CASE("A rollout keeps every field on the wire", "[wire]") {
  Rollout rollout;
  rollout.sample_key = "k";
  rollout.step = 4;
  rollout.group = "g";
  rollout.prompt_tokens = {1, 2};
  rollout.response_tokens = {3, 4, 5};
  rollout.logprobs = {-0.1F, -1e-30F, 0};
  rollout.spans = {{0, 1, 2}, {1, 3, 3}};
  rollout.finish_reason = FinishReason::kStop;
  rollout.temperature = 0.7;
  rollout.text = "text";
  CHECK((*FromProto(ToProto(rollout)) == rollout));
  v1::Rollout proto = ToProto(rollout);
  proto.clear_finish_reason();
  CHECK(absl::IsInvalidArgument(FromProto(proto).status()));
}

TEST_CASE("A trunk keeps its numbers to the bit on the wire", "[wire]") {
  const Trunk trunk{22, {1.5F, -1e-38F, 3e38F}};
  CHECK((*FromProto(ToProto(trunk)) == trunk));
  v1::Trunk proto = ToProto(trunk);
  proto.mutable_inputs()->pop_back();
  const absl::Status status = FromProto(proto).status();
  CHECK(absl::IsInvalidArgument(status));
  CHECK(std::string(status.message()).find("got 11 bytes") !=
        std::string::npos);
}

TEST_CASE("A work unit keeps every field on the wire", "[wire]") {
  WorkUnit unit;
  unit.id = std::string("train/1/0");
  unit.lease_epoch = 7;
  unit.step = 1;
  unit.sampling.top_k = 4;
  Sample sample;
  sample.key = "k";
  sample.seed = 0xFFFFFFFFFFFFFFFFU;
  sample.prompt.messages = {{"user", "hi"}};
  sample.prompt.key_terms = {"a", "b"};
  unit.samples = {sample};
  unit.kind = WorkKind::kEvaluation;
  unit.min_policy_version = 3;
  unit.rubric_sha256 = std::string("r");
  unit.monitor_rubric_sha256 = std::string("m");
  unit.sampling.temperature = 0.5;
  unit.sampling.top_p = 0.9;
  unit.sampling.max_new_tokens = 12;
  CHECK((*FromProto(ToProto(unit)) == unit));
  v1::WorkUnit proto = ToProto(unit);
  CHECK(proto.samples(0).seed() == 0xFFFFFFFFFFFFFFFFU);
  proto.set_kind(v1::WORK_KIND_UNSPECIFIED);
  CHECK(absl::IsInvalidArgument(FromProto(proto).status()));
  CHECK(ToProto(absl::Milliseconds(1500)).seconds() == 1);
  CHECK(ToProto(absl::Milliseconds(1500)).nanos() == 500000000);
}

}  // namespace mpo::wire
