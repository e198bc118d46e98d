// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <httplib.h>

#include <future>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "mpo/base/mutex.h"

namespace mpo::policy_learner {

// A stand-in for an inference engine on a free port, for tests: notes what it
// is asked and answers as it was told. Thread-safe.
class EngineServer {
 public:
  struct Answer {
    int status = 200;
    std::string body = R"({"success": true, "message": "ok"})";
    bool silent = false;  // None until the server goes.
  };
  struct Call {
    std::string path;  // With its query.
    std::string body;
    std::string authorization;
    bool operator==(const Call&) const = default;
  };

  // Call i gets answers[i], those after the last one get that again.
  EngineServer() : EngineServer(std::vector<Answer>(1)) {}
  explicit EngineServer(std::vector<Answer> answers)
      : answers_(std::move(answers)) {
    server_.Post(".*", [this](const httplib::Request& request,
                              httplib::Response& response) {
      const Answer answer = Note({request.target, request.body,
                                  request.get_header_value("Authorization")});
      if (answer.silent) released_.wait();
      response.status = answer.status;
      response.set_content(answer.body, "application/json");
    });
    port_ = server_.bind_to_any_port("127.0.0.1");
    thread_ = std::thread([this] { server_.listen_after_bind(); });
    // A stop before the server runs would be lost.
    while (!server_.is_running()) std::this_thread::yield();
  }
  ~EngineServer() {
    release_.set_value();
    server_.stop();
    thread_.join();
  }

  std::string url() const { return absl::StrCat("http://127.0.0.1:", port_); }
  std::vector<Call> calls() const {
    MutexLock lock(mu_);
    return calls_;
  }
  // Waits until `count` calls have come.
  void Await(size_t count) {
    MutexLock lock(mu_);
    while (calls_.size() < count) came_.Wait(mu_);
  }

 private:
  Answer Note(Call call) {
    MutexLock lock(mu_);
    const size_t index = std::min(calls_.size(), answers_.size() - 1);
    calls_.push_back(std::move(call));
    came_.NotifyAll();
    return answers_[index];
  }

  const std::vector<Answer> answers_;
  mutable Mutex mu_;
  CondVar came_;
  std::vector<Call> calls_ ABSL_GUARDED_BY(mu_);
  std::promise<void> release_;
  std::shared_future<void> released_ = release_.get_future().share();
  httplib::Server server_;
  int port_ = 0;
  std::thread thread_;
};

}  // namespace mpo::policy_learner
