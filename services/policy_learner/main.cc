// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "mpo/app/run_main.h"
#include "mpo/tensor/memory.h"
#include "services/policy_learner/learner_process.h"

int main(int argc, char** argv) {
  mpo::tensor::KeepMemory();
  std::string rank = "0", group;
  return mpo::app::RunMain(
      argc, argv, "policy_learner",
      [&](const mpo::app::ServiceOptions& options) -> absl::Status {
        mpo::policy_learner::LearnerProcessOptions own = {
            .config = options.config,
            .config_sha256 = options.config_sha256,
            .name = options.name,
            .listen = options.listen,
            .metrics_listen = options.metrics_listen,
            .group = group};
        if (!absl::SimpleAtoi(rank, &own.rank)) {
          return absl::InvalidArgumentError(
              absl::StrCat("--rank: expected a number, got '", rank, "'"));
        }
        return mpo::policy_learner::RunLearner(own);
      },
      {{"--rank", &rank, "Which of learner.ranks this is; 0 = the learner"},
       {"--group", &group,
        "host:port where rank 0 meets the others: it listens there, they go "
        "there; left out: mesh.learner_group"}});
}
