// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/rank_orders.h"

#include <torch/torch.h>

#include <catch2/catch.hpp>
#include <thread>

#include "mpo/collective/remote_membership.h"
#include "mpo/v1/learner_group_service.pb.h"
#include "services/policy_learner/learner_group.h"
#include "services/policy_learner/parallel_checks.h"
#include "services/policy_learner/trainer_checks.h"
#include "services/policy_learner/wire.h"
#include "tests/support/temporary_directory.h"

namespace mpo::policy_learner {
namespace {

using Catch::Contains;

// Rank 0 as the learner has it, and rank 1 following on a thread.
struct Fixture {
  explicit Fixture(const TrainerOptions& options)
      : two(options, 2, /*gloo=*/true),
        giver(*two.group.groups[0], two.group.rendezvous()) {
    two.trainers[0]->OnWork(
        [this](const PolicyTrainer::Work& work) { return giver.Give(work); });
    follower = std::jthread([this](std::stop_token stop) {
      followed = FollowOrders(*two.group.groups[1], *two.trainers[1], stop);
    });
  }
  absl::Status Join() {
    follower.join();
    return followed;
  }

  ParallelTrainers two;
  OrderGiver giver;
  absl::Status followed = absl::UnknownError("not yet");
  std::jthread follower;
};

TEST_CASE("The other ranks do what rank 0 does, step by step", "[learner]") {
  const TrainerOptions options = ToyTask::Options();
  const TemporaryDirectory directory;
  Fixture f(options);
  PolicyTrainer& zero = *f.two.trainers[0];
  for (int64_t step = 1; step <= 2; ++step) {
    REQUIRE(zero.Train(step, ToyTask::Sample(zero.model(), step, 1)).ok());
  }
  REQUIRE(zero.Save(directory.path).ok());
  const std::string saved = Digest(zero);
  REQUIRE(zero.Train(3, ToyTask::Sample(zero.model(), 3, 1)).ok());
  CHECK(Digest(zero) != saved);
  REQUIRE(zero.Load(directory.path).ok());
  CHECK(Digest(zero) == saved);
  REQUIRE(f.giver.End().ok());
  CHECK(f.Join().ok());
  CHECK(Digest(*f.two.trainers[1]) == saved);
}

TEST_CASE("A step larger than one value is sent in parts", "[learner]") {
  Fixture f(ToyTask::Options());
  PolicyTrainer& zero = *f.two.trainers[0];
  auto samples = ToyTask::Sample(zero.model(), 1, 1);
  // 32 samples of 0.3 MB each.
  for (auto& sample : samples) sample.rollout.text.assign(300'000, 'x');
  REQUIRE(zero.Train(1, samples).ok());
  REQUIRE(f.giver.End().ok());
  CHECK(f.Join().ok());
  CHECK(Digest(*f.two.trainers[1]) == Digest(zero));
}

TEST_CASE("A sample survives the way to another rank", "[learner]") {
  const auto trainer = NewTrainer(ToyTask::Options());
  for (const TrainingSample& sample : ToyTask::Sample(trainer->model(), 1, 1)) {
    const auto back = SampleFromProto(SampleToProto(sample));
    REQUIRE(back.ok());
    CHECK(*back == sample);
    TrainingSample with = sample;
    with.trunk = std::make_shared<Trunk>(Trunk{1, {1.5F, 2}});
    const auto trunk = SampleFromProto(SampleToProto(with));
    REQUIRE(trunk.ok());
    CHECK(*trunk->trunk == *with.trunk);
  }
}

TEST_CASE("Following ends with the group, a stop or an order nobody knows",
          "[learner]") {
  Fixture f(ToyTask::Options());
  SECTION("the group") {
    f.two.group.rendezvous().End(absl::UnavailableError("rank 2 is gone"));
    const absl::Status end = f.Join();
    CHECK(absl::IsUnavailable(end));
    CHECK_THAT(std::string(end.message()), Contains("rank 2 is gone"));
    const auto failed = f.two.trainers[0]->Train(
        1, ToyTask::Sample(f.two.trainers[0]->model(), 1, 1));
    CHECK(absl::IsUnavailable(failed.status()));
    CHECK_THAT(std::string(failed.status().message()),
               Contains("order 1 on rank 0: rank 2 is gone"));
  }
  SECTION("a stop") {
    f.follower.request_stop();
    CHECK(absl::IsCancelled(f.Join()));
  }
  SECTION("an unknown order") {
    v1::LearnerOrder order;
    order.set_step(1);
    REQUIRE(f.two.group.rendezvous()
                .Put("order/1/head", order.SerializeAsString())
                .ok());
    CHECK(absl::IsInvalidArgument(f.Join()));
  }
  SECTION("bytes that are no order") {
    REQUIRE(f.two.group.rendezvous().Put("order/1/head", "\xff").ok());
    CHECK(absl::IsDataLoss(f.Join()));
  }
}

TEST_CASE("A learner's group forms over its address", "[learner]") {
  auto server = collective::RendezvousServer::Start({}, Clock::Real());
  REQUIRE(server.ok());
  LearnerGroup::Options options = {
      .ranks = 2,
      .address = absl::StrCat("127.0.0.1:", (*server)->port()),
      .config_sha256 = "c",
      .incarnation = "i",
      .join = absl::Seconds(60)};
  SECTION("rank 0's address is taken") {
    const auto taken = LearnerGroup::Form(options, Clock::Real());
    CHECK(absl::IsUnavailable(taken.status()));
    CHECK_THAT(std::string(taken.status().message()),
               Contains("cannot listen on"));
  }
  SECTION("a rank beyond the configuration") {
    options.rank = 2;
    const auto wrong = LearnerGroup::Form(options, Clock::Real());
    CHECK(absl::IsInvalidArgument(wrong.status()));
    CHECK_THAT(std::string(wrong.status().message()),
               Contains("--rank: expected one in [0, 2)"));
  }
  SECTION("a rank that never comes") {
    options.listen = "127.0.0.1:0";
    options.join = absl::Milliseconds(10);
    const auto alone = LearnerGroup::Form(options, Clock::Real());
    CHECK(absl::IsDeadlineExceeded(alone.status()));
    CHECK_THAT(std::string(alone.status().message()),
               Contains("of 2 ranks these did not join within 10ms: 1"));
  }
  SECTION("both are there") {
    // The port is free again once nobody listens.
    (*server).reset();
    std::vector<std::unique_ptr<LearnerGroup>> formed(2);
    collective::OnEachRank(2, [&](int rank) {
      LearnerGroup::Options own = options;
      own.rank = rank;
      auto made = LearnerGroup::Form(own, Clock::Real());
      CHECK(made.ok());
      if (made.ok()) formed[rank] = *std::move(made);
    });
    REQUIRE(formed[0] != nullptr);
    REQUIRE(formed[1] != nullptr);
    CHECK(formed[0]->book() != nullptr);
    CHECK(formed[1]->book() == nullptr);
    CHECK(formed[1]->group()->rank() == 1);
  }
}

}  // namespace
}  // namespace mpo::policy_learner
