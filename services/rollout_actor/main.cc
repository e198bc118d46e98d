// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "mpo/app/run_main.h"
#include "services/rollout_actor/actor_process.h"

namespace {

// Two live members of one name would take each other's leases away, so an
// actor that is not given a name takes one that nobody else has.
std::string DefaultName() {
  char host[256] = "host";
  gethostname(host, sizeof(host) - 1);
  return absl::StrCat("actor-", host, "-", getpid());
}

}  // namespace

int main(int argc, char** argv) {
  return mpo::app::RunMain(argc, argv, DefaultName(),
                           [](const mpo::app::ServiceOptions& options) {
                             return mpo::rollout_actor::RunActor(
                                 {.config = options.config,
                                  .config_sha256 = options.config_sha256,
                                  .name = options.name,
                                  .listen = options.listen,
                                  .metrics_listen = options.metrics_listen});
                           });
}
