// SPDX-License-Identifier: Apache-2.0
#include "services/reward_server/reward_engine.h"

#include <catch2/catch.hpp>
#include <future>

#include "mpo/judge/embedded_judge.h"
#include "mpo/rubric/rubric_yaml.h"

namespace mpo::reward_server {
namespace {

using Catch::Contains;

Rubric Make(const std::string& id, double saturate_at) {
  Rubric rubric;
  rubric.id = id;
  Criterion length;
  length.id = "length";
  length.text = "How long?";
  length.check =
      Check{.name = "words", .zero_at = 0, .saturate_at = saturate_at};
  rubric.criteria = {length};
  return rubric;
}

class FakeSource final : public RubricSource {
 public:
  absl::StatusOr<Rubric> Fetch(const std::string& sha256,
                               std::stop_token) override {
    ++fetches;
    if (!status.ok()) return status;
    const auto found = rubrics.find(sha256);
    if (found == rubrics.end()) return absl::NotFoundError("unknown");
    return found->second;
  }
  std::map<std::string, Rubric> rubrics;
  absl::Status status;
  int fetches = 0;
};

// Blocks until it is let go or stopped.
class SlowJudge final : public judge::Judge {
 public:
  void Score(const Rubric&, const std::vector<judge::JudgeItem>& items,
             std::stop_token stop, const Callback& done) override {
    {
      MutexLock lock(mu);
      ++running;
      changed.NotifyAll();
      changed.WaitFor(mu, stop, absl::Seconds(30), [this] { return go; });
    }
    for (size_t i = 0; i < items.size(); ++i) {
      done(i, judge::Unscorable(UnscorableReason::kJudgeTimeout, "slow"));
    }
  }
  std::string name() const override { return "slow"; }
  void AwaitRunning(int count) {
    MutexLock lock(mu);
    while (running < count) changed.Wait(mu);
  }

