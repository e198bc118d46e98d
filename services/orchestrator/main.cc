// SPDX-License-Identifier: Apache-2.0
#include "mpo/app/run_main.h"
#include "services/orchestrator/orchestrator_process.h"

int main(int argc, char** argv) {
  return mpo::app::RunMain(argc, argv, "orchestrator",
                           [](const mpo::app::ServiceOptions& options) {
                             return mpo::orchestrator::RunOrchestrator(
                                 {.config = options.config,
                                  .config_sha256 = options.config_sha256,
                                  .listen = options.listen,
                                  .metrics_listen = options.metrics_listen});
                           });
}
