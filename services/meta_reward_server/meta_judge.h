// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "mpo/judge/chat_client.h"
#include "services/meta_reward_server/meta_prompts.h"
#include "services/meta_reward_server/refiner.h"

namespace mpo::meta_reward_server {

struct MetaJudgeOptions {
  int max_samples = 16;          // Judged responses analysed.
  int concurrency = 4;           // Requests in flight.
  double temperature = 0.02;     // [0, 2].
  int max_tokens = 2048;         // Of one answer.
  int max_merge_chars = 60'000;  // Of all refinements in the merge.
  PromptLimits limits;
};

// The paper's meta-reward model on any chat model: each sampled response is
// analysed and a refined rubric asked for; all refinements are merged, with the
// rubric in use, into one proposal. Samples are spread evenly over the scored
// recent responses, ordered by their score. A refinement that is not a rubric
// is left out of the merge and the analyses say so; so are texts that were cut
// and refinements that did not fit. Near-duplicate criteria of the merged
// rubric are dropped. Thread-safe where the model is.
class MetaJudge final : public Refiner {
 public:
  // `model` must outlive the judge.
  MetaJudge(judge::ChatModel& model, MetaJudgeOptions options);

  // As Refiner. INVALID_ARGUMENT: no scored recent response.
  // FAILED_PRECONDITION also where no refinement was a rubric.
  absl::StatusOr<RefinementProposal> Refine(const RefinementRequest& request,
                                            const ProgressSink& progress,
                                            std::stop_token stop) override;

 private:
  judge::ChatModel& model_;
  const MetaJudgeOptions options_;
};

}  // namespace mpo::meta_reward_server
