// SPDX-License-Identifier: Apache-2.0
#include <httplib.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

#include "absl/strings/str_cat.h"
#include "mpo/base/mutex.h"
#include "mpo/judge/model_judge.h"

namespace mpo::judge {
namespace {

using nlohmann::json;

constexpr int kItems = 200;

std::string Completion(const std::string& content) {
  return json{{"choices", {{{"message", {{"content", content}}}}}}}.dump();
}

std::string Scores(int score) {
  return json{
      {"scores", {{{"id", "q"}, {"rationale", "because"}, {"score", score}}}}}
      .dump();
}

// A judge that fails 10 % of requests with 500, 10 % with garbage and 5 % by
// silence; every failure carries a score that must never be believed. Its true
// score of "response N." is N.
class FailingServer {
 public:
  FailingServer() {
    server_.new_task_queue = [] { return new httplib::ThreadPool(32); };
    server_.Post("/v1/chat/completions", [this](const httplib::Request& request,
                                                httplib::Response& response) {
      Answer(request, response);
    });
    port_ = server_.bind_to_any_port("127.0.0.1");
    thread_ = std::thread([this] { server_.listen_after_bind(); });
    while (!server_.is_running()) std::this_thread::yield();
  }
  ~FailingServer() {
    {
      MutexLock lock(mu_);
      over_ = true;
      changed_.NotifyAll();
    }
    server_.stop();
    thread_.join();
  }
  std::string url() const { return absl::StrCat("http://127.0.0.1:", port_); }
  int failures() const { return failures_; }

 private:
  void Answer(const httplib::Request& request, httplib::Response& response) {
    const std::string text =
        json::parse(request.body)["messages"][1]["content"];
    const int truth = std::stoi(text.substr(text.find("response N") + 10));
    // Every fourth call fails, so that a lone client that retries at once does
    // not meet two failures in a row.
    const int call = calls_++ % 20;
    const int fault = call % 4 == 0 ? call / 4 : -1;
    if (fault >= 0) ++failures_;
    if (fault == 0 || fault == 1) {
      response.status = 500;
      response.set_content(Completion(Scores(-1)), "application/json");
    } else if (fault == 2) {
      response.set_content(Scores(-1) + "\xff", "application/json");
    } else if (fault == 3) {
      response.set_content(Completion("I give it -1 of 1000, \x7f{"),
                           "application/json");
    } else if (fault == 4) {
      MutexLock lock(mu_);
      while (!over_) changed_.Wait(mu_);
    } else {
      response.set_content(Completion(Scores(truth)), "application/json");
    }
  }

  std::atomic<int> calls_{0};
  std::atomic<int> failures_{0};
  Mutex mu_;
  CondVar changed_;
  bool over_ ABSL_GUARDED_BY(mu_) = false;
  httplib::Server server_;
  int port_ = 0;
  std::thread thread_;
};

std::vector<Verdict> JudgeAll(const std::string& url, int attempts) {
  CurlChatModelOptions options;
  options.base_url = url;
  options.attempts = attempts;
  options.timeout = absl::Seconds(1);
  options.backoff = absl::ZeroDuration();
  options.breaker.failure_share = 1;
  auto model = CurlChatModel::Create(std::move(options));
  REQUIRE(model.ok());
  ModelJudge judge(**model, {.concurrency = 4});
  Rubric rubric;
  rubric.id = "r";
  Criterion criterion;
  criterion.id = "q";
  criterion.text = "Which number?";
  criterion.minimum = -1000;
  criterion.maximum = 1000;
  rubric.criteria = {criterion};
  std::vector<JudgeItem> items(kItems);
  for (int i = 0; i < kItems; ++i) {
    items[i].prompt.text = "Say something.";
    items[i].response = absl::StrCat("response N", i);
  }
  std::vector<Verdict> verdicts(kItems);
  judge.Score(rubric, items, {}, [&](size_t i, Verdict verdict) {
    verdicts[i] = std::move(verdict);
  });
  return verdicts;
}

}  // namespace

TEST_CASE("No verdict is scored from a call that failed", "[judge]") {
  const int attempts = GENERATE(1, 4);
  CAPTURE(attempts);
  std::map<UnscorableReason, int> unscorable;
  int scored = 0;
  int failures = 0;
  {
    FailingServer server;
    const std::vector<Verdict> verdicts = JudgeAll(server.url(), attempts);
    failures = server.failures();
    for (int i = 0; i < kItems; ++i) {
      if (!verdicts[i].scored) {
        ++unscorable[verdicts[i].reason];
        CHECK(verdicts[i].criteria.empty());
        continue;
      }
      ++scored;
      CHECK(verdicts[i].criteria[0].score == i);
    }
  }
  CHECK(failures >= kItems / 4 - 5);
  if (attempts == 1) {
    // Every failed call left its sample without a score; on a busy machine a
    // good answer may come too late as well.
    CHECK(scored <= kItems - failures);
    CHECK(scored >= kItems - failures - 10);
    CHECK(unscorable[UnscorableReason::kJudgeUnavailable] == 20);
    CHECK(unscorable[UnscorableReason::kParseError] == 20);
    CHECK(unscorable[UnscorableReason::kJudgeTimeout] >= 10);
  } else {
    CHECK(scored >= kItems * 95 / 100);
  }
}

}  // namespace mpo::judge
