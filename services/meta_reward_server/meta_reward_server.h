// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <prometheus/registry.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "mpo/base/clock.h"
#include "mpo/config/v1/config.pb.h"
#include "mpo/judge/chat_client.h"
#include "mpo/rpc/server_host.h"
#include "services/meta_reward_server/meta_reward_service.h"

namespace mpo::meta_reward_server {

// The meta-reward server of a run: refiner, engine, service and listener, built
// from the run's configuration. Thread-safe.
class MetaRewardServer {
 public:
  // `address` is host:port, port 0 asks for a free one; `registry` must outlive
  // the server. INVALID_ARGUMENT: a meta-judge's URL or number is wrong.
  // NOT_FOUND: its key file. UNAVAILABLE: the address is taken.
  static absl::StatusOr<std::unique_ptr<MetaRewardServer>> Start(
      const config::v1::RunConfig& config, const std::string& address,
      prometheus::Registry& registry, Clock& clock = Clock::Real());

  int port() const { return host_->port(); }
  // Drains: running refinements end within the host's drain time or are
  // cancelled. Safe to call twice.
  void Stop();

 private:
  explicit MetaRewardServer(prometheus::Registry& registry)
      : metrics_(registry) {}

  // In order of use: what stands later is destroyed first.
  MetaRewardMetrics metrics_;
  std::unique_ptr<judge::ChatModel> model_;  // Null with the embedded reviewer.
  std::unique_ptr<Refiner> refiner_;
  std::unique_ptr<RefinementEngine> engine_;
  std::unique_ptr<MetaRewardService> service_;
  std::unique_ptr<rpc::ServerHost> host_;
};

// What a meta-judge may propose under this configuration: the catalogue, the
// number of criteria, and whether the embedded grader needs a check for each.
PromptLimits LimitsFrom(const config::v1::RunConfig& config);

}  // namespace mpo::meta_reward_server
