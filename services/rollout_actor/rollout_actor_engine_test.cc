// SPDX-License-Identifier: Apache-2.0
#include "services/rollout_actor/rollout_actor_engine.h"

#include <future>
#include <thread>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "services/rollout_actor/actor_fixture.h"

namespace mpo::rollout_actor {
namespace {

TEST_CASE("The actor makes a unit: weights, judging, hand-over, report",
          "[rollout_actor]") {
  ActorFixture f;
  f.peers.Publish(f.Weights(0));
  f.peers.Lease(f.Unit("training/1/0", 0));
  f.Start();
  REQUIRE(f.peers.Await("complete"));
  CHECK(f.peers.FirstOf("weights") < f.peers.FirstOf("score"));
  CHECK(f.peers.FirstOf("score") < f.peers.FirstOf("submit"));
  CHECK(f.peers.FirstOf("submit") < f.peers.FirstOf("complete"));
  const auto outcomes = f.peers.completed().at(0).samples;
  const auto rollouts = f.peers.submitted();
  REQUIRE(outcomes.size() == 3);
  REQUIRE(rollouts.size() == 3);
  for (int i = 0; i < 3; ++i) {
    const Rollout& rollout = rollouts[i].rollout;
    CHECK(outcomes[i].sample_key == absl::StrCat("training/1/0#", i));
    CHECK(rollout.sample_key == outcomes[i].sample_key);
    CHECK(outcomes[i].verdict.scored);
    CHECK(outcomes[i].monitor.has_value());
    CHECK(rollout.logprobs.size() == rollout.response_tokens.size());
    CHECK(outcomes[i].response_tokens ==
          static_cast<int>(rollout.response_tokens.size()));
    CHECK(rollout.spans ==
          std::vector<TokenSpan>{{0, outcomes[i].response_tokens, 0}});
    CHECK(rollout.temperature == 0.8);
    CHECK(rollout.group == "p");
    CHECK(outcomes[i].base->mean_logprob < 0);
    CHECK(outcomes[i].base->worst_window_surprise >=
          -outcomes[i].base->mean_logprob - 1e-6);
    CHECK(std::isfinite(outcomes[i].base->subject_gain));
    CHECK(f.peers.scored()[i].base_mean_logprob ==
          outcomes[i].base->mean_logprob);
  }
  REQUIRE(f.engine->Finish(absl::Seconds(60)).ok());
  CHECK(f.metrics.units_completed.Value() == 1);
  CHECK(f.metrics.rollouts_scored.Value() == 3);
  CHECK(f.engine->Status().generated_tokens > 0);
}

TEST_CASE("The same unit gives the same rollouts whoever makes it",
          "[rollout_actor]") {
  std::vector<JudgedRollout> first;
  for (int run = 0; run < 2; ++run) {
    ActorFixture f;
    f.peers.Publish(f.Weights(0));
    // What was made before does not matter.
    if (run == 1) f.peers.Lease(f.Unit("training/9/0", 0, 2));
    f.peers.Lease(f.Unit("training/1/0", 0));
    f.Start();
    REQUIRE(f.peers.Await("complete", run + 1));
    auto made = f.peers.submitted();
    made.erase(made.begin(), made.end() - 3);
    if (run == 0) {
      first = made;
    } else {
      for (int i = 0; i < 3; ++i) CHECK(first[i].rollout == made[i].rollout);
    }
  }
}

TEST_CASE("Rollouts carry their trunks where the learner asks for them",
          "[rollout_actor]") {
  const bool asked = GENERATE(false, true);
  ActorFixture f;
  UnitTools tools = f.Tools();
  tools.submit_trunks = asked;
  UnitRunner runner(tools, f.options.retry);
  f.peers.Publish(f.Weights(0));
  REQUIRE(runner.Run(f.Unit("training/1/0", 0), {}).ok());
  const auto made = f.peers.submitted();
  REQUIRE(made.size() == 3);
  for (const JudgedRollout& one : made) {
    REQUIRE((one.trunk != nullptr) == asked);
    if (!asked) continue;
    const size_t tokens = one.rollout.prompt_tokens.size() +
                          one.rollout.response_tokens.size() - 1;
    CHECK(one.trunk->layer == 1);
    CHECK(one.trunk->inputs.size() == tokens * TinyConfig().hidden_size);
  }
}

TEST_CASE("An evaluation unit is not handed to the learner",
          "[rollout_actor]") {
  ActorFixture f;
  f.peers.Publish(f.Weights(0));
  WorkUnit unit = f.Unit("evaluation/8/0", 0);
  unit.kind = WorkKind::kEvaluation;
  f.peers.Lease(unit);
  f.Start();
  REQUIRE(f.peers.Await("complete"));
  CHECK(f.peers.Count("submit") == 0);
}

TEST_CASE("Weights are fetched when a unit needs newer ones, and only then",
          "[rollout_actor]") {
  ActorFixture f;
  f.peers.Publish(f.Weights(0));
  f.peers.Lease(f.Unit("training/1/0", 0));
  f.peers.Lease(f.Unit("training/1/1", 0));
  f.peers.Lease(f.Unit("training/2/0", 1));
  f.Start();
  REQUIRE(f.peers.Await("complete", 2));
  CHECK(f.peers.Count("weights >= 0") == 1);
  f.peers.Publish(f.Weights(1));
  REQUIRE(f.peers.Await("complete", 3));
  CHECK(f.peers.completed().at(2).samples[0].policy_version == 1);
  REQUIRE(f.peers.Await("heartbeat member-1 v1"));
  CHECK(f.metrics.weights_version.Value() == 1);
}

TEST_CASE("Corrupt weights are refused and fetched again", "[rollout_actor]") {
  ActorFixture f;
  f.peers.Fail("weights", {absl::DataLossError("tensor 'a': digest")});
  f.peers.Publish(f.Weights(0, std::numeric_limits<float>::quiet_NaN()));
  f.peers.Publish(f.Weights(0));
  f.peers.Lease(f.Unit("training/1/0", 0));
  f.Start();
  REQUIRE(f.peers.Await("complete"));
  CHECK(f.peers.Count("weights") == 3);
  CHECK(f.metrics.weights_verify_failures.Value() == 2);
}

TEST_CASE("Weights that can never fit give the unit back", "[rollout_actor]") {
  ActorFixture f;
  FetchedWeights odd = f.Weights(0);
  odd.tensors.pop_back();
  f.peers.Publish(odd);
  f.peers.Lease(f.Unit("training/1/0", 0));
  f.Start();
  REQUIRE(f.peers.Await("return training/1/0"));
  CHECK(f.peers.Count("complete") == 0);
  CHECK(f.policy->version() == PolicyReplica::kNone);
}

TEST_CASE("A reward server that is away delays and never becomes a score",
          "[rollout_actor]") {
  ActorFixture f;
  f.peers.Publish(f.Weights(0));
  f.peers.Fail("score", {absl::UnavailableError("connection refused"),
                         absl::DeadlineExceededError("slow"),
                         absl::InternalError("2 verdicts for 3 items")});
  f.peers.Lease(f.Unit("training/1/0", 0));
  f.Start();
  REQUIRE(f.peers.Await("complete"));
  CHECK(f.peers.Count("score") == 4);
  for (const auto& one : f.peers.submitted()) CHECK(one.verdict.scored);
}

TEST_CASE("An unknown rubric gives the unit back", "[rollout_actor]") {
  ActorFixture f;
  f.peers.Publish(f.Weights(0));
  f.peers.Fail("score", {absl::FailedPreconditionError("no such rubric")});
  f.peers.Lease(f.Unit("training/1/0", 0));
  f.Start();
  REQUIRE(f.peers.Await("return training/1/0"));
  CHECK(f.peers.Count("submit") == 0);
  CHECK(absl::StrContains(f.peers.events().back(), "no such rubric") ==
        (f.peers.events().back().rfind("return", 0) == 0));
}

TEST_CASE("A learner that is away delays the hand-over", "[rollout_actor]") {
  ActorFixture f;
  f.peers.Publish(f.Weights(0));
  f.peers.Fail("submit", {absl::UnavailableError("gone"),
                          absl::ResourceExhaustedError("spool full")});
  f.peers.Fail("complete", {absl::UnavailableError("gone"),
                            absl::NotFoundError("unknown member")});
  f.peers.Lease(f.Unit("training/1/0", 0));
  f.Start();
  REQUIRE(f.peers.Await("complete", 3));
  CHECK(f.peers.Count("submit") == 3);
  CHECK(f.peers.submitted().size() == 3);
  CHECK(f.peers.Count("register") == 2);
}

TEST_CASE("A failed generation is unscorable and never judged",
          "[rollout_actor]") {
  ActorFixture f;
  f.peers.Publish(f.Weights(0));
  WorkUnit unit = f.Unit("training/1/0", 0);
  unit.samples[1].prompt.messages[0].content = std::string(400, 'x');
  f.peers.Lease(unit);
  f.Start();
  REQUIRE(f.peers.Await("complete"));
  CHECK(f.peers.scored().size() == 2);
  const auto outcomes = f.peers.completed().at(0).samples;
  CHECK(outcomes[0].verdict.scored);
  CHECK_FALSE(outcomes[1].verdict.scored);
  CHECK(outcomes[1].verdict.reason == UnscorableReason::kInvalidResponse);
  CHECK(outcomes[1].verdict.rubric_sha256 == unit.rubric_sha256);
  CHECK(outcomes[1].monitor->rubric_sha256 == unit.monitor_rubric_sha256);
  CHECK(outcomes[1].finish_reason == FinishReason::kFailed);
  CHECK_FALSE(outcomes[1].base.has_value());
  CHECK(f.peers.submitted().size() == 3);
  CHECK(f.metrics.rollouts_failed.Value() == 1);
}

TEST_CASE("A lost lease stops the unit", "[rollout_actor]") {
  ActorFixture f;
  f.peers.Publish(f.Weights(0));
  f.peers.HangScore(true);
  f.peers.Lease(f.Unit("training/1/0", 0));
  f.Start();
  REQUIRE(f.peers.Await("score"));
  f.peers.LoseLease("training/1/0");
  REQUIRE(f.peers.Await("lease", f.peers.Count("lease") + 1));
  CHECK(f.metrics.lease_expired.Value() >= 1);
  CHECK(f.metrics.units_lost.Value() == 1);
  CHECK(f.peers.Count("complete") == 0);
  CHECK(f.peers.Count("return") == 0);
}

TEST_CASE("A lapsed membership is renewed while a unit is in hand",
          "[rollout_actor]") {
  ActorFixture f;
  f.peers.Publish(f.Weights(0));
  f.peers.Fail("lease", {absl::NotFoundError("unknown member")});
  f.peers.Fail("heartbeat", {absl::UnavailableError("restarting"),
                             absl::NotFoundError("unknown member")});
  f.peers.Lease(f.Unit("training/1/0", 0));
  f.Start();
  REQUIRE(f.peers.Await("complete"));
  REQUIRE(f.peers.Await("register", 3));
}

TEST_CASE("An orchestrator that refuses the actor is a failure",
          "[rollout_actor]") {
  ActorFixture f;
  f.peers.Fail("register", {absl::UnavailableError("not yet"),
                            absl::FailedPreconditionError("other config")});
  f.Start();
  REQUIRE(f.peers.Await("register", 2));
  // The refusal has been given but perhaps not yet taken; a Finish before that
  // would end the engine in order.
  const absl::Time latest = absl::Now() + absl::Seconds(30);
  while (f.engine->failure().ok() && absl::Now() < latest) {
    std::this_thread::yield();
  }
  CHECK(f.engine->Finish(absl::Seconds(30)).ok());
  CHECK(f.engine->failure().code() == absl::StatusCode::kFailedPrecondition);
}

TEST_CASE("Finish lets a short unit end", "[rollout_actor]") {
  ActorFixture f;
  f.peers.Publish(f.Weights(0));
  f.peers.Lease(f.Unit("training/1/0", 0));
  f.Start();
  REQUIRE(f.peers.Await("score"));
  CHECK(f.engine->Finish(absl::Seconds(60)).ok());
  CHECK(f.peers.Count("complete") == 1);
  CHECK(f.peers.Count("return") == 0);
}

TEST_CASE("Finish gives a long unit back", "[rollout_actor]") {
  ActorFixture f;
  f.options.hand_back_after = absl::Milliseconds(10);
  f.peers.Publish(f.Weights(0));
  f.peers.HangScore(true);
  f.peers.Lease(f.Unit("training/1/0", 0));
  f.Start();
  REQUIRE(f.peers.Await("score"));
  CHECK(f.engine->Finish(absl::Seconds(60)).ok());
  CHECK(f.peers.Count("return training/1/0") == 1);
  CHECK(f.peers.Count("complete") == 0);
}

TEST_CASE("Finish ends in time although nobody answers", "[rollout_actor]") {
  ActorFixture f;
  f.peers.Fail("register",
               std::vector<absl::Status>(100'000, absl::UnavailableError("x")));
  f.Start();
  REQUIRE(f.peers.Await("register", 3));
  CHECK(f.engine->Finish(absl::Seconds(30)).ok());
}

TEST_CASE("A drained actor leases no more and still answers Generate",
          "[rollout_actor]") {
  ActorFixture f;
  f.peers.Publish(f.Weights(0));
  f.Start();
  REQUIRE(f.peers.Await("lease"));
  f.engine->Drain();
  f.engine->Drain();
  CHECK(f.engine->Status().draining);
  std::promise<absl::Status> done;
  std::vector<GeneratedResponse> responses;
  GenerateJob job;
  job.prompts = {f.Unit("u", 0).samples[0].prompt};
  job.sampling.max_new_tokens = 4;
  REQUIRE(f.engine
              ->Generate(
                  job, {}, [&](GeneratedResponse r) { responses.push_back(r); },
                  [&](absl::Status s) { done.set_value(s); })
              .ok());
  CHECK(done.get_future().get().ok());
  REQUIRE(responses.size() == 1);
  CHECK(responses[0].prompt_id == "p");
  CHECK(responses[0].policy_version == 0);
  f.peers.Lease(f.Unit("training/1/0", 0));
  CHECK(f.engine->Finish(absl::Seconds(30)).ok());
  CHECK(f.peers.Count("complete") == 0);
  CHECK(f.engine->Generate(job, {}, nullptr, nullptr).code() ==
        absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace mpo::rollout_actor
