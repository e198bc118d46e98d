// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/learner_engine.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <future>
#include <thread>

#include "absl/strings/str_cat.h"
#include "mpo/base/file.h"
#include "services/policy_learner/engine_server.h"
#include "services/policy_learner/toy_mesh.h"
#include "tests/support/temporary_directory.h"

namespace mpo::policy_learner {
namespace {

using Catch::Contains;
namespace fs = std::filesystem;

constexpr int kSteps = 5;

TEST_CASE("The engine trains, checkpoints, publishes and commits every step",
          "[learner]") {
  const TemporaryDirectory dir;
  ToyLearner learner(dir.path, kSteps, ToyTask::Options());
  REQUIRE(learner.restored.ok());
  CHECK(learner.publisher.newest()->version() == 0);
  learner.ledger->unavailable = 2;
  learner.Start();
  REQUIRE(learner.Wait().ok());
  CHECK(learner.ledger->committed.size() == kSteps);
  CHECK(learner.publisher.newest()->version() == kSteps);
  CHECK(learner.publisher.newest()->sha256() ==
        learner.ledger->committed[kSteps]);
  for (const char* name : {"policy_loss", "value_loss", "kl", "entropy",
                           "clip_fraction", "grad_norm", "reward"}) {
    CHECK(learner.ledger->metrics.contains(name));
  }
  const LearnerStatus status = learner.engine->Status();
  CHECK(status.step == kSteps);
  CHECK(status.policy_version == kSteps);
  CHECK(status.phase == "idle");
  CHECK(status.weights_sha256 == learner.ledger->committed[kSteps]);
  // Only what the older of two checkpoints does not cover is kept.
  CHECK(status.spooled_rollouts == ToyTask::kPrompts * ToyTask::kGroup);
  CHECK(fs::exists(dir.path / "checkpoints" / "step_5" / "MANIFEST.json"));
  CHECK_FALSE(fs::exists(dir.path / "checkpoints" / "step_3"));
  CHECK(learner.engine->Limits().newest_version == kSteps);
}

std::unique_ptr<EnginePusher> Pusher(const InferenceEngine& engine,
                                     LearnerMetrics& metrics) {
  auto pusher =
      EnginePusher::Create({engine}, "no_tokenizer", ToyTask::Model(), metrics);
  INFO(pusher.status());
  REQUIRE(pusher.ok());
  return *std::move(pusher);
}

TEST_CASE("Every k-th version reaches an inference engine", "[learner]") {
  const TemporaryDirectory dir, shared;
  EngineServer server;
  InferenceEngine engine{.kind = InferenceEngine::Kind::kSglang,
                         .url = server.url(),
                         .directory = shared.path,
                         .every = kSteps,
                         .required = true};
  prometheus::Registry registry;
  LearnerMetrics metrics(registry);
  const auto pusher = Pusher(engine, metrics);
  ToyLearner learner(dir.path, kSteps, ToyTask::Options(), 1, {}, pusher.get());
  learner.Start();
  REQUIRE(learner.Wait().ok());
  // Training ends only when the engine has the last version.
  REQUIRE(server.calls().size() == 1);
  CHECK_THAT(server.calls()[0].body,
             Contains((shared.path / "step_5").string()));
  CHECK(metrics.engine_pushes_loaded.Value() == 1);
}

TEST_CASE("Only an engine that is required ends the run when it fails",
          "[learner]") {
  const bool required = GENERATE(false, true);
  const TemporaryDirectory dir, shared;
  EngineServer server({{.status = 400, .body = "no such model"}});
  InferenceEngine engine{.kind = InferenceEngine::Kind::kSglang,
                         .url = server.url(),
                         .directory = shared.path,
                         .required = required};
  prometheus::Registry registry;
  LearnerMetrics metrics(registry);
  const auto pusher = Pusher(engine, metrics);
  ToyLearner learner(dir.path, kSteps, ToyTask::Options(), 1, {}, pusher.get());
  learner.Start();
  const absl::Status end = learner.Wait();
  CHECK(end.ok() == !required);
  CHECK(metrics.engine_pushes_failed.Value() >= 1);
  if (!required) {
    CHECK(learner.ledger->committed.size() == kSteps);
  } else {
    CHECK_THAT(std::string(end.message()),
               Contains("the required engine " + server.url()) &&
                   Contains("HTTP 400: no such model"));
  }
}

TEST_CASE("A learner killed after any commit ends with the same weights",
          "[learner]") {
  const int checkpoint_every = GENERATE(1, 2, 3);
  const bool damaged = GENERATE(false, true);
  const TemporaryDirectory dir, copies;
  std::map<int64_t, std::string> committed;
  {
    ToyLearner learner(dir.path, kSteps, ToyTask::Options(), checkpoint_every);
    learner.ledger->on_commit = [&](int64_t step) {
      // What the disk holds if the process dies now.
      fs::copy(dir.path, copies.path / std::to_string(step),
               fs::copy_options::recursive);
    };
    learner.Start();
    REQUIRE(learner.Wait().ok());
    committed = learner.ledger->committed;
  }
  for (int64_t killed = 1; killed <= kSteps; ++killed) {
    const fs::path run = copies.path / std::to_string(killed);
    const int64_t newest = killed / checkpoint_every * checkpoint_every;
    if (damaged) {
      // With no other checkpoint to use that would be an error.
      if (newest < 2 * checkpoint_every) continue;
      fs::resize_file(run / "checkpoints" / absl::StrCat("step_", newest) /
                          "trainer.safetensors",
                      100);
    }
    std::map<int64_t, std::string> known(committed.begin(),
                                         committed.upper_bound(killed));
    ToyLearner learner(run, kSteps, ToyTask::Options(), checkpoint_every,
                       known);
    REQUIRE(learner.restored.ok());
    CHECK(learner.publisher.newest()->version() ==
          newest - (damaged ? checkpoint_every : 0));
    // Rollouts of the newest version are no surprise after falling back.
    CHECK(learner.engine->Limits().newest_version == killed);
    learner.Start();
    REQUIRE(learner.Wait().ok());
    CHECK(learner.ledger->committed == committed);
  }
}

TEST_CASE("Weights that differ from those committed stop the training",
          "[learner]") {
  const TemporaryDirectory dir;
  ToyLearner learner(dir.path, kSteps, ToyTask::Options(), 1, {{2, "abc"}});
  learner.Start();
  const absl::Status status = learner.Wait();
  CHECK(status.code() == absl::StatusCode::kFailedPrecondition);
  CHECK_THAT(std::string(status.message()),
             Contains("commit of step 2") && Contains("other weights"));
  CHECK(learner.engine->Status().step == 1);
}

TEST_CASE("A rollout that the spool lost ends the training with its name",
          "[learner]") {
  const TemporaryDirectory dir;
  ToyLearner learner(dir.path, kSteps, ToyTask::Options());
  learner.ledger->lose = 2;
  learner.Start();
  const absl::Status status = learner.Wait();
  CHECK(status.code() == absl::StatusCode::kDataLoss);
  CHECK_THAT(std::string(status.message()),
             Contains("step 2: 1 of ") && Contains("spool lost"));
  CHECK(learner.engine->Status().step == 1);
}

TEST_CASE("A run directory of another run is refused by the ledger",
          "[learner]") {
  const TemporaryDirectory dir;
  {
    ToyLearner learner(dir.path, 2, ToyTask::Options());
    learner.Start();
    REQUIRE(learner.Wait().ok());
  }
  ToyLearner learner(dir.path, 9, ToyTask::Options(), 1, {{2, "abc"}});
  REQUIRE(learner.restored.ok());
  learner.Start();
  CHECK(learner.Wait().code() == absl::StatusCode::kFailedPrecondition);
}

TEST_CASE("Restoring from damaged state is an error", "[learner]") {
  const TemporaryDirectory dir;
  {
    ToyLearner learner(dir.path, 1, ToyTask::Options());
    learner.Start();
    REQUIRE(learner.Wait().ok());
  }
  SECTION("all checkpoints") {
    fs::remove(dir.path / "checkpoints" / "step_1" / "MANIFEST.json");
    CHECK(ToyLearner(dir.path, 1, ToyTask::Options()).restored.code() ==
          absl::StatusCode::kDataLoss);
  }
  SECTION("version file") {
    std::ofstream(dir.path / "version") << "many";
    CHECK(ToyLearner(dir.path, 1, ToyTask::Options()).restored.code() ==
          absl::StatusCode::kDataLoss);
  }
}

TEST_CASE("Training waits for a disk that does not take the version",
          "[learner]") {
  const TemporaryDirectory dir;
  ToyLearner learner(dir.path, 2, ToyTask::Options());
  // A directory where the temporary file of the version would be.
  const fs::path block =
      dir.path / absl::StrCat("version.tmp.", static_cast<int>(::getpid()));
  learner.ledger->on_commit = [&](int64_t step) {
    if (step == 1) fs::create_directory(block);
  };
  learner.Start();
  while (learner.metrics.version_failures.Value() == 0)
    std::this_thread::yield();
  // Nobody is told of a version that a restart would not know.
  CHECK(learner.engine->Status().policy_version == 1);
  SECTION("until it does") {
    std::promise<absl::StatusOr<CheckpointStore::Checkpoint>> saved;
    learner.engine->SaveCheckpoint(
        [&](auto c) { saved.set_value(std::move(c)); });
    CHECK(saved.get_future().get().ok());  // Served meanwhile.
    fs::remove(block);
    REQUIRE(learner.Wait().ok());
    CHECK(learner.ledger->committed.size() == 2);
    CHECK(*ReadFile(dir.path / "version") == "2");
  }
  SECTION("or until it is stopped, with the step in a checkpoint") {
    learner.engine->Stop();
    REQUIRE(learner.Wait().ok());
    CHECK(learner.ledger->committed.size() == 1);
    CHECK(*ReadFile(dir.path / "version") == "1");
    fs::remove(block);
    ToyLearner again(dir.path, 2, ToyTask::Options(), 1,
                     learner.ledger->committed);
    again.Start();
    REQUIRE(again.Wait().ok());
    CHECK(*ReadFile(dir.path / "version") == "2");
  }
}

TEST_CASE("A checkpoint is written on request and on stop", "[learner]") {
  const TemporaryDirectory dir;
  ToyLearner learner(dir.path, kSteps, ToyTask::Options(), 100);
  std::promise<void> third;
  learner.ledger->on_commit = [&](int64_t step) {
    if (step != 3) return;
    learner.ledger->hold = true;
    third.set_value();
  };
  learner.Start();
  third.get_future().wait();
  std::promise<absl::StatusOr<CheckpointStore::Checkpoint>> saved;
  learner.engine->SaveCheckpoint(
      [&](auto c) { saved.set_value(std::move(c)); });
  const auto checkpoint = saved.get_future().get();
  REQUIRE(checkpoint.ok());
  CHECK(checkpoint->step == 3);
  CHECK(fs::exists(checkpoint->path / "adapter_model.safetensors"));
  learner.engine->Stop();
  CHECK(learner.Wait().ok());
  absl::Status late;
  learner.engine->SaveCheckpoint([&](auto c) { late = c.status(); });
  CHECK(late.code() == absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace mpo::policy_learner
