// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/replay.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <fstream>
#include <limits>

#include "mpo/base/file.h"
#include "services/policy_learner/rollout_lines.h"
#include "services/policy_learner/toy_mesh.h"
#include "tests/support/temporary_directory.h"

namespace mpo::policy_learner {
namespace {

using Catch::Contains;
namespace fs = std::filesystem;

std::string Message(const absl::Status& status) {
  return std::string(status.message());
}

std::string Problem(const std::string& lines) {
  const auto parsed = ParseRolloutLines(lines, "in.jsonl");
  REQUIRE(absl::IsInvalidArgument(parsed.status()));
  return Message(parsed.status());
}

TrainingSample Odd() {
  TrainingSample sample;
  Rollout& rollout = sample.rollout;
  rollout.sample_key = "k";
  rollout.step = 3;
  rollout.group = "g";
  rollout.prompt_tokens = {1, 2};
  rollout.response_tokens = {5, 6, 7};
  rollout.logprobs = {-0.1F, -1e-30F, -std::numeric_limits<float>::epsilon()};
  rollout.temperature = 0.7;
  rollout.finish_reason = FinishReason::kStop;
  rollout.spans = {{0, 1, 1}, {1, 3, 2}};
  sample.verdict.scored = true;
  sample.verdict.reward = 1.0 / 3;
  return sample;
}

constexpr char kLeast[] =
    R"({"step": 2, "sample_key": "a", "group": "g", "prompt_tokens": [1],
 "response_tokens": [2, 3], "logprobs": [-1, -2], "reward": 0.5})";

std::string With(const std::string& from, const std::string& to) {
  std::string line = kLeast;
  line.erase(std::remove(line.begin(), line.end(), '\n'), line.end());
  const size_t at = line.find(from);
  REQUIRE(at != std::string::npos);
  return line.replace(at, from.size(), to);
}

}  // namespace

TEST_CASE("Rollout lines give back what was written, bit for bit",
          "[learner]") {
  TrainingSample unscorable = Odd();
  unscorable.rollout.sample_key = "l";
  unscorable.verdict = {};
  unscorable.verdict.detail = "judge_timeout";
  const auto read = ParseRolloutLines(
      ToJsonLine(Odd()) + "\n" + ToJsonLine(unscorable), "in.jsonl");
  INFO(read.status());
  REQUIRE(read.ok());
  CHECK((*read == std::vector<TrainingSample>{Odd(), unscorable}));
}

TEST_CASE("Rollout lines may leave out what follows from the rest",
          "[learner]") {
  const auto read = ParseRolloutLines(With("2", "2"), "in.jsonl");
  REQUIRE(read.ok());
  const Rollout& rollout = (*read)[0].rollout;
  CHECK(rollout.temperature == 1);
  CHECK(rollout.finish_reason == FinishReason::kLength);
  CHECK((rollout.spans == std::vector<TokenSpan>{{0, 2, 1}}));
}

TEST_CASE("A rollout line that is wrong is named with line and key",
          "[learner]") {
  CHECK_THAT(Problem(""), Contains("in.jsonl: expected JSON lines"));
  CHECK_THAT(Problem("\n{"), Contains("in.jsonl:2: not valid JSON"));
  CHECK_THAT(Problem("[]"), Contains("expected a JSON object"));
  CHECK_THAT(Problem(With("\"step\": 2, ", "")), Contains("step: is missing"));
  CHECK_THAT(Problem(With("[2, 3]", "\"x\"")), Contains("response_tokens: "));
  CHECK_THAT(Problem(With("[-1, -2]", "[null, 1]")), Contains("logprobs: "));
  for (const char* tokens : {"[2.5, 3]", "[true, 3]", "[4294967301, 3]", "2"}) {
    CHECK_THAT(Problem(With("[2, 3]", tokens)),
               Contains("response_tokens: expected a list of integers"));
  }
  CHECK_THAT(Problem(With("\"step\": 2", "\"step\": 1.7")),
             Contains("step: expected an integer"));
  CHECK_THAT(Problem(With("0.5", "0.5, \"spans\": [[0, 2, 0, 99]]")),
             Contains("spans: expected a list of [begin, end"));
  CHECK_THAT(Problem(With(", \"reward\": 0.5", "")),
             Contains("either reward or unscorable"));
  CHECK_THAT(Problem(With("0.5", "0.5, \"unscorable\": \"x\"")),
             Contains("either reward or unscorable"));
  CHECK_THAT(
      Problem(With("0.5", "0.5, \"finish_reason\": \"eos\"")),
      Contains("finish_reason: expected stop, length, cancelled, failed, "
               "got \"eos\""));
  CHECK_THAT(Problem(With("0.5", "0.5, \"reword\": 1")),
             Contains("unknown key \"reword\""));
  CHECK_THAT(Problem(With("2", "2") + "\n" + With("2", "2")),
             Contains("in.jsonl:2: sample_key: \"a\" was used"));
}

