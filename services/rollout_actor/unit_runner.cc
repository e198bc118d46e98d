// SPDX-License-Identifier: Apache-2.0
#include "services/rollout_actor/unit_runner.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"
#include "mpo/logging/log.h"
#include "mpo/text/prompt_renderer.h"

namespace mpo::rollout_actor {
namespace {

// A longer trunk would not fit beside its rollout in a message of 8 MiB.
constexpr size_t kMostTrunkFloats = size_t{1} << 20;

absl::Status Stopped(const WorkUnit& unit) {
  return absl::CancelledError(absl::StrCat("unit ", unit.id, " was stopped"));
}

// One log-prob <= 0: rounding may leave a certain token slightly above.
void ClampLogprobs(std::vector<float>& logprobs) {
  for (float& value : logprobs) value = std::min(value, 0.0F);
}

}  // namespace

UnitRunner::UnitRunner(UnitTools tools, RetryPolicy retry)
    : tools_(tools),
      retry_(retry),
      measurement_(tools.policy.base(), tools.tokenizer) {}

void UnitRunner::CountTokens(int64_t tokens) {
  generated_tokens_ += tokens;
  tools_.metrics.generation_tokens.Increment(static_cast<double>(tokens));
}

absl::Status UnitRunner::EnsureWeights(PolicyVersion min_version,
                                       std::stop_token stop) {
  if (tools_.policy.version() >= std::max<PolicyVersion>(min_version, 0)) {
    return absl::OkStatus();
  }
  const absl::Time start = tools_.clock.Steady();
  MPO_RETURN_IF_ERROR(
      TryUntil("GetWeights", retry_, stop, [&]() -> absl::Status {
        auto fetched = tools_.peers.GetWeights(
            min_version, tools_.policy.MaxWeightBytes(), stop);
        absl::Status status = fetched.status();
        if (fetched.ok() && fetched->manifest.version < min_version) {
          status = absl::InternalError(
              absl::StrCat("learner sent version ", fetched->manifest.version,
                           ", asked for at least ", min_version));
        } else if (fetched.ok()) {
          status = tools_.policy.Apply(fetched->manifest, fetched->tensors);
        }
        if (absl::IsDataLoss(status) || (fetched.ok() && !status.ok())) {
          tools_.metrics.weights_verify_failures.Increment();
        }
        return status;
      }));
  const PolicyVersion version = tools_.policy.version();
  const absl::Duration took = tools_.clock.Steady() - start;
  tools_.metrics.weights_apply_seconds.Observe(absl::ToDoubleSeconds(took));
  tools_.metrics.weights_version.Set(static_cast<double>(version));
  logging::Info("weights in force", {{"policy_version", version},
                                     {"seconds", absl::ToDoubleSeconds(took)}});
  return absl::OkStatus();
}

absl::StatusOr<UnitOutcomes> UnitRunner::Run(const WorkUnit& unit,
                                             std::stop_token stop) {
  MPO_RETURN_IF_ERROR(EnsureWeights(unit.min_policy_version, stop));
  UnitOutcomes outcomes;
  const absl::Time start = tools_.clock.Steady();
  const auto seconds_since = [&](absl::Time begin) {
    return absl::ToDoubleSeconds(tools_.clock.Steady() - begin);
  };
  MPO_ASSIGN_OR_RETURN(std::vector<Made> made, Generate(unit, stop));
  tools_.metrics.generate_seconds.Observe(seconds_since(start));

  const absl::Time measuring = tools_.clock.Steady();
  MPO_RETURN_IF_ERROR(Measure(unit, made, stop));
  tools_.metrics.measure_seconds.Observe(seconds_since(measuring));

  const absl::Time judging = tools_.clock.Steady();
  outcomes.generation = measuring - start;
  MPO_RETURN_IF_ERROR(Judge(unit, made, stop));
  outcomes.judging = tools_.clock.Steady() - judging;
  tools_.metrics.judge_seconds.Observe(seconds_since(judging));

  if (unit.kind == WorkKind::kTraining) {
    const absl::Time submitting = tools_.clock.Steady();
    MPO_RETURN_IF_ERROR(Submit(made, stop));
    tools_.metrics.submit_seconds.Observe(seconds_since(submitting));
  }
  Count(made);
  for (Made& one : made) {
    SampleOutcome outcome;
    outcome.sample_key = one.rollout.sample_key;
    outcome.text = std::move(one.rollout.text);
    outcome.response_tokens =
        static_cast<int>(one.rollout.response_tokens.size());
    outcome.finish_reason = one.rollout.finish_reason;
    outcome.policy_version = tools_.policy.version();
    outcome.verdict = std::move(one.verdicts.verdict);
    outcome.monitor = std::move(one.verdicts.monitor);
    outcome.base = one.base;
    outcomes.samples.push_back(std::move(outcome));
  }
  return outcomes;
}

absl::StatusOr<std::vector<UnitRunner::Made>> UnitRunner::Generate(
    const WorkUnit& unit, std::stop_token stop) {
  std::vector<generation::GenerationRequest> requests;
  for (const Sample& sample : unit.samples) {
    MPO_ASSIGN_OR_RETURN(
        std::vector<int32_t> tokens,
        text::RenderPrompt(tools_.tokenizer, tools_.chat, sample.prompt));
    requests.push_back({.id = sample.key,
                        .prompt_tokens = std::move(tokens),
                        .seed = sample.seed,
                        .keep_trunk = tools_.policy.trunk_layers()});
  }
  MPO_ASSIGN_OR_RETURN(std::vector<generation::GenerationResult> results,
                       tools_.policy.Generate(requests, unit.sampling,
                                              /*base_model=*/false, stop));
  if (stop.stop_requested()) return Stopped(unit);
  if (results.size() != unit.samples.size()) {
    return absl::InternalError(absl::StrCat("unit ", unit.id, ": ",
                                            results.size(), " results for ",
                                            unit.samples.size(), " samples"));
  }
  const PolicyVersion version = tools_.policy.version();
  int64_t tokens = 0;
  std::vector<Made> made(results.size());
  for (size_t i = 0; i < results.size(); ++i) {
    generation::GenerationResult& result = results[i];
    Rollout& rollout = made[i].rollout;
    rollout.sample_key = unit.samples[i].key;
    rollout.step = unit.samples[i].step;
    rollout.group = unit.samples[i].prompt.id;
    rollout.prompt_tokens = std::move(requests[i].prompt_tokens);
    rollout.response_tokens = std::move(result.tokens);
    rollout.logprobs = std::move(result.logprobs);
    ClampLogprobs(rollout.logprobs);
    const int size = static_cast<int>(rollout.response_tokens.size());
    tokens += size;
    if (size > 0) rollout.spans = {{0, size, version}};
    rollout.finish_reason = result.finish_reason;
    rollout.temperature = unit.sampling.temperature;
    auto text = tools_.tokenizer.Decode(rollout.response_tokens);
    made[i].trunk = std::move(result.trunk);
    made[i].failure = result.status;
    made[i].failure.Update(text.status());
    if (text.ok()) rollout.text = *std::move(text);
    if (made[i].failure.ok() && size == 0) {
      made[i].failure = absl::InternalError("generation gave no token");
    }
  }
  CountTokens(tokens);
  return made;
}

absl::Status UnitRunner::Measure(const WorkUnit& unit, std::vector<Made>& made,
                                 std::stop_token stop) {
  std::vector<MeasuredResponse> responses;
  std::vector<Made*> measured;
  for (size_t i = 0; i < made.size(); ++i) {
    if (!made[i].failure.ok()) continue;
    const Rollout& rollout = made[i].rollout;
    responses.push_back({&unit.samples[i].prompt, &rollout.prompt_tokens,
                         &rollout.response_tokens, rollout.text,
                         made[i].trunk});
    measured.push_back(&made[i]);
  }
  MPO_ASSIGN_OR_RETURN(const auto statistics,
                       measurement_.Measure(responses, stop));
  for (size_t i = 0; i < measured.size(); ++i) {
    if (statistics[i].ok()) {
      measured[i]->base = *statistics[i];
    } else {
      measured[i]->failure = statistics[i].status();
    }
  }
  return absl::OkStatus();
}

absl::Status UnitRunner::Judge(const WorkUnit& unit, std::vector<Made>& made,
                               std::stop_token stop) {
  std::vector<ScoreItem> items;
  for (size_t i = 0; i < made.size(); ++i) {
    if (!made[i].failure.ok()) continue;
    items.push_back({unit.samples[i].key, unit.samples[i].prompt,
                     made[i].rollout.text, made[i].base->mean_logprob});
  }
  std::map<std::string, Verdicts> verdicts;
  if (!items.empty()) {
    MPO_RETURN_IF_ERROR(TryUntil("Score", retry_, stop, [&]() -> absl::Status {
      auto answer = tools_.peers.Score(unit, items, stop);
      if (answer.ok()) verdicts = *std::move(answer);
      return answer.status();
    }));
  }
  for (Made& one : made) {
    if (one.failure.ok()) {
      const auto found = verdicts.find(one.rollout.sample_key);
      if (found == verdicts.end()) {
        return absl::InternalError(
            absl::StrCat("no verdict for sample ", one.rollout.sample_key));
      }
      one.verdicts = std::move(found->second);
      continue;
    }
    Verdict& verdict = one.verdicts.verdict;
    verdict.scored = false;
    verdict.reason = UnscorableReason::kInvalidResponse;
    verdict.detail =
        absl::StrCat("not judged: ", std::string(one.failure.message()));
    verdict.rubric_sha256 = unit.rubric_sha256;
    if (unit.monitor_rubric_sha256.empty()) continue;
    one.verdicts.monitor = verdict;
    one.verdicts.monitor->rubric_sha256 = unit.monitor_rubric_sha256;
  }
  return absl::OkStatus();
}

absl::Status UnitRunner::Submit(const std::vector<Made>& made,
                                std::stop_token stop) {
  std::vector<JudgedRollout> batch;
  batch.reserve(made.size());
  for (const Made& one : made) {
    const bool with_trunk = tools_.submit_trunks && one.trunk != nullptr &&
                            one.trunk->inputs.size() <= kMostTrunkFloats;
    batch.push_back(
        {one.rollout, one.verdicts.verdict, with_trunk ? one.trunk : nullptr});
  }
  return TryUntil("SubmitRollouts", retry_, stop,
                  [&] { return tools_.peers.SubmitRollouts(batch, stop); });
}

void UnitRunner::Count(const std::vector<Made>& made) {
  RolloutActorMetrics& metrics = tools_.metrics;
  for (const Made& one : made) {
    metrics.rollout_response_tokens.Observe(
        static_cast<double>(one.rollout.response_tokens.size()));
    if (one.rollout.finish_reason == FinishReason::kLength) {
      metrics.rollouts_truncated.Increment();
    }
    if (!one.failure.ok()) {
      metrics.rollouts_failed.Increment();
    } else if (one.verdicts.verdict.scored) {
      metrics.rollouts_scored.Increment();
    } else {
      metrics.rollouts_unscorable.Increment();
    }
  }
}

}  // namespace mpo::rollout_actor
