// SPDX-License-Identifier: Apache-2.0
#include "mpo/app/run_main.h"
#include "services/reward_server/reward_process.h"

int main(int argc, char** argv) {
  return mpo::app::RunMain(argc, argv, "reward_server",
                           [](const mpo::app::ServiceOptions& options) {
                             return mpo::reward_server::RunRewardServer(
                                 {.config = options.config,
                                  .name = options.name,
                                  .listen = options.listen,
                                  .metrics_listen = options.metrics_listen});
                           });
}
