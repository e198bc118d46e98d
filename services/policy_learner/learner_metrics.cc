// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/learner_metrics.h"

namespace mpo::policy_learner {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;
using prometheus::Labels;
using prometheus::Registry;

const prometheus::Histogram::BucketBoundaries kSeconds = {
    0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300};

prometheus::Counter& Counter(Registry& registry, const std::string& name,
                             const std::string& help,
                             const Labels& labels = {}) {
  return BuildCounter().Name(name).Help(help).Register(registry).Add(labels);
}

prometheus::Gauge& Gauge(Registry& registry, const std::string& name,
                         const std::string& help) {
  return BuildGauge().Name(name).Help(help).Register(registry).Add({});
}

prometheus::Histogram& Histogram(
    Registry& registry, const std::string& name, const std::string& help,
    const prometheus::Histogram::BucketBoundaries& buckets,
    const Labels& labels = {}) {
  return BuildHistogram().Name(name).Help(help).Register(registry).Add(labels,
                                                                       buckets);
}

constexpr char kSamples[] = "mpo_learner_samples_total";
constexpr char kSamplesHelp[] = "Rollouts submitted, by outcome.";
constexpr char kPushes[] = "mpo_learner_engine_pushes_total";
constexpr char kPushesHelp[] = "Versions for inference engines, by outcome.";
constexpr char kSteps[] = "mpo_learner_steps_total";
constexpr char kStepsHelp[] = "Learner updates, by outcome.";

}  // namespace

LearnerMetrics::LearnerMetrics(Registry& r)
    : weights_version(Gauge(r, "mpo_weights_version", "Version published.")),
      weights_published(
          Counter(r, "mpo_weights_published_total", "Versions published.")),
      weights_publish_seconds(Histogram(r, "mpo_weights_publish_seconds",
                                        "Copying and digesting a version.",
                                        kSeconds)),
      staleness(Histogram(r, "mpo_learner_sample_staleness_versions",
                          "Versions a token span was behind when trained on.",
                          {0, 1, 2, 3, 4, 6, 8, 12, 16})),
      samples_accepted(
          Counter(r, kSamples, kSamplesHelp, {{"outcome", "accepted"}})),
      samples_duplicate(
          Counter(r, kSamples, kSamplesHelp, {{"outcome", "duplicate"}})),
      samples_invalid(
          Counter(r, kSamples, kSamplesHelp, {{"outcome", "invalid"}})),
      spooled(Gauge(r, "mpo_learner_spooled_rollouts",
                    "Rollouts on disk that no kept checkpoint covers.")),
      checkpoint_timestamp(
          Gauge(r, "mpo_checkpoint_last_success_timestamp_seconds",
                "When the last checkpoint was finished.")),
      checkpoint_bytes(
          Gauge(r, "mpo_checkpoint_bytes", "Size of the last checkpoint.")),
      checkpoint_failures(Counter(r, "mpo_checkpoint_failures_total",
                                  "Checkpoints that could not be written.")),
      version_failures(
          Counter(r, "mpo_learner_version_failures_total",
                  "Tries to record a policy version that failed.")),
      engine_pushes_loaded(
          Counter(r, kPushes, kPushesHelp, {{"outcome", "loaded"}})),
      engine_pushes_failed(
          Counter(r, kPushes, kPushesHelp, {{"outcome", "failed"}})),
      engine_pushes_skipped(
          Counter(r, kPushes, kPushesHelp, {{"outcome", "skipped"}})),
      engine_push_seconds(Histogram(
          r, "mpo_learner_engine_push_seconds",
          "Writing a version and having an engine load it.", kSeconds)),
      steps_trained_(Counter(r, kSteps, kStepsHelp, {{"outcome", "trained"}})),
      steps_skipped_(
          Counter(r, kSteps, kStepsHelp, {{"outcome", "nonfinite"}})),
      tokens_(Counter(r, "mpo_learner_tokens_total",
                      "Response tokens trained on.")),
      step_(Gauge(r, "mpo_learner_step", "Last step trained.")),
      step_timestamp_(Gauge(r, "mpo_learner_last_step_timestamp_seconds",
                            "When the last step was finished.")) {
  for (const char* phase :
       {"wait", "forward", "backward", "optimiser", "publish", "checkpoint"}) {
    phases_[phase] =
        &Histogram(r, "mpo_learner_step_phase_seconds",
                   "Time of a step, by phase.", kSeconds, {{"phase", phase}});
  }
  const std::map<std::string, std::string> figures = {
      {"policy_loss", "mpo_learner_policy_loss"},
      {"value_loss", "mpo_learner_value_loss"},
      {"kl", "mpo_learner_kl_nats"},
      {"entropy", "mpo_learner_policy_entropy_nats"},
      {"clip_fraction", "mpo_learner_clip_ratio"},
      {"grad_norm", "mpo_learner_grad_norm"},
      {"reward", "mpo_learner_reward"},
      {"learning_rate", "mpo_learner_learning_rate"}};
  for (const auto& [figure, name] : figures) {
    figures_[figure] = &Gauge(r, name, "Of the last step: " + figure + ".");
  }
}

void LearnerMetrics::RecordStep(int64_t step,
                                const std::map<std::string, double>& metrics) {
  for (const auto& [name, gauge] : figures_) {
    if (const auto it = metrics.find(name); it != metrics.end()) {
      gauge->Set(it->second);
    }
  }
  if (const auto it = metrics.find("tokens"); it != metrics.end()) {
    tokens_.Increment(it->second);
  }
  const auto nonfinite = metrics.find("nonfinite");
  const bool skipped = nonfinite != metrics.end() && nonfinite->second > 0;
  (skipped ? steps_skipped_ : steps_trained_).Increment();
  step_.Set(static_cast<double>(step));
  step_timestamp_.SetToCurrentTime();
}

void LearnerMetrics::RecordPhase(const std::string& phase, double seconds) {
  if (const auto it = phases_.find(phase); it != phases_.end()) {
    it->second->Observe(seconds);
  }
}

}  // namespace mpo::policy_learner
