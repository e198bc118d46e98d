// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "mpo/types/prompt.h"
#include "mpo/types/rubric.h"
#include "mpo/types/verdict.h"

namespace mpo::judge {

// One response to be judged.
struct JudgeItem {
  Prompt prompt;
  std::string response;
  std::optional<double> base_mean_logprob;  // Nats a token, if measured.
};

// Answers how well responses meet a rubric's criteria. Thread-safe; `Score`
// blocks.
class Judge {
 public:
  using Callback = std::function<void(size_t index, Verdict verdict)>;
  virtual ~Judge() = default;
  // One verdict for each item, handed to `done` in any order, from any thread
  // but never two at a time. A failure of the judge is an unscorable verdict.
  // The rubric must be valid and supported (rubric::CheckSupported). The
  // verdict's rubric_sha256 is left to the caller.
  virtual void Score(const Rubric& rubric, const std::vector<JudgeItem>& items,
                     std::stop_token stop, const Callback& done) = 0;
  virtual std::string name() const = 0;
};

// An unscorable verdict.
Verdict Unscorable(UnscorableReason reason, const std::string& detail);

}  // namespace mpo::judge