  Mutex mu;
  CondVar changed;
  int running = 0;
  bool go = false;
};

struct Result {
  std::map<std::string, Verdict> verdicts;
  std::map<std::string, Verdict> monitors;
  std::promise<absl::Status> done;
};

ScoreTask Task(Result& result, const std::string& rubric,
               const std::string& monitor = "") {
  ScoreTask task;
  task.keys = {"k1", "k2"};
  task.items.resize(2);
  task.items[0].response = "one two three";
  task.items[1].response = "one two three four five";
  task.rubric_sha256 = rubric;
  task.monitor_sha256 = monitor;
  task.on_verdict = [&result](const std::string& key, const Verdict& verdict,
                              const std::optional<Verdict>& second) {
    result.verdicts[key] = verdict;
    if (second.has_value()) result.monitors[key] = *second;
  };
  task.on_done = [&result](const absl::Status& status) {
    result.done.set_value(status);
  };
  return task;
}

struct Fixture {
  explicit Fixture(judge::Judge* other = nullptr,
                   const RewardEngineOptions& options = {})
      : engine(other == nullptr ? embedded : *other, source, metrics, clock,
               options) {}
  prometheus::Registry registry;
  RewardMetrics metrics{registry};
  FakeSource source;
  FakeClock clock;
  judge::EmbeddedJudge embedded;
  RewardEngine engine;
};

}  // namespace

TEST_CASE("RewardEngine judges a batch with an installed rubric", "[reward]") {
  Fixture f;
  const auto rubric = f.engine.Install(Make("a", 5));
  REQUIRE(rubric.ok());
  Result result;
  REQUIRE(f.engine.Submit(Task(result, *rubric)).ok());
  REQUIRE(result.done.get_future().get().ok());
  CHECK(result.verdicts.at("k1").raw == 3);
  CHECK(result.verdicts.at("k2").raw == 5);
  CHECK(result.verdicts.at("k1").rubric_sha256 == *rubric);
  CHECK(result.monitors.empty());
}

TEST_CASE("RewardEngine scores under the monitor rubric too", "[reward]") {
  Fixture f;
  const std::string active = *f.engine.Install(Make("a", 5));
  const std::string initial = *f.engine.Install(Make("b", 10));
  Result other;
  REQUIRE(f.engine.Submit(Task(other, active, initial)).ok());
  REQUIRE(other.done.get_future().get().ok());
  CHECK(other.verdicts.at("k2").reward == 1);
  CHECK(other.monitors.at("k2").reward == Approx(0.6));
  CHECK(other.monitors.at("k2").rubric_sha256 == initial);
  Result same;
  REQUIRE(f.engine.Submit(Task(same, initial, initial)).ok());
  REQUIRE(same.done.get_future().get().ok());
  CHECK(same.monitors.at("k2") == same.verdicts.at("k2"));
}

TEST_CASE("RewardEngine fetches a rubric it does not know, once", "[reward]") {
  Fixture f;
  const Rubric rubric = Make("a", 5);
  const std::string sha256 = rubric::Sha256Of(rubric);
  f.source.rubrics[sha256] = rubric;
  for (int i = 0; i < 2; ++i) {
    Result result;
    REQUIRE(f.engine.Submit(Task(result, sha256)).ok());
    CHECK(result.done.get_future().get().ok());
  }
  CHECK(f.source.fetches == 1);
  CHECK(f.engine.Find(sha256).ok());
}

TEST_CASE("RewardEngine says why a rubric cannot be had", "[reward]") {
  Fixture f;
  const auto code = [&](const std::string& sha256) {
    Result result;
    REQUIRE(f.engine.Submit(Task(result, sha256)).ok());
    const absl::Status status = result.done.get_future().get();
    CHECK(result.verdicts.empty());
    return status.code();
  };
  CHECK(code("nobody") == absl::StatusCode::kFailedPrecondition);
  f.source.rubrics["wrong"] = Make("a", 5);
  CHECK(code("wrong") == absl::StatusCode::kFailedPrecondition);
  f.source.status = absl::UnavailableError("gone");
  CHECK(code("other") == absl::StatusCode::kUnavailable);
  CHECK(absl::IsNotFound(f.engine.Find("other").status()));
}

TEST_CASE("RewardEngine lists every problem of a rubric", "[reward]") {
  Fixture f;
  Rubric rubric = Make("a", 5);
  rubric.criteria.push_back(rubric.criteria[0]);
  rubric.criteria[1].check->name = "magic";
  rubric.criteria.push_back(rubric.criteria[0]);
  rubric.criteria[2].id = "taste";
  rubric.criteria[2].check = std::nullopt;
  rubric.aggregation = Aggregation::kImplicit;
  const auto installed = f.engine.Install(rubric);
  CHECK(absl::IsInvalidArgument(installed.status()));
  CHECK_THAT(std::string(installed.status().message()),
             Contains("used twice") && Contains("magic") &&
                 Contains("taste: expected a check") && Contains("implicit"));
  Fixture http(nullptr, {.needs_checks = false});
  Rubric plain = Make("a", 5);
  plain.criteria[0].check = std::nullopt;
  CHECK(http.engine.Install(plain).ok());
}

TEST_CASE("RewardEngine refuses malformed batches", "[reward]") {
  Fixture f;
  Result result;
  ScoreTask twice = Task(result, "r");
  twice.keys[1] = "k1";
  CHECK(absl::IsInvalidArgument(f.engine.Submit(std::move(twice))));
  ScoreTask none = Task(result, "r");
  none.keys.clear();
  none.items.clear();
  CHECK(absl::IsInvalidArgument(f.engine.Submit(std::move(none))));
  CHECK(absl::IsInvalidArgument(f.engine.Submit(Task(result, ""))));
}

TEST_CASE("RewardEngine bounds what waits and cancels when stopped",
          "[reward]") {
  SlowJudge slow;
  Fixture f(&slow, {.workers = 1, .queue = 1});
  const std::string rubric = *f.engine.Install(Make("a", 5));
  Result running, waiting, refused;
  REQUIRE(f.engine.Submit(Task(running, rubric)).ok());
  slow.AwaitRunning(1);
  REQUIRE(f.engine.Submit(Task(waiting, rubric)).ok());
  CHECK(absl::IsResourceExhausted(f.engine.Submit(Task(refused, rubric))));
  f.engine.Stop();
  CHECK(absl::IsCancelled(running.done.get_future().get()));
  CHECK(absl::IsCancelled(waiting.done.get_future().get()));
  CHECK(absl::IsUnavailable(f.engine.Submit(Task(refused, rubric))));
}

TEST_CASE("RewardEngine ends a batch whose caller is gone", "[reward]") {
  SlowJudge slow;
  Fixture f(&slow, {.workers = 1});
  const std::string rubric = *f.engine.Install(Make("a", 5));
  Result result;
  std::stop_source caller;
  ScoreTask task = Task(result, rubric);
  task.stop = caller.get_token();
  REQUIRE(f.engine.Submit(std::move(task)).ok());
  slow.AwaitRunning(1);
  caller.request_stop();
  CHECK(absl::IsCancelled(result.done.get_future().get()));
  CHECK(result.verdicts.empty());
}

}  // namespace mpo::reward_server
