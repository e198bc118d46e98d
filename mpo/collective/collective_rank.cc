// SPDX-License-Identifier: Apache-2.0
// collective_rank ADDRESS RANK RANKS ELEMENTS: joins the rendezvous at ADDRESS
// as one rank of a Gloo group and sums tensors until something fails; prints
// why. For tests that kill or stop it.
#include <torch/torch.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "mpo/collective/gloo/gloo_group.h"
#include "mpo/collective/remote_membership.h"

namespace mpo::collective {
namespace {

absl::Status Run(char** argv) {
  auto membership =
      RemoteMembership::Join({.address = argv[1],
                              .rank = std::atoi(argv[2]),
                              .ranks = std::atoi(argv[3]),
                              .config_sha256 = "c",
                              .incarnation = std::string("process ") + argv[2]},
                             absl::Seconds(60));
  if (!membership.ok()) return membership.status();
  auto group = GlooGroup::Connect(*std::move(membership), {});
  if (!group.ok()) return group.status();
  const at::Tensor tensor = at::ones({std::atoi(argv[4])});
  for (;;) {
    const absl::Status status = (*group)->AllReduceSum(tensor, "ones");
    if (!status.ok()) return status;
  }
}

}  // namespace
}  // namespace mpo::collective

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  const absl::Status status = mpo::collective::Run(argv);
  std::printf("%s\n", status.ToString().c_str());
  return 1;
}
