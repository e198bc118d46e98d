// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "mpo/collective/process_group.h"

struct mpo_gloo_context;

namespace mpo::collective {

class GlooLibrary;

// Tensors of CPUs over TCP with Gloo, which is loaded apart from LibTorch's own
// copy (docs/adr/). No authentication or encryption: for a network of
// the learner's own.
class GlooGroup final : public ProcessGroup {
 public:
  struct Options {
    ProcessGroup::Options operations;
    // Address or name of this machine that the other ranks reach.
    std::string host = "127.0.0.1";
    absl::Duration connect = absl::Seconds(25);
  };

  // Connects with all other ranks, which must call it too. NOT_FOUND:
  // libmpo_gloo.so is neither beside the program nor in ../lib. UNAVAILABLE,
  // DEADLINE_EXCEEDED: a rank cannot be reached.
  static absl::StatusOr<std::unique_ptr<GlooGroup>> Connect(
      std::shared_ptr<Membership> membership, const Options& options);
  ~GlooGroup() override;

 protected:
  absl::Status Transfer(const Collective& collective) override;

 private:
  GlooGroup(std::shared_ptr<Membership> membership, const Options& options,
            const GlooLibrary& library, mpo_gloo_context* context);

  const GlooLibrary& library_;
  mpo_gloo_context* const context_;
};

// The address of this machine from which `address` (host:port) is reached.
// UNAVAILABLE: it cannot be.
absl::StatusOr<std::string> LocalAddressTowards(const std::string& address);

}  // namespace mpo::collective
