// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/inference_engine.h"

#include <catch2/catch.hpp>
#include <fstream>
#include <string>
#include <vector>

#include "mpo/config/run_config.h"
#include "nlohmann/json.hpp"
#include "services/policy_learner/engine_server.h"
#include "tests/support/temporary_directory.h"

namespace mpo::policy_learner {
namespace {

using Catch::Contains;
using Json = nlohmann::json;
using Kind = InferenceEngine::Kind;
using Answer = EngineServer::Answer;

InferenceEngine Engine(Kind kind, const std::string& url,
                       std::vector<absl::Duration>* pauses = nullptr) {
  InferenceEngine engine;
  engine.kind = kind;
  engine.url = url;
  engine.directory = "/disk";
  engine.attempts = 3;
  engine.timeout = absl::Seconds(20);
  engine.sleep = [pauses](absl::Duration pause, std::stop_token stop) {
    if (pauses != nullptr) pauses->push_back(pause);
    return !stop.stop_requested();
  };
  return engine;
}

absl::Status Load(const InferenceEngine& engine) {
  return LoadInto(engine, "/disk/step_8", 8, {});
}

absl::StatusOr<std::vector<InferenceEngine>> FromYaml(
    const std::string& engines) {
  const auto loaded = config::ParseRunConfig(
      "run: {name: r, dir: runs/r, steps: 1}\n"
      "task: essay\n"
      "data: {train: t.jsonl}\n"
      "policy: {model: m}\n"
      "reward: {rubric: r.yaml}\n",
      "a.yaml", {"learner.engines=" + engines});
  INFO(loaded.status());
  REQUIRE(loaded.ok());
  return EnginesFrom(loaded->config.learner());
}

TEST_CASE("SGLang is asked to load the directory and says that it has",
          "[learner]") {
  EngineServer server;
  InferenceEngine engine = Engine(Kind::kSglang, server.url());
  engine.api_key = http::Secret("k3y");
  REQUIRE(Load(engine).ok());
  const auto calls = server.calls();
  REQUIRE(calls.size() == 1);
  CHECK(calls[0].path == "/update_weights_from_disk");
  CHECK(Json::parse(calls[0].body) ==
        Json{{"model_path", "/disk/step_8"}, {"weight_version", "8"}});
  CHECK(calls[0].authorization == "Bearer k3y");
}

TEST_CASE("vLLM is asked to reload and to forget its cached prefixes",
          "[learner]") {
  EngineServer server({{.body = R"({"results": [null]})"}, {.body = ""}});
  REQUIRE(Load(Engine(Kind::kVllm, server.url())).ok());
  const auto calls = server.calls();
  REQUIRE(calls.size() == 2);
  CHECK(calls[0].path == "/collective_rpc");
  CHECK(Json::parse(calls[0].body) ==
        Json{{"method", "reload_weights"},
             {"kwargs", {{"weights_path", "/disk/step_8"}}},
             {"timeout", 20.0}});
  CHECK(calls[1].path == "/reset_prefix_cache?reset_running_requests=true");
}

TEST_CASE("A vLLM that did not reload is not asked anything else",
          "[learner]") {
  EngineServer server({{.status = 404, .body = "Not Found"}});
  const absl::Status status = Load(Engine(Kind::kVllm, server.url()));
  CHECK(absl::IsFailedPrecondition(status));
  CHECK_THAT(std::string(status.message()),
             Contains(server.url() + "/collective_rpc: HTTP 404") &&
                 Contains("VLLM_SERVER_DEV_MODE=1"));
  CHECK(server.calls().size() == 1);
}

TEST_CASE("A directory alone needs no request", "[learner]") {
  CHECK(Load(Engine(Kind::kDirectory, "")).ok());
}

TEST_CASE("A refusal is an error at once, with the engine's words",
          "[learner]") {
  Answer answer;
  auto code = absl::StatusCode::kFailedPrecondition;
  SECTION("success is false") {
    answer.body = R"({"success": false, "message": "no such path"})";
  }
  SECTION("400") {
    answer = {.status = 400, .body = R"({"message": "no such path"})"};
  }
  SECTION("no answer of an engine") {
    answer.body = "<html>no such path</html>";
    code = absl::StatusCode::kDataLoss;
  }
  SECTION("success is no boolean") {
    answer.body = R"({"success": "no such path"})";
    code = absl::StatusCode::kDataLoss;
  }
  EngineServer server({answer});
  const absl::Status status = Load(Engine(Kind::kSglang, server.url()));
  CHECK(status.code() == code);
  CHECK_THAT(std::string(status.message()),
             Contains(server.url()) && Contains("no such path"));
  CHECK(server.calls().size() == 1);
}

TEST_CASE("An engine that is busy or broken is asked again", "[learner]") {
  std::vector<absl::Duration> pauses;
  SECTION("and answers at last") {
    EngineServer server({{.status = 500}, {.status = 429}, {}});
    CHECK(Load(Engine(Kind::kSglang, server.url(), &pauses)).ok());
    CHECK(server.calls().size() == 3);
  }
  SECTION("until the tries are used") {
    EngineServer server({{.status = 500, .body = "out of memory"}});
    const absl::Status status =
        Load(Engine(Kind::kSglang, server.url(), &pauses));
    CHECK(absl::IsUnavailable(status));
    CHECK_THAT(std::string(status.message()),
               Contains("HTTP 500: out of memory"));
    CHECK(server.calls().size() == 3);
  }
  SECTION("when nobody listens") {
    const absl::Status status =
        Load(Engine(Kind::kSglang, "http://127.0.0.1:1", &pauses));
    CHECK(absl::IsUnavailable(status));
    CHECK_THAT(std::string(status.message()), Contains("http://127.0.0.1:1"));
  }
  REQUIRE(pauses.size() == 2);
  CHECK(pauses[0] <= absl::Milliseconds(500));
  CHECK(pauses[1] <= absl::Seconds(1));
}

TEST_CASE("An engine that is silent runs out of time", "[learner]") {
  EngineServer server(std::vector<EngineServer::Answer>{{.silent = true}});
  InferenceEngine engine = Engine(Kind::kSglang, server.url());
  engine.timeout = absl::Milliseconds(50);
  engine.attempts = 1;
  const absl::Status status = Load(engine);
  CHECK(absl::IsDeadlineExceeded(status));
  CHECK_THAT(std::string(status.message()), Contains(server.url()));
}

TEST_CASE("A request to an engine ends when stopped", "[learner]") {
  EngineServer server(std::vector<EngineServer::Answer>{{.silent = true}});
  std::stop_source stop;
  std::jthread stopper([&] {
    server.Await(1);
    stop.request_stop();
  });
  CHECK(absl::IsCancelled(LoadInto(Engine(Kind::kSglang, server.url()),
                                   "/disk/step_8", 8, stop.get_token())));
}

TEST_CASE("Engines are read from the configuration", "[learner]") {
  const TemporaryDirectory directory;
  std::ofstream(directory.path / "key") << "k3y\n";
  const auto engines = FromYaml(
      "[{kind: sglang, url: 'http://a:1/', directory: d, every: 4, kept: 3, "
      "dtype: bfloat16, required: true, timeout: 7, attempts: 2, backoff: 0, "
      "api_key_file: " +
      (directory.path / "key").string() +
      "}, {kind: directory, directory: e}]");
  INFO(engines.status());
  REQUIRE(engines.ok());
  REQUIRE(engines->size() == 2);
  const InferenceEngine& first = (*engines)[0];
  CHECK(first.kind == Kind::kSglang);
  CHECK(first.url == "http://a:1");
  CHECK(first.name() == "http://a:1");
  CHECK(first.directory == "d");
  CHECK(first.every == 4);
  CHECK(first.kept == 3);
  CHECK(first.dtype == at::kBFloat16);
  CHECK(first.required);
  CHECK(first.timeout == absl::Seconds(7));
  CHECK(first.attempts == 2);
  CHECK(first.api_key.Reveal() == "k3y");
  CHECK((*engines)[1].kind == Kind::kDirectory);
  CHECK((*engines)[1].name() == "e");
  CHECK(FromYaml("[]")->empty());
}

TEST_CASE("Engines that contradict themselves are all named", "[learner]") {
  const absl::Status status =
      FromYaml(
          "[{kind: vllm, directory: d}, {kind: directory, url: 'http://a', "
          "directory: d}, {kind: sglang, url: 'a:1', directory: d, kept: 9}]")
          .status();
  CHECK(absl::IsInvalidArgument(status));
  CHECK_THAT(std::string(status.message()),
             Contains("learner.engines[0].url: expected http://") &&
                 Contains("learner.engines[1].url: has a meaning with kind") &&
                 Contains("learner.engines[2].url: expected http://") &&
                 Contains("learner.engines[2]: has the directory of "
                          "learner.engines[0]"));
  CHECK(absl::IsNotFound(FromYaml("[{kind: vllm, url: 'http://a', directory: "
                                  "d, api_key_file: /no/such/file}]")
                             .status()));
}

}  // namespace
}  // namespace mpo::policy_learner
