// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/engine_pusher.h"

#include <torch/torch.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <string>

#include "nlohmann/json.hpp"
#include "services/policy_learner/engine_server.h"
#include "services/policy_learner/toy_task.h"
#include "tests/support/temporary_directory.h"

namespace mpo::policy_learner {
namespace {

using Catch::Contains;
using Kind = InferenceEngine::Kind;
namespace fs = std::filesystem;

struct Fixture {
  InferenceEngine Engine(Kind kind, const std::string& url) const {
    InferenceEngine engine;
    engine.kind = kind;
    engine.url = url;
    engine.directory = directory.path / "engines";
    engine.attempts = 1;
    engine.timeout = absl::Seconds(60);
    return engine;
  }

  std::unique_ptr<EnginePusher> Pusher(std::vector<InferenceEngine> engines) {
    auto pusher = EnginePusher::Create(std::move(engines), "no_tokenizer",
                                       ToyTask::Model(), metrics);
    INFO(pusher.status());
    REQUIRE(pusher.ok());
    return *std::move(pusher);
  }

  EnginePusher::Published Version(PolicyVersion version) const {
    return *weights::PublishedWeights::Create(
        version, policy.kind(), policy.adapter_config(), policy.Weights());
  }

  TemporaryDirectory directory;
  PolicyModel policy =
      *PolicyModel::Create(ToyTask::Model(), ToyTask::Options().lora, 1);
  prometheus::Registry registry;
  LearnerMetrics metrics{registry};
};

std::vector<std::string> Loaded(const EngineServer& server) {
  std::vector<std::string> names;
  for (const auto& call : server.calls()) {
    names.push_back(
        fs::path(
            nlohmann::json::parse(call.body)["model_path"].get<std::string>())
            .filename()
            .string());
  }
  return names;
}

TEST_CASE("Each engine gets the versions that are due for it", "[learner]") {
  Fixture f;
  EngineServer often, rarely;
  auto every = f.Engine(Kind::kSglang, often.url());
  auto third = f.Engine(Kind::kSglang, rarely.url());
  third.every = 3;
  const auto pusher = f.Pusher({every, third});
  for (PolicyVersion version = 0; version <= 3; ++version) {
    REQUIRE(pusher->Push(f.Version(version)).ok());
    REQUIRE(pusher->Finish({}).ok());
  }
  CHECK(Loaded(often) ==
        std::vector<std::string>{"step_1", "step_2", "step_3"});
  CHECK(Loaded(rarely) == std::vector<std::string>{"step_3"});
  CHECK(f.metrics.engine_pushes_loaded.Value() == 4);
  CHECK(f.metrics.engine_pushes_skipped.Value() == 0);
}

TEST_CASE("A directory alone is written without any engine", "[learner]") {
  Fixture f;
  const auto pusher = f.Pusher({f.Engine(Kind::kDirectory, "")});
  REQUIRE(pusher->Push(f.Version(1)).ok());
  REQUIRE(pusher->Finish({}).ok());
  CHECK(fs::exists(f.directory.path / "engines" / "step_1" / "config.json"));
}

TEST_CASE("An engine that is busy goes on with the newest version",
          "[learner]") {
  Fixture f;
  EngineServer slow(std::vector<EngineServer::Answer>{{.silent = true}}), quick;
  auto silent = f.Engine(Kind::kSglang, slow.url());
  silent.required = true;
  const auto pusher = f.Pusher({silent, f.Engine(Kind::kSglang, quick.url())});
  REQUIRE(pusher->Push(f.Version(1)).ok());
  slow.Await(1);
  quick.Await(1);
  for (PolicyVersion version = 2; version <= 4; ++version) {
    REQUIRE(pusher->Push(f.Version(version)).ok());
  }
  // It does not hold up the other one, and what it is loading stays.
  while (Loaded(quick).back() != "step_4") std::this_thread::yield();
  CHECK(f.metrics.engine_pushes_skipped.Value() >= 2);
  CHECK(fs::exists(f.directory.path / "engines" / "step_1"));
  CHECK(Loaded(slow) == std::vector<std::string>{"step_1"});
}

TEST_CASE("A failing engine is counted and gets the next version",
          "[learner]") {
  Fixture f;
  EngineServer server({{.status = 400, .body = R"({"success": false})"}, {}});
  const auto pusher = f.Pusher({f.Engine(Kind::kSglang, server.url())});
  REQUIRE(pusher->Push(f.Version(1)).ok());
  CHECK(pusher->Finish({}).ok());
  CHECK(f.metrics.engine_pushes_failed.Value() == 1);
  REQUIRE(pusher->Push(f.Version(2)).ok());
  CHECK(pusher->Finish({}).ok());
  CHECK(f.metrics.engine_pushes_loaded.Value() == 1);
  CHECK(Loaded(server) == std::vector<std::string>{"step_1", "step_2"});
}

TEST_CASE("A required engine that fails is an error from then on",
          "[learner]") {
  Fixture f;
  auto engine = f.Engine(Kind::kVllm, "http://127.0.0.1:1");
  engine.required = true;
  const auto pusher = f.Pusher({engine});
  REQUIRE(pusher->Push(f.Version(4)).ok());
  const absl::Status status = pusher->Finish({});
  CHECK(absl::IsUnavailable(status));
  CHECK_THAT(std::string(status.message()),
             Contains("the required engine http://127.0.0.1:1 did not get the "
                      "weights of version 4"));
  CHECK(pusher->Push(f.Version(5)) == status);
}

TEST_CASE("A directory that cannot be made is told at the start", "[learner]") {
  Fixture f;
  auto engine = f.Engine(Kind::kDirectory, "");
  engine.directory = "/proc/no/such";
  CHECK(absl::IsUnavailable(
      EnginePusher::Create({engine}, "m", ToyTask::Model(), f.metrics)
          .status()));
}

}  // namespace
}  // namespace mpo::policy_learner
