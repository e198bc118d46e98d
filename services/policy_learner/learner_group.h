// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "mpo/base/clock.h"
#include "mpo/collective/process_group.h"
#include "mpo/collective/rendezvous_server.h"

namespace mpo::policy_learner {

// One process's place among the ranks of the learner: on rank 0 the rendezvous
// that the others join, on each a Gloo group over all of them. Not thread-safe.
class LearnerGroup {
 public:
  struct Options {
    int rank = 0;
    int ranks = 1;
    // Of rank 0's rendezvous, as the others reach it.
    std::string address = {};
    std::string listen = {};  // Where rank 0 listens; empty = `address`.
    std::string config_sha256 = {};
    std::string incarnation = {};                 // Random, one a process.
    absl::Duration patience = absl::Seconds(20);  // ProcessGroup::Options.
    absl::Duration join = absl::Minutes(5);       // For all to be there.
    // Where this rank's model lies: Gloo on the CPU, NCCL on a GPU.
    at::Device device = at::kCPU;
  };

  // Waits until all ranks have joined and are connected. INVALID_ARGUMENT: no
  // such rank. FAILED_PRECONDITION: a GPU, and a build without CUDA. Else
  // errors of Rendezvous::Join, RemoteMembership::Join and GlooGroup::Connect
  // or NcclGroup::Connect.
  static absl::StatusOr<std::unique_ptr<LearnerGroup>> Form(
      const Options& options, Clock& clock);

  const std::shared_ptr<collective::ProcessGroup>& group() const {
    return group_;
  }
  // Rank 0's; null on the others.
  collective::Rendezvous* book() const {
    return server_ == nullptr ? nullptr : &server_->rendezvous();
  }

 private:
  LearnerGroup() = default;
  std::unique_ptr<collective::RendezvousServer> server_;
  std::shared_ptr<collective::ProcessGroup> group_;
};

}  // namespace mpo::policy_learner
