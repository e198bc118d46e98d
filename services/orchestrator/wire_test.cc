// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>

#include "services/orchestrator/wire.h"
#include "services/orchestrator/wire_nouns.h"

namespace mpo::orchestrator {

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
  const v1::WorkUnit proto = ToProto(unit);
  CHECK(proto.kind() == v1::WORK_KIND_TRAINING);
  CHECK(proto.lease_epoch() == 7);
  CHECK(proto.sampling().top_k() == 4);
  CHECK(proto.samples(0).seed() == 0xFFFFFFFFFFFFFFFFU);
  CHECK(proto.samples(0).prompt().messages(0).content() == "hi");
  CHECK(proto.samples(0).prompt().key_terms_size() == 2);
  CHECK(ToProto(absl::Milliseconds(1500)).seconds() == 1);
  CHECK(ToProto(absl::Milliseconds(1500)).nanos() == 500000000);
}

}  // namespace mpo::orchestrator