TEST_CASE("A replay of what a run recorded gives the run's weights",
          "[learner]") {
  const TemporaryDirectory dir;
  ToyLearner learner(dir.path, 4, ToyTask::Options());
  learner.Start();
  REQUIRE(learner.Wait().ok());
  std::string lines;
  for (int step = 1; step <= 4; ++step) {
    const auto text =
        ReadFile(dir.path / "rollouts" /
                 ("step_00000" + std::to_string(step) + ".jsonl"));
    REQUIRE(text.ok());
    lines += *text;
  }
  const auto samples = ParseRolloutLines(lines, "recorded");
  REQUIRE(samples.ok());
  auto trainer = PolicyTrainer::Create(ToyTask::Model(), ToyTask::Options(),
                                       Clock::Real());
  std::map<int64_t, std::string> digests;
  const absl::Status status =
      ReplaySteps(**trainer, *samples, [&](const ReplayedStep& step) {
        digests[step.step] = step.weights_sha256;
        CHECK_THAT(ToJsonLine(step), Contains("policy_loss"));
      });
  INFO(status);
  REQUIRE(status.ok());
  CHECK(digests == learner.ledger->committed);
}

TEST_CASE("A replay refuses what cannot be trained on", "[learner]") {
  auto trainer = *PolicyTrainer::Create(ToyTask::Model(), ToyTask::Options(),
                                        Clock::Real());
  const auto refused = [&](const std::vector<TrainingSample>& samples) {
    const absl::Status status = ReplaySteps(
        *trainer, samples, [](const ReplayedStep&) { FAIL("trained"); });
    CHECK(absl::IsInvalidArgument(status));
    return Message(status);
  };
  auto samples = ToyTask::Sample(trainer->model(), 2, 1);
  for (auto& sample : ToyTask::Sample(trainer->model(), 1, 1)) {
    samples.push_back(sample);
  }
  CHECK_THAT(refused(samples), Contains("sort them by step"));
  samples.resize(1);
  samples[0].rollout.spans[0].policy_version = 2;
  CHECK_THAT(refused(samples), Contains("policy version 2"));
  samples[0].rollout.spans[0].policy_version = 1;
  samples[0].rollout.logprobs[0] = 0.5F;
  CHECK_THAT(refused(samples), Contains("logprobs"));
}

TEST_CASE("Replay leaves a folder alone that is not empty", "[learner]") {
  const TemporaryDirectory dir;
  std::ofstream(dir.path / "notes") << "mine";
  const ReplayOptions options{.config = {},
                              .rollouts = dir.path / "none.jsonl",
                              .output = dir.path,
                              .checkpoint = {}};
  CHECK(absl::IsAlreadyExists(Replay(options, [](const ReplayedStep&) {})));
  CHECK(fs::exists(dir.path / "notes"));
}

TEST_CASE("A replay that is refused leaves no folder behind", "[learner]") {
  const TemporaryDirectory dir;
  const ReplayOptions options{.config = {},
                              .rollouts = dir.path / "none.jsonl",
                              .output = dir.path / "out",
                              .checkpoint = {}};
  CHECK_FALSE(Replay(options, [](const ReplayedStep&) {}).ok());
  CHECK_FALSE(fs::exists(options.output));
}

}  // namespace mpo::policy_learner
