// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/learner_group.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"
#include "mpo/collective/gloo/gloo_group.h"
#include "mpo/collective/remote_membership.h"
#include "mpo/logging/log.h"
#ifdef MPO_WITH_CUDA
#include "mpo/collective/nccl/nccl_group.h"
#endif

namespace mpo::policy_learner {
namespace {

absl::StatusOr<std::shared_ptr<collective::ProcessGroup>> Connect(
    std::shared_ptr<collective::Membership> membership,
    const LearnerGroup::Options& options) {
  const collective::ProcessGroup::Options operations = {.patience =
                                                            options.patience};
  if (options.device.is_cuda()) {
#ifdef MPO_WITH_CUDA
    return collective::NcclGroup::Connect(
        std::move(membership),
        {.operations = operations, .device = options.device.index()});
#else
    return absl::FailedPreconditionError(
        "this build has no CUDA: ranks on GPUs need the preset cuda");
#endif
  }
  MPO_ASSIGN_OR_RETURN(const std::string host,
                       collective::LocalAddressTowards(options.address));
  return collective::GlooGroup::Connect(
      std::move(membership), {.operations = operations, .host = host});
}

}  // namespace

absl::StatusOr<std::unique_ptr<LearnerGroup>> LearnerGroup::Form(
    const Options& options, Clock& clock) {
  if (options.rank < 0 || options.rank >= options.ranks) {
    return absl::InvalidArgumentError(
        absl::StrCat("--rank: expected one in [0, ", options.ranks,
                     ") as learner.ranks says, got ", options.rank));
  }
  std::unique_ptr<LearnerGroup> made(new LearnerGroup());
  std::shared_ptr<collective::Membership> membership;
  if (options.rank == 0) {
    MPO_ASSIGN_OR_RETURN(
        made->server_, collective::RendezvousServer::Start(
                           {.listen = options.listen.empty() ? options.address
                                                             : options.listen,
                            .group = {.ranks = options.ranks,
                                      .config_sha256 = options.config_sha256}},
                           clock));
    logging::Info("waiting for the other ranks", {{"ranks", options.ranks}});
    auto local = std::make_shared<collective::LocalMembership>(
        made->server_->rendezvous(), 0);
    MPO_RETURN_IF_ERROR(local->Join(options.config_sha256, options.join));
    membership = std::move(local);
  } else {
    MPO_ASSIGN_OR_RETURN(membership,
                         collective::RemoteMembership::Join(
                             {.address = options.address,
                              .rank = options.rank,
                              .ranks = options.ranks,
                              .config_sha256 = options.config_sha256,
                              .incarnation = options.incarnation},
                             options.join));
  }
  MPO_ASSIGN_OR_RETURN(made->group_, Connect(std::move(membership), options));
  logging::Info("all ranks are connected", {{"rank", options.rank},
                                            {"ranks", options.ranks},
                                            {"device", options.device.str()}});
  return made;
}

}  // namespace mpo::policy_learner
