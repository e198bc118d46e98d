// SPDX-License-Identifier: Apache-2.0
#include "mpo/app/run_main.h"
#include "services/policy_learner/learner_process.h"

int main(int argc, char** argv) {
  return mpo::app::RunMain(argc, argv, "policy_learner",
                           [](const mpo::app::ServiceOptions& options) {
                             return mpo::policy_learner::RunLearner(
                                 {.config = options.config,
                                  .config_sha256 = options.config_sha256,
                                  .name = options.name,
                                  .listen = options.listen,
                                  .metrics_listen = options.metrics_listen});
                           });
}
