// SPDX-License-Identifier: Apache-2.0
#include "mpo/app/run_main.h"
#include "services/rollout_actor/actor_process.h"

int main(int argc, char** argv) {
  return mpo::app::RunMain(argc, argv, "rollout_actor",
                           [](const mpo::app::ServiceOptions& options) {
                             return mpo::rollout_actor::RunActor(
                                 {.config = options.config,
                                  .config_sha256 = options.config_sha256,
                                  .name = options.name,
                                  .listen = options.listen,
                                  .metrics_listen = options.metrics_listen});
                           });
}
