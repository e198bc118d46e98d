// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include "mpo/base/clock.h"
#include "mpo/collective/process_group.h"
#include "mpo/collective/rendezvous.h"

namespace mpo::collective {

// Ranks that are threads of one process: for tests, and the reference that
// other transports are compared with. Sums add in the order of the ranks.
class ThreadGroup final : public ProcessGroup {
 public:
  struct Slots;  // Where the ranks see each other's tensors.

  ThreadGroup(std::shared_ptr<Membership> membership, const Options& options,
              std::shared_ptr<Slots> slots)
      : ProcessGroup(std::move(membership), options),
        slots_(std::move(slots)) {}

 protected:
  absl::Status Transfer(const Collective& collective) override;

 private:
  const std::shared_ptr<Slots> slots_;
};

// A group of `ranks` threads. `rendezvous` (of as many ranks) must outlive the
// groups; who holds it can end the group and looks for lost ranks with
// Rendezvous::Check.
std::vector<std::unique_ptr<ThreadGroup>> MakeThreadGroups(
    Rendezvous& rendezvous, const ProcessGroup::Options& options = {});

}  // namespace mpo::collective
