// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "mpo/collective/gloo/gloo_group.h"
#include "mpo/collective/remote_membership.h"
#include "mpo/collective/rendezvous_server.h"
#include "mpo/collective/thread_group.h"

namespace mpo::collective {

// What tests of the transports share: groups whose ranks are threads.

// Calls run(rank) on a thread for each rank and waits for all.
inline void OnEachRank(int ranks, const std::function<void(int)>& run) {
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&run, rank] { run(rank); });
  }
}

// A group of threads, or one of Gloo with a real rendezvous on loopback, as
// processes would have it.
class TestGroup {
 public:
  TestGroup(int ranks, bool gloo) : ranks_(ranks), groups(ranks) {
    server_ = *RendezvousServer::Start(
        {.group = {.ranks = ranks, .config_sha256 = "c"}}, Clock::Real());
    if (!gloo) {
      auto made = MakeThreadGroups(rendezvous());
      for (int rank = 0; rank < ranks; ++rank) {
        groups[rank] = std::move(made[rank]);
      }
      return;
    }
    statuses.resize(ranks);
    OnEachRank(ranks, [&](int rank) { statuses[rank] = Connect(rank); });
  }

  Rendezvous& rendezvous() { return server_->rendezvous(); }
  std::string address() const {
    return absl::StrCat("127.0.0.1:", server_->port());
  }

 private:
  absl::Status Connect(int rank) {
    std::shared_ptr<Membership> membership;
    if (rank == 0) {
      auto local = std::make_shared<LocalMembership>(rendezvous(), 0);
      const absl::Status joined = local->Join("c", absl::Seconds(60));
      if (!joined.ok()) return joined;
      membership = std::move(local);
    } else {
      auto joined =
          RemoteMembership::Join({.address = address(),
                                  .rank = rank,
                                  .ranks = ranks_,
                                  .config_sha256 = "c",
                                  .incarnation = absl::StrCat("i", rank)},
                                 absl::Seconds(60));
      if (!joined.ok()) return joined.status();
      membership = *std::move(joined);
    }
    auto group = GlooGroup::Connect(std::move(membership), {});
    if (!group.ok()) return group.status();
    groups[rank] = *std::move(group);
    return absl::OkStatus();
  }

  const int ranks_;
  std::unique_ptr<RendezvousServer> server_;

 public:
  std::vector<std::shared_ptr<ProcessGroup>> groups;  // By rank.
  std::vector<absl::Status> statuses;                 // Of connecting.
};

}  // namespace mpo::collective
