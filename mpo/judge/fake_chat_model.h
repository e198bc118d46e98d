// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <deque>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "mpo/base/mutex.h"
#include "mpo/judge/chat_client.h"

namespace mpo::judge {

// Answers from a function, or from a script in order; keeps what it was asked.
// `options.accept` is applied, up to `attempts` times. Thread-safe.
class FakeChatModel final : public ChatModel {
 public:
  using Answer = std::function<absl::StatusOr<std::string>(
      const std::vector<ChatMessage>&, const ChatOptions&)>;
  struct Request {
    std::vector<ChatMessage> messages;
    ChatOptions options;
  };

  explicit FakeChatModel(Answer answer, int attempts = 1)
      : answer_(std::move(answer)), attempts_(attempts) {}
  // Each call takes the next entry; UNAVAILABLE when none is left.
  explicit FakeChatModel(std::deque<absl::StatusOr<std::string>> script,
                         int attempts = 1)
      : script_(std::move(script)), attempts_(attempts) {}

  absl::StatusOr<std::string> Complete(const std::vector<ChatMessage>& messages,
                                       const ChatOptions& options) override {
    absl::Status last = absl::UnavailableError("no attempt made");
    for (int i = 0; i < attempts_; ++i) {
      absl::StatusOr<std::string> answer = Next(messages, options);
      last = answer.status();
      if (last.ok() && options.accept) last = options.accept(*answer);
      if (last.ok()) return answer;
      MutexLock lock(mu_);
      ++failures_;
    }
    return last;
  }

  ChatModelStatus status() const override {
    MutexLock lock(mu_);
    ChatModelStatus status;
    status.requests = static_cast<int64_t>(requests_.size());
    status.failures = failures_;
    return status;
  }

  std::vector<Request> requests() const {
    MutexLock lock(mu_);
    return requests_;
  }

 private:
  absl::StatusOr<std::string> Next(const std::vector<ChatMessage>& messages,
                                   const ChatOptions& options) {
    {
      MutexLock lock(mu_);
      requests_.push_back({messages, options});
      if (!answer_) {
        if (script_.empty()) return absl::UnavailableError("script is over");
        absl::StatusOr<std::string> next = std::move(script_.front());
        script_.pop_front();
        return next;
      }
    }
    return answer_(messages, options);
  }

  const Answer answer_;
  mutable Mutex mu_;
  std::deque<absl::StatusOr<std::string>> script_ ABSL_GUARDED_BY(mu_);
  const int attempts_;
  std::vector<Request> requests_ ABSL_GUARDED_BY(mu_);
  int64_t failures_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace mpo::judge
