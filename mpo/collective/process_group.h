// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "mpo/collective/membership.h"

namespace mpo::collective {

// Collective operations of the ranks of one group. All ranks call the same
// operations in the same order with the same shapes and types; each call blocks
// until this rank's part is done. Results are the same bits on every rank.
//
// No call hangs. Before data moves the ranks meet over the side channel
// (Membership::Enter), where a rank that died, stopped or went another way is
// found out; the transfer itself has a deadline. UNAVAILABLE or
// DEADLINE_EXCEEDED name the operation and, once it is known, the rank;
// INTERNAL: the ranks called different operations. After an error the group is
// of no more use. INVALID_ARGUMENT: a tensor that is not contiguous or of an
// unsupported type or shape or on another device, before anything was sent.
//
// Not thread-safe: one thread a rank.
class ProcessGroup {
 public:
  struct Options {
    // How long a rank may neither enter an operation nor report progress.
    absl::Duration patience = absl::Seconds(20);
    // How long a transfer may stand still.
    absl::Duration transfer = absl::Seconds(12);
    // How long a failed transfer waits to learn which rank was lost.
    absl::Duration diagnosis = absl::Seconds(12);
  };

  ProcessGroup(std::shared_ptr<Membership> membership, const Options& options)
      : membership_(std::move(membership)), options_(options) {}
  virtual ~ProcessGroup() = default;
  ProcessGroup(const ProcessGroup&) = delete;
  ProcessGroup& operator=(const ProcessGroup&) = delete;

  int rank() const { return membership_->rank(); }
  int ranks() const { return membership_->ranks(); }
  Membership& membership() { return *membership_; }
  // Where tensors must lie.
  virtual at::Device device() const { return at::kCPU; }

  // `what` names the tensor in messages: "gradients". Types: float, double,
  // int64.

  // `tensor` becomes the sum of all ranks'.
  absl::Status AllReduceSum(const at::Tensor& tensor, const std::string& what);
  // `tensor` becomes that of `root`.
  absl::Status Broadcast(const at::Tensor& tensor, int root,
                         const std::string& what);
  // `all` [ranks x n] becomes the ranks' `own` [n] one after another.
  absl::Status AllGather(const at::Tensor& own, const at::Tensor& all,
                         const std::string& what);
  absl::Status Barrier(const std::string& what);
  // An error of `operation` as these give it, "<operation> on rank 0: why".
  absl::Status In(const std::string& operation,
                  const absl::Status& status) const;

 protected:
  enum class Kind { kAllReduceSum, kBroadcast, kAllGather };
  struct Collective {
    Kind kind;
    at::Tensor tensor;  // Of kAllGather the own part.
    at::Tensor all;     // kAllGather.
    int root = 0;       // kBroadcast.
    std::string what;
    absl::Duration timeout;
  };
  // Moves the data; all ranks have entered and the tensors are checked and not
  // empty. Blocks at most `timeout` without progress.
  virtual absl::Status Transfer(const Collective& collective) = 0;
  // Another meeting of all ranks, for a transport that needs one.
  absl::Status Meet(const std::string& operation, int64_t bytes);

 private:
  absl::Status Run(Collective collective, const char* name);
  absl::Status Check(const at::Tensor& tensor, const std::string& what) const;

  const std::shared_ptr<Membership> membership_;
  const Options options_;
  int64_t sequence_ = 0;
};

}  // namespace mpo::collective
