// SPDX-License-Identifier: Apache-2.0
#include "services/meta_reward_server/refinement_engine.h"

#include <prometheus/text_serializer.h>

#include <catch2/catch.hpp>
#include <future>

#include "services/meta_reward_server/review_rules.h"

namespace mpo::meta_reward_server {
namespace {

using Result = absl::StatusOr<RefinementProposal>;

// Holds each refinement until the test lets it go or it is stopped.
class HeldRefiner final : public Refiner {
 public:
  Result Refine(const RefinementRequest& request, const ProgressSink& progress,
                std::stop_token stop) override {
    progress({"analyse", 0, 1});
    MutexLock lock(mu_);
    ++calls_;
    changed_.NotifyAll();
    const bool go = changed_.WaitFor(
        mu_, stop, absl::Seconds(30),
        [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return released_ > 0; });
    if (!go) return absl::CancelledError("stopped");
    --released_;
    if (!failure_.ok()) return failure_;
    RefinementProposal proposal;
    proposal.rubric = request.rubric;
    proposal.memory = request.id;
    return proposal;
  }

  void Release(absl::Status failure = absl::OkStatus()) {
    MutexLock lock(mu_);
    ++released_;
    failure_ = std::move(failure);
    changed_.NotifyAll();
  }

  int WaitForCalls(int n) {
    MutexLock lock(mu_);
    changed_.WaitFor(
        mu_, std::stop_token(), absl::Seconds(30),
        [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return calls_ >= n; });
    return calls_;
  }

 private:
  Mutex mu_;
  CondVar changed_;
  int calls_ ABSL_GUARDED_BY(mu_) = 0;
  int released_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Status failure_ ABSL_GUARDED_BY(mu_);
};

RefinementRequest Request(const std::string& id) {
  RefinementRequest request;
  request.id = id;
  request.rubric.criteria = {MakeCriterion("a", "A", "a", "words", 0, 9)};
  request.recent.resize(1);
  return request;
}

struct Waiter {
  std::promise<Result> promise;
  std::future<Result> result = promise.get_future();
  RefinementListener Listener() {
    return {nullptr, [this](const Result& r) { promise.set_value(r); }};
  }
};

struct Fixture {
  prometheus::Registry registry;
  MetaRewardMetrics metrics{registry};
  FakeClock clock;
  HeldRefiner refiner;
};

TEST_CASE("A refinement runs once for its id, whoever asks and when",
          "[meta]") {
  Fixture f;
  RefinementEngine engine(f.refiner, {}, f.metrics, f.clock);
  Waiter first, joined, late;
  REQUIRE(engine.Start(Request("a"), first.Listener()).ok());
  REQUIRE(engine.Start(Request("a"), joined.Listener()).ok());
  f.refiner.Release();
  CHECK(first.result.get()->memory == "a");
  CHECK(joined.result.get()->memory == "a");
  REQUIRE(engine.Start(Request("a"), late.Listener()).ok());
  CHECK(late.result.get()->memory == "a");
  CHECK(f.refiner.WaitForCalls(1) == 1);
  CHECK(f.metrics.joined.Value() == 2);
}

TEST_CASE("A failed refinement is not remembered", "[meta]") {
  Fixture f;
  RefinementEngine engine(f.refiner, {}, f.metrics, f.clock);
  Waiter first, second;
  REQUIRE(engine.Start(Request("a"), first.Listener()).ok());
  f.refiner.Release(absl::UnavailableError("judge is down"));
  CHECK(absl::IsUnavailable(first.result.get().status()));
  REQUIRE(engine.Start(Request("a"), second.Listener()).ok());
  f.refiner.Release();
  CHECK(second.result.get().ok());
  CHECK(f.refiner.WaitForCalls(2) == 2);
  const std::string text =
      prometheus::TextSerializer().Serialize(f.registry.Collect());
  CHECK_THAT(
      text,
      Catch::Contains("mpo_meta_refinements_total{outcome=\"unavailable\"} 1"));
}

TEST_CASE("A refinement that every listener left is stopped and starts afresh",
          "[meta]") {
  Fixture f;
  RefinementEngine engine(f.refiner, {}, f.metrics, f.clock);
  Waiter gone, next;
  auto ticket = engine.Start(Request("a"), gone.Listener());
  REQUIRE(ticket.ok());
  f.refiner.WaitForCalls(1);
  engine.Leave(*ticket);
  engine.Leave(*ticket);  // Twice does no harm.
  REQUIRE(engine.Start(Request("a"), next.Listener()).ok());
  f.refiner.WaitForCalls(2);
  f.refiner.Release();
  CHECK(next.result.get().ok());
  CHECK(gone.result.wait_for(std::chrono::seconds(0)) ==
        std::future_status::timeout);
}

TEST_CASE("A refinement goes on while one listener stays", "[meta]") {
  Fixture f;
  RefinementEngine engine(f.refiner, {}, f.metrics, f.clock);
  Waiter gone, stays;
  auto ticket = engine.Start(Request("a"), gone.Listener());
  REQUIRE(engine.Start(Request("a"), stays.Listener()).ok());
  f.refiner.WaitForCalls(1);
  engine.Leave(*ticket);
  f.refiner.Release();
  CHECK(stays.result.get().ok());
}

TEST_CASE("The engine refuses what it cannot run", "[meta]") {
  Fixture f;
  RefinementEngineOptions options;
  options.queue_capacity = 1;
  RefinementEngine engine(f.refiner, options, f.metrics, f.clock);
  Waiter running, queued, unused;
  const auto code = [&](RefinementRequest request) {
    return engine.Start(std::move(request), unused.Listener()).status().code();
  };
  CHECK(code(Request("")) == absl::StatusCode::kInvalidArgument);
  RefinementRequest bare = Request("x");
  bare.recent.clear();
  CHECK(code(bare) == absl::StatusCode::kInvalidArgument);
  bare = Request("x");
  bare.rubric.criteria.clear();
  CHECK(code(bare) == absl::StatusCode::kInvalidArgument);

  REQUIRE(engine.Start(Request("a"), running.Listener()).ok());
  f.refiner.WaitForCalls(1);
  RefinementRequest other = Request("a");
  other.step = 7;
  CHECK(code(other) == absl::StatusCode::kInvalidArgument);
  REQUIRE(engine.Start(Request("b"), queued.Listener()).ok());
  CHECK(code(Request("c")) == absl::StatusCode::kResourceExhausted);

  engine.Stop();
  CHECK(absl::IsUnavailable(running.result.get().status()));
  CHECK(absl::IsUnavailable(queued.result.get().status()));
  CHECK(code(Request("d")) == absl::StatusCode::kUnavailable);
}

TEST_CASE("Old proposals are forgotten", "[meta]") {
  Fixture f;
  RefinementEngineOptions options;
  options.remembered = 1;
  RefinementEngine engine(f.refiner, options, f.metrics, f.clock);
  for (const char* id : {"a", "b", "a"}) {
    Waiter waiter;
    REQUIRE(engine.Start(Request(id), waiter.Listener()).ok());
    f.refiner.Release();
    CHECK(waiter.result.get().ok());
  }
  CHECK(f.refiner.WaitForCalls(3) == 3);
}

}  // namespace
}  // namespace mpo::meta_reward_server
