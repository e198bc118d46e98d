// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "mpo/collective/process_group.h"
#include "mpo/tensor/codec.h"

namespace mpo::policy_learner {

// The elements of the leaves whose optimiser state one rank has (Rajbhandari et
// al. 2020, ZeRO-1): the leaves laid end to end are cut into runs of equal
// length, one a rank. Collective methods throw GroupFailure. Not thread-safe.
class LeafShard {
 public:
  // `group` must outlive it; all ranks give the same leaves.
  LeafShard(std::vector<tensor::NamedTensor> leaves,
            collective::ProcessGroup& group);

  // This rank's part of each leaf it has one of, [n], in the memory of the
  // leaf and under its name.
  const std::vector<tensor::NamedTensor>& own() const { return own_; }
  // The leaf that own()[i] is of.
  size_t LeafOf(size_t i) const { return slices_[i].leaf; }
  // The same part of another tensor of the leaf's shape, a copy.
  at::Tensor PartOf(size_t i, const at::Tensor& whole) const;

  // Gives the parts the gradients of their leaves; undefined where those are.
  void TakeGradients() const;
  // Collective: after the own parts have changed, brings the others'.
  void GatherLeaves() const;
  // Collective: tensors of the leaves' shapes from all ranks' parts, `parts[i]`
  // being that of own()[i]; empty on all ranks but 0. `what` for messages.
  std::vector<at::Tensor> Gather(const std::vector<at::Tensor>& parts,
                                 const std::string& what) const;

 private:
  struct Slice {
    size_t leaf;
    int64_t begin, length;  // Within the flattened leaf.
  };
  using Visit =
      std::function<void(size_t leaf, int64_t begin, const at::Tensor& values)>;

  // Calls visit with what lies where when `values` are laid from `begin` on
  // over the leaves end to end; what is beyond them is left out.
  void ForEachPart(int64_t begin, const at::Tensor& values,
                   const Visit& visit) const;
  // Collective: all ranks' runs, this rank's being `own` [run_].
  void GatherRuns(const at::Tensor& own, const std::string& what,
                  const Visit& visit) const;

  collective::ProcessGroup& group_;
  std::vector<tensor::NamedTensor> leaves_;
  std::vector<int64_t> offsets_;  // Of each leaf, and the total.
  int64_t run_ = 0;               // Elements of one rank, padding included.
  std::vector<Slice> slices_;
  std::vector<tensor::NamedTensor> own_;
};

}  // namespace mpo::policy_learner
