// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "mpo/base/mutex.h"
#include "mpo/judge/chat_client.h"
#include "mpo/judge/judge.h"

namespace mpo::judge {

struct ModelJudgeOptions {
  std::string name = "http";
  int concurrency = 8;        // Requests in flight over all calls, >= 1.
  double temperature = 0.02;  // [0, 2].
  int max_tokens = 1024;      // Of one answer.
};

// A language model that scores one response a request, all criteria at once,
// and answers in JSON. Criteria with executor program are measured as by the
// embedded judge. An answer that is not exactly what was asked for (JSON, each
// criterion once, numbers within range) is asked for again by the model's
// retries and then makes the verdict unscorable; nothing is filled in.
// Thread-safe.
class ModelJudge final : public Judge {
 public:
  // `model` must outlive the judge.
  ModelJudge(ChatModel& model, const ModelJudgeOptions& options)
      : model_(model), options_(options) {}

  void Score(const Rubric& rubric, const std::vector<JudgeItem>& items,
             std::stop_token stop, const Callback& done) override;
  std::string name() const override { return options_.name; }

 private:
  Verdict ScoreOne(const Rubric& rubric, const JudgeItem& item,
                   std::vector<CriterionScore> measured, std::stop_token stop);

  // Waits for its turn to send a request; false when stopped.
  bool Enter(std::stop_token stop) ABSL_LOCKS_EXCLUDED(mu_);
  void Leave() ABSL_LOCKS_EXCLUDED(mu_);

  ChatModel& model_;
  const ModelJudgeOptions options_;
  Mutex mu_;
  CondVar changed_;
  int in_flight_ ABSL_GUARDED_BY(mu_) = 0;
};

// Messages of one request, for the criteria the model reads.
std::vector<ChatMessage> JudgeMessages(const Rubric& rubric,
                                       const JudgeItem& item);

// What a model's answer says, or why it is not a verdict.
struct ParsedScores {
  std::vector<CriterionScore> scores;  // Of the criteria the model reads.
  UnscorableReason reason = UnscorableReason::kParseError;
  std::string problem;  // Empty = good.
};
ParsedScores ParseScores(const Rubric& rubric, const std::string& answer);

}  // namespace mpo::judge
