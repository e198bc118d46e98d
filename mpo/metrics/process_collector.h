// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include <vector>

namespace mpo::metrics {

// The process_* metrics every Prometheus client exposes, read from /proc at
// each scrape: cpu and resident memory, open and maximum files, start time,
// and mpo_log_lines_total by level. Thread-safe.
class ProcessCollector final : public prometheus::Collectable {
 public:
  std::vector<prometheus::MetricFamily> Collect() const override;
};

}  // namespace mpo::metrics
