// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"
#include "services/policy_learner/training_batch.h"

namespace mpo::policy_learner {
namespace {

// Squares and sums of a batch of them still fit a float32 by far, and one of
// them does not swallow the running moments of the reward.
constexpr double kMaxReward = 1e9;

template <typename... Parts>
absl::Status Refuse(const Rollout& rollout, const char* field,
                    const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(
      "rollout '", rollout.sample_key, "', ", field, ": ", parts...));
}

absl::Status CheckIds(const Rollout& rollout, const char* field,
                      const std::vector<int32_t>& ids, int64_t vocabulary) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocabulary) {
      return Refuse(rollout, field, "id ", ids[i], " at ", i,
                    " is outside the vocabulary of ", vocabulary);
    }
  }
  return absl::OkStatus();
}

absl::Status CheckSpans(const Rollout& rollout, PolicyVersion newest) {
  int next = 0;
  for (const TokenSpan& span : rollout.spans) {
    if (span.begin != next || span.end <= span.begin) {
      return Refuse(rollout, "spans", "[", span.begin, ", ", span.end,
                    ") does not continue at ", next);
    }
    if (span.policy_version < 0 || span.policy_version > newest) {
      return Refuse(rollout, "spans", "policy version ", span.policy_version,
                    " was never published, the newest is ", newest);
    }
    next = span.end;
  }
  if (next != static_cast<int>(rollout.response_tokens.size())) {
    return Refuse(rollout, "spans", "cover ", next, " of ",
                  rollout.response_tokens.size(), " response tokens");
  }
  return absl::OkStatus();
}

absl::Status CheckLogprobs(const Rollout& rollout) {
  for (size_t i = 0; i < rollout.logprobs.size(); ++i) {
    const float value = rollout.logprobs[i];
    if (!std::isfinite(value) || value > 0) {
      return Refuse(rollout, "logprobs", "expected a finite number <= 0 at ", i,
                    ", got ", value);
    }
  }
  return absl::OkStatus();
}

absl::Status CheckTrunk(const Rollout& rollout, const Trunk& trunk,
                        const SampleLimits& limits) {
  if (trunk.layer != limits.trunk_layer) {
    return Refuse(rollout, "trunk.layer", "expected ", limits.trunk_layer,
                  ", the lowest layer with an adapter, got ", trunk.layer);
  }
  const size_t tokens =
      rollout.prompt_tokens.size() + rollout.response_tokens.size() - 1;
  const size_t expected = tokens * static_cast<size_t>(limits.hidden);
  if (trunk.inputs.size() != expected) {
    return Refuse(rollout, "trunk.inputs", "expected ", tokens, " x ",
                  limits.hidden, " numbers, got ", trunk.inputs.size());
  }
  for (size_t i = 0; i < expected; ++i) {
    if (!std::isfinite(trunk.inputs[i])) {
      return Refuse(rollout, "trunk.inputs", "expected finite numbers, got ",
                    trunk.inputs[i], " at ", i);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateSample(const TrainingSample& sample,
                            const SampleLimits& limits) {
  const Rollout& r = sample.rollout;
  if (r.sample_key.empty()) return Refuse(r, "sample_key", "is empty");
  if (r.step < 1) return Refuse(r, "step", "expected at least 1, got ", r.step);
  if (limits.last_step > 0 && r.step > limits.last_step) {
    return Refuse(r, "step", "expected at most ", limits.last_step,
                  ", the run's last, got ", r.step);
  }
  if (r.group.empty()) return Refuse(r, "group", "is empty");
  if (r.prompt_tokens.empty()) return Refuse(r, "prompt_tokens", "is empty");
  if (r.logprobs.size() != r.response_tokens.size()) {
    return Refuse(r, "logprobs", r.logprobs.size(), " for ",
                  r.response_tokens.size(), " response tokens");
  }
  const auto tokens =
      static_cast<int64_t>(r.prompt_tokens.size() + r.response_tokens.size());
  if (tokens > limits.context + 1) {
    return Refuse(r, "response_tokens", tokens,
                  " tokens with the prompt, the context is ", limits.context);
  }
  MPO_RETURN_IF_ERROR(
      CheckIds(r, "prompt_tokens", r.prompt_tokens, limits.vocabulary));
  MPO_RETURN_IF_ERROR(
      CheckIds(r, "response_tokens", r.response_tokens, limits.vocabulary));
  MPO_RETURN_IF_ERROR(CheckSpans(r, limits.newest_version));
  if (sample.trunk != nullptr) {
    MPO_RETURN_IF_ERROR(CheckTrunk(r, *sample.trunk, limits));
  }
  if (!sample.verdict.scored) return absl::OkStatus();
  MPO_RETURN_IF_ERROR(CheckLogprobs(r));
  if (!(r.temperature > 0) || !std::isfinite(r.temperature)) {
    return Refuse(r, "temperature", "expected more than 0, got ",
                  r.temperature);
  }
  if (r.response_tokens.empty()) {
    return Refuse(r, "response_tokens", "is empty, yet the verdict is scored");
  }
  if (r.finish_reason == FinishReason::kFailed) {
    return Refuse(r, "finish_reason", "failed, yet the verdict is scored");
  }
  if (!(std::abs(sample.verdict.reward) <= kMaxReward)) {
    return Refuse(r, "verdict.reward", "expected a number from ", -kMaxReward,
                  " to ", kMaxReward, ", got ", sample.verdict.reward);
  }
  return absl::OkStatus();
}

}  // namespace mpo::policy_learner
