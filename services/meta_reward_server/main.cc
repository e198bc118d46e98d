// SPDX-License-Identifier: Apache-2.0
#include "absl/status/status.h"
#include "mpo/app/run_main.h"
#include "mpo/base/status_macros.h"
#include "mpo/logging/log.h"
#include "mpo/metrics/exposer.h"
#include "mpo/rpc/termination.h"
#include "services/meta_reward_server/meta_reward_server.h"

namespace {

absl::Status Run(const mpo::app::ServiceOptions& options) {
  MPO_ASSIGN_OR_RETURN(
      const auto exposition,
      mpo::metrics::Exposition::Start(options.name, options.metrics_listen));
  MPO_ASSIGN_OR_RETURN(
      const auto server,
      mpo::meta_reward_server::MetaRewardServer::Start(
          options.config, options.listen, exposition->registry()));
  mpo::logging::Info("ready", {{"port", server->port()}});
  mpo::rpc::WaitForTerminationSignal();
  server->Stop();
  return absl::OkStatus();
}

}  // namespace

int main(int argc, char** argv) {
  return mpo::app::RunMain(argc, argv, "meta_reward_server", Run);
}
