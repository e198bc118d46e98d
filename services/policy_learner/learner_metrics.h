// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <map>
#include <string>

namespace mpo::policy_learner {

// Prometheus metrics of the learner (docs/operations.md). Members are resolved
// at construction; thread-safe.
class LearnerMetrics {
 public:
  // `registry` must outlive this object.
  explicit LearnerMetrics(prometheus::Registry& registry);

  // After step `step`: counters and the gauges of its figures.
  void RecordStep(int64_t step, const std::map<std::string, double>& metrics);
  // "wait", "forward", "backward", "optimiser", "publish" or "checkpoint".
  void RecordPhase(const std::string& phase, double seconds);

  prometheus::Gauge& weights_version;
  prometheus::Counter& weights_published;
  prometheus::Histogram& weights_publish_seconds;
  prometheus::Histogram& staleness;  // Versions behind, per token span.
  prometheus::Counter& samples_accepted;
  prometheus::Counter& samples_duplicate;
  prometheus::Counter& samples_invalid;
  prometheus::Gauge& spooled;
  prometheus::Gauge& checkpoint_timestamp;
  prometheus::Gauge& checkpoint_bytes;
  prometheus::Counter& checkpoint_failures;
  prometheus::Counter& version_failures;
  // Versions brought to inference engines; skipped: a newer one was due first.
  prometheus::Counter& engine_pushes_loaded;
  prometheus::Counter& engine_pushes_failed;
  prometheus::Counter& engine_pushes_skipped;
  prometheus::Histogram& engine_push_seconds;

 private:
  prometheus::Counter& steps_trained_;
  prometheus::Counter& steps_skipped_;
  prometheus::Counter& tokens_;
  prometheus::Gauge& step_;
  prometheus::Gauge& step_timestamp_;
  std::map<std::string, prometheus::Histogram*> phases_;
  std::map<std::string, prometheus::Gauge*> figures_;  // By metric name.
};

}  // namespace mpo::policy_learner
