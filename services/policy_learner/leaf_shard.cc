// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/leaf_shard.h"

#include <torch/torch.h>

#include <algorithm>
#include <string>

#include "services/policy_learner/data_parallel.h"

namespace mpo::policy_learner {
namespace {

// Elements each rank sends at once.
constexpr int64_t kBucket = 4 << 20;

}  // namespace

LeafShard::LeafShard(std::vector<tensor::NamedTensor> leaves,
                     collective::ProcessGroup& group)
    : group_(group), leaves_(std::move(leaves)), offsets_({0}) {
  for (const auto& leaf : leaves_) {
    offsets_.push_back(offsets_.back() + leaf.tensor.numel());
  }
  run_ = (offsets_.back() + group_.ranks() - 1) / group_.ranks();
  const int64_t begin = run_ * group_.rank();
  const int64_t end = std::min(begin + run_, offsets_.back());
  for (size_t i = 0; i < leaves_.size(); ++i) {
    const int64_t from = std::max(begin, offsets_[i]);
    const int64_t to = std::min(end, offsets_[i + 1]);
    if (from >= to) continue;
    slices_.push_back({i, from - offsets_[i], to - from});
    own_.push_back({leaves_[i].name, leaves_[i].tensor.detach().view(-1).narrow(
                                         0, from - offsets_[i], to - from)});
  }
}

at::Tensor LeafShard::PartOf(size_t i, const at::Tensor& whole) const {
  return whole.flatten().narrow(0, slices_[i].begin, slices_[i].length).clone();
}

void LeafShard::TakeGradients() const {
  for (size_t i = 0; i < own_.size(); ++i) {
    const at::Tensor& grad = leaves_[slices_[i].leaf].tensor.grad();
    at::Tensor part = own_[i].tensor;
    part.mutable_grad() =
        grad.defined()
            ? grad.flatten().narrow(0, slices_[i].begin, slices_[i].length)
            : at::Tensor();
  }
}

void LeafShard::ForEachPart(int64_t begin, const at::Tensor& values,
                            const Visit& visit) const {
  const int64_t end = begin + values.numel();
  auto it = std::upper_bound(offsets_.begin(), offsets_.end(), begin);
  for (size_t i = it - offsets_.begin() - 1;
       i < leaves_.size() && offsets_[i] < end; ++i) {
    const int64_t from = std::max(begin, offsets_[i]);
    const int64_t to = std::min(end, offsets_[i + 1]);
    if (from >= to) continue;
    visit(i, from - offsets_[i], values.narrow(0, from - begin, to - from));
  }
}

void LeafShard::GatherRuns(const at::Tensor& own, const std::string& what,
                           const Visit& visit) const {
  for (int64_t at = 0; at < run_; at += kBucket) {
    const int64_t count = std::min(kBucket, run_ - at);
    const at::Tensor all =
        torch::empty({group_.ranks(), count}, group_.device());
    if (absl::Status status =
            group_.AllGather(own.narrow(0, at, count), all, what);
        !status.ok()) {
      throw GroupFailure(status);
    }
    for (int rank = 0; rank < group_.ranks(); ++rank) {
      ForEachPart(rank * run_ + at, all[rank], visit);
    }
  }
}

void LeafShard::GatherLeaves() const {
  at::NoGradGuard no_grad;
  const at::Tensor own = torch::zeros({run_}, group_.device());
  int64_t at = 0;
  for (const auto& part : own_) {
    own.narrow(0, at, part.tensor.numel()).copy_(part.tensor);
    at += part.tensor.numel();
  }
  GatherRuns(own, "weights",
             [&](size_t leaf, int64_t begin, const at::Tensor& values) {
               leaves_[leaf]
                   .tensor.detach()
                   .view(-1)
                   .narrow(0, begin, values.numel())
                   .copy_(values);
             });
}

std::vector<at::Tensor> LeafShard::Gather(const std::vector<at::Tensor>& parts,
                                          const std::string& what) const {
  at::NoGradGuard no_grad;
  const at::Tensor own = torch::zeros({run_}, group_.device());
  int64_t at = 0;
  for (const at::Tensor& part : parts) {
    own.narrow(0, at, part.numel()).copy_(part);
    at += part.numel();
  }
  std::vector<at::Tensor> whole;
  if (group_.rank() == 0) {
    for (const auto& leaf : leaves_) {
      whole.push_back(torch::zeros_like(leaf.tensor).detach());
    }
  }
  GatherRuns(
      own, what, [&](size_t leaf, int64_t begin, const at::Tensor& values) {
        if (whole.empty()) return;
        whole[leaf].view(-1).narrow(0, begin, values.numel()).copy_(values);
      });
  return whole;
}

}  // namespace mpo::policy_learner
