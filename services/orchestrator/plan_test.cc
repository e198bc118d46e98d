// SPDX-License-Identifier: Apache-2.0
#include "services/orchestrator/plan.h"

#include <catch2/catch.hpp>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"

namespace mpo::orchestrator {
namespace {

Prompt PromptOf(const std::string& id) {
  Prompt prompt;
  prompt.id = id;
  return prompt;
}

PlanOptions Options(int prompts) {
  PlanOptions options;
  options.run = std::string("r");
  options.seed = 7;
  options.total_steps = 20;
  options.prompts_per_step = 4;
  options.group_size = 3;
  options.unit_size = 7;
  options.evaluation_every = 8;
  for (int i = 0; i < prompts; ++i) {
    options.training.push_back(PromptOf(absl::StrCat("p", i)));
  }
  for (int i = 0; i < 9; ++i) {
    options.heldout.push_back(PromptOf(absl::StrCat("h", i)));
  }
  return options;
}

PromptOrder OrderOf(const PlanOptions& options) {
  return PromptOrder(options.seed,
                     static_cast<int64_t>(options.training.size()),
                     options.prompts_per_step);
}

}  // namespace

TEST_CASE("PlanTraining is a pure function of its options", "[plan]") {
  const PlanOptions options = Options(6);
  PromptOrder order = OrderOf(options);
  std::map<int64_t, std::vector<WorkUnit>> forward;
  for (int64_t step = 1; step <= 20; ++step) {
    forward[step] = PlanTraining(options, order, step);
  }
  for (int64_t step = 20; step >= 1; --step) {
    CHECK(PlanTraining(options, order, step) == forward[step]);
  }
  PlanOptions other = options;
  other.seed = 8;
  PromptOrder other_order = OrderOf(other);
  CHECK(PlanTraining(other, other_order, 1) != forward[1]);
}

TEST_CASE("Every prompt occurs once an epoch and once a step", "[plan]") {
  for (const int prompts : {4, 5, 6, 7, 8, 11}) {
    const PlanOptions options = Options(prompts);
    PromptOrder order = OrderOf(options);
    std::vector<int64_t> stream;
    for (int64_t step = 1; step <= 40; ++step) {
      const std::vector<int64_t> one = order.Step(step);
      CHECK(std::set<int64_t>(one.begin(), one.end()).size() == 4);
      stream.insert(stream.end(), one.begin(), one.end());
    }
    for (size_t at = 0; at + static_cast<size_t>(prompts) <= stream.size();
         at += static_cast<size_t>(prompts)) {
      const std::set<int64_t> epoch(
          stream.begin() + static_cast<long>(at),
          stream.begin() + static_cast<long>(at) + prompts);
      CHECK(epoch.size() == static_cast<size_t>(prompts));
    }
  }
}

TEST_CASE("Units hold whole groups within the unit size", "[plan]") {
  PlanOptions options = Options(6);
  options.max_staleness = 1;
  PromptOrder order = OrderOf(options);
  const std::vector<WorkUnit> units = PlanTraining(options, order, 5);
  REQUIRE(units.size() == 2);
  std::set<std::string> keys;
  for (const WorkUnit& unit : units) {
    CHECK(unit.samples.size() == 6);
    CHECK(unit.min_policy_version == 3);
    for (size_t i = 0; i < unit.samples.size(); ++i) {
      const Sample& sample = unit.samples[i];
      CHECK(sample.replica == static_cast<int>(i % 3));
      CHECK(sample.prompt.id == unit.samples[i / 3 * 3].prompt.id);
      CHECK(sample.key == SampleKey("r", WorkKind::kTraining, 5,
                                    sample.prompt.id, sample.replica));
      CHECK(sample.seed == SampleSeed(7, sample.key));
      keys.insert(sample.key);
    }
  }
  CHECK(units[1].id == "train/5/1");
  CHECK(keys.size() == 12);
  CHECK(PlanTraining(options, order, 1)[0].min_policy_version == 0);
}

TEST_CASE("SampleKey is stable for ever", "[plan]") {
  // printf 'r|train|5|p1|2' | sha256sum
  CHECK(SampleKey("r", WorkKind::kTraining, 5, "p1", 2) ==
        "0b50518f715957b81720e1add4af0085478b222912a0c04f89f466ea804c9eec");
}

TEST_CASE("PlanEvaluation takes the first prompts, one replica each",
          "[plan]") {
  PlanOptions options = Options(6);
  options.evaluation_prompts = 8;
  const std::vector<WorkUnit> units = PlanEvaluation(options, 8);
  REQUIRE(units.size() == 2);
  CHECK(units[0].samples.size() == 7);
  CHECK(units[1].samples.size() == 1);
  CHECK(units[1].samples[0].prompt.id == "h7");
  CHECK(units[1].min_policy_version == 8);
  CHECK(IsEvaluated(options, 0, 20));
  CHECK(IsEvaluated(options, 16, 20));
  CHECK(IsEvaluated(options, 20, 20));
  CHECK_FALSE(IsEvaluated(options, 19, 20));
  options.evaluation_every = 0;
  CHECK_FALSE(IsEvaluated(options, 20, 20));
}

TEST_CASE("ValidatePlan lists every problem at once", "[plan]") {
  CHECK(ValidatePlan(Options(6)).ok());
  PlanOptions options = Options(3);
  options.unit_size = 2;
  options.heldout.push_back(PromptOf("p0"));
  const absl::Status status = ValidatePlan(options);
  CHECK(absl::IsInvalidArgument(status));
  const std::string text(status.message());
  CHECK(text.find("prompts_per_step = 4 prompts, got 3") != std::string::npos);
  CHECK(text.find("group_size = 3, got 2") != std::string::npos);
  CHECK(text.find("p0 is trained on") != std::string::npos);
}

}  // namespace mpo::orchestrator
