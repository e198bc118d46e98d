// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/inference_engine.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "mpo/base/status_macros.h"
#include "mpo/http/backoff.h"
#include "mpo/http/exchange.h"
#include "mpo/model/placement.h"
#include "nlohmann/json.hpp"

namespace mpo::policy_learner {
namespace {

using Json = nlohmann::json;
using Kind = InferenceEngine::Kind;

constexpr size_t kMaxReply = size_t{1} << 20;
constexpr absl::Duration kLongestPause = absl::Seconds(60);

// One request: where, with what, and whether a reply of status 200 means that
// it was done.
struct Order {
  std::string path;
  Json body;
  std::function<absl::Status(const std::string& reply)> accept;
};

// {"success": true, ...}
absl::Status AcceptSglang(const std::string& reply) {
  const Json json = Json::parse(reply, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("success") ||
      !json["success"].is_boolean()) {
    return absl::DataLossError(absl::StrCat(
        "expected {\"success\": true, ...}, got ", http::Excerpt(reply)));
  }
  if (json["success"].get<bool>()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("the engine did not load it: ", http::Excerpt(reply)));
}

absl::Status AcceptAnything(const std::string&) { return absl::OkStatus(); }

std::vector<Order> OrdersFor(const InferenceEngine& engine,
                             const std::filesystem::path& directory,
                             PolicyVersion version) {
  std::vector<Order> orders;
  if (engine.kind == Kind::kSglang) {
    // It flushes its cache by itself.
    orders.push_back(Order{.path = "/update_weights_from_disk",
                           .body = {{"model_path", directory.string()},
                                    {"weight_version", absl::StrCat(version)}},
                           .accept = AcceptSglang});
  } else if (engine.kind == Kind::kVllm) {
    orders.push_back(
        Order{.path = "/collective_rpc",
              .body = {{"method", "reload_weights"},
                       {"kwargs", {{"weights_path", directory.string()}}},
                       {"timeout", absl::ToDoubleSeconds(engine.timeout)}},
              .accept = AcceptAnything});
    // Else cached prefixes would be those of the old weights.
    orders.push_back(
        Order{.path = "/reset_prefix_cache?reset_running_requests=true",
              .body = Json::object(),
              .accept = AcceptAnything});
  }
  return orders;
}

bool WorthAnotherTry(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) ||
         absl::IsResourceExhausted(status);
}

absl::Status Send(const InferenceEngine& engine, const Order& order,
                  std::stop_token stop) {
  const std::string url = engine.url + order.path;
  const std::string body = order.body.dump();
  http::Backoff backoff(engine.backoff, kLongestPause, /*seed=*/1);
  absl::Status status;
  for (int attempt = 0; attempt < engine.attempts; ++attempt) {
    if (attempt > 0) {
      const absl::Duration pause = backoff.Pause(attempt - 1);
      const bool waited =
          engine.sleep ? engine.sleep(pause, stop) : http::Wait(pause, stop);
      if (!waited) return absl::CancelledError("stopped");
    }
    const http::Reply reply = http::Exchange({.url = url,
                                              .bearer = engine.api_key.Reveal(),
                                              .body = &body,
                                              .timeout = engine.timeout,
                                              .max_reply_bytes = kMaxReply},
                                             stop);
    if (stop.stop_requested()) return absl::CancelledError("stopped");
    status = http::StatusOf(reply);
    if (status.ok()) status = order.accept(reply.body);
    if (status.ok() || !WorthAnotherTry(status)) break;
  }
  if (status.ok()) return status;
  return absl::Status(
      status.code(),
      absl::StrCat(url, ": ", std::string(status.message()),
                   engine.kind == Kind::kVllm &&
                           absl::StrContains(status.message(), "HTTP 404")
                       ? "; is VLLM_SERVER_DEV_MODE=1 set there?"
                       : ""));
}

void CheckUrl(const config::v1::Engine& engine, const std::string& key,
              std::vector<std::string>& problems) {
  if (engine.kind() == "directory") {
    if (!engine.url().empty()) {
      problems.push_back(absl::StrCat(
          key, ".url: has a meaning with kind sglang or vllm only"));
    }
  } else if (!absl::StartsWith(engine.url(), "http://") &&
             !absl::StartsWith(engine.url(), "https://")) {
    problems.push_back(absl::StrCat(
        key, ".url: expected http:// or https:// and a host, got \"",
        engine.url(), "\""));
  }
}

}  // namespace

absl::StatusOr<std::vector<InferenceEngine>> EnginesFrom(
    const config::v1::Learner& learner) {
  std::vector<InferenceEngine> engines;
  std::vector<std::string> problems;
  std::map<std::string, int> by_directory;  // The first that has it.
  for (int i = 0; i < learner.engines_size(); ++i) {
    const config::v1::Engine& from = learner.engines(i);
    const std::string key = absl::StrCat("learner.engines[", i, "]");
    CheckUrl(from, key, problems);
    const int first = by_directory.emplace(from.directory(), i).first->second;
    const config::v1::Engine& other = learner.engines(first);
    if (other.kept() != from.kept() || other.dtype() != from.dtype()) {
      problems.push_back(
          absl::StrCat(key, ": has the directory of learner.engines[", first,
                       "] and so needs the same kept and dtype"));
    }
    InferenceEngine engine;
    engine.kind = from.kind() == "sglang" ? Kind::kSglang
                  : from.kind() == "vllm" ? Kind::kVllm
                                          : Kind::kDirectory;
    engine.url = from.url();
    while (absl::EndsWith(engine.url, "/")) engine.url.pop_back();
    engine.directory = from.directory();
    engine.every = std::max(1, from.every());
    engine.kept = std::max(1, from.kept());
    MPO_ASSIGN_OR_RETURN(const model::LoadOptions placement,
                         model::ParsePlacement(from.dtype(), "cpu"));
    engine.dtype = placement.dtype;
    engine.required = from.required();
    engine.timeout = absl::Seconds(from.timeout());
    engine.attempts = std::max(1, from.attempts());
    engine.backoff = absl::Seconds(from.backoff());
    if (!from.api_key_file().empty()) {
      MPO_ASSIGN_OR_RETURN(engine.api_key,
                           http::ReadSecretFile(from.api_key_file()));
    }
    engines.push_back(std::move(engine));
  }
  if (problems.empty()) return engines;
  return absl::InvalidArgumentError(absl::StrJoin(problems, "\n"));
}

absl::Status LoadInto(const InferenceEngine& engine,
                      const std::filesystem::path& directory,
                      PolicyVersion version, std::stop_token stop) {
  for (const Order& order : OrdersFor(engine, directory, version)) {
    MPO_RETURN_IF_ERROR(Send(engine, order, stop));
  }
  return absl::OkStatus();
}

}  // namespace mpo::policy_learner
