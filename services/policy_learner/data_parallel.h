// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <exception>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "mpo/collective/process_group.h"
#include "mpo/tensor/codec.h"
#include "services/policy_learner/training_batch.h"

namespace mpo::policy_learner {

// A collective operation failed. Never leaves this folder: PolicyTrainer turns
// it into its status.
class GroupFailure final : public std::exception {
 public:
  explicit GroupFailure(absl::Status status)
      : status_(std::move(status)), what_(status_.ToString()) {}
  const absl::Status& status() const { return status_; }
  const char* what() const noexcept override { return what_.c_str(); }

 private:
  absl::Status status_;
  std::string what_;
};

// The part one rank has in an update that several share: each computes its rows
// of every minibatch with the weights of the whole one, and what is summed or
// completed here is then the same bits on all ranks. All ranks call the same
// methods in the same order; each but OwnRows and Progress throws GroupFailure.
// Without a group (one rank) every method leaves its arguments as they are. Not
// thread-safe.
class DataParallel {
 public:
  // `group` null = alone; must outlive this.
  explicit DataParallel(collective::ProcessGroup* group = nullptr)
      : group_(group) {}

  bool shared() const { return group_ != nullptr; }
  int rank() const { return group_ == nullptr ? 0 : group_->rank(); }
  int ranks() const { return group_ == nullptr ? 1 : group_->ranks(); }

  // Those of `rows` that this rank computes, in their order. All ranks'
  // together are `rows`. Depends on the set of rows only, not on their order;
  // rows of one prompt stay together as far as an even share of the tokens
  // allows.
  std::vector<int64_t> OwnRows(const TrainingBatch& batch,
                               const std::vector<int64_t>& rows) const;

  // Matrices of which each rank has filled its rows and left the others 0
  // become whole.
  void Complete(const std::vector<at::Tensor>& matrices,
                const std::string& what) const;
  // Each number becomes the sum of the ranks'.
  void Sum(const std::vector<double*>& numbers, const std::string& what) const;
  // The same for the gradients of leaves, and for `numbers`. A gradient that no
  // rank has stays undefined.
  void SumGradients(const std::vector<tensor::NamedTensor>& leaves,
                    const std::vector<double*>& numbers,
                    const std::string& what) const;
  // Tensors become rank 0's.
  void Broadcast(const std::vector<tensor::NamedTensor>& tensors) const;
  // Tells the others that this rank gets on with its work.
  void Progress() const;

 private:
  collective::ProcessGroup* group_;
};

}  // namespace mpo::policy_learner
