// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <prometheus/registry.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace prometheus {
class Exposer;
}

namespace mpo::metrics {

// A registry and the HTTP port it is read from (GET /metrics, Prometheus
// text). Adds mpo_build_info and the process_* metrics. Thread-safe after
// construction.
class Exposition {
 public:
  // `address` is host:port; port 0 asks for a free one; empty = no HTTP port.
  // UNAVAILABLE when the port is taken.
  static absl::StatusOr<std::unique_ptr<Exposition>> Start(
      const std::string& process, const std::string& address);
  ~Exposition();

  prometheus::Registry& registry() { return *registry_; }
  // 0 when there is no HTTP port.
  int port() const { return port_; }

 private:
  Exposition() = default;
  std::shared_ptr<prometheus::Registry> registry_;
  std::shared_ptr<prometheus::Collectable> process_;
  std::unique_ptr<prometheus::Exposer> exposer_;
  int port_ = 0;
};

}  // namespace mpo::metrics
