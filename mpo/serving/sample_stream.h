// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "mpo/generation/top_logprobs.h"
#include "mpo/types/rollout.h"

namespace mpo::serving {

// A token of a response.
struct ServedToken {
  int32_t token = 0;
  // Of the model's own distribution, nats; none for the first of a prompt.
  std::optional<float> logprob = 0;
  std::vector<generation::TokenLogprob> top = {};
};

// What has become known since the last look.
struct SampleNews {
  std::string text = {};  // Whole code points, up to the stop string.
  std::vector<ServedToken> tokens = {};
  int64_t echoed = 0;  // Of the tokens, the first so many are of the prompt.
  bool over = false;
  FinishReason finish_reason = FinishReason::kFailed;  // When over.
  // When over. UNAVAILABLE: the pass failed or memory was short, the order may
  // be good.
  absl::Status status = {};
};

// The reading end of a sample in hand; dropping it cancels the sample before
// the next pass, also where it still waits. One thread reads.
class SampleStream {
 public:
  struct State;
  explicit SampleStream(std::shared_ptr<State> state)
      : state_(std::move(state)) {}
  ~SampleStream();
  SampleStream(const SampleStream&) = delete;
  SampleStream& operator=(const SampleStream&) = delete;

  // Waits until there is something new, at most `timeout`; nullopt when there
  // is nothing. The last news have `over` set.
  std::optional<SampleNews> Next(absl::Duration timeout);

 private:
  std::shared_ptr<State> state_;
};

}  // namespace mpo::serving
