// SPDX-License-Identifier: Apache-2.0
#include "mpo/collective/thread_group.h"

#include <torch/torch.h>

#include "mpo/base/mutex.h"
#include "mpo/base/status_macros.h"
#include "mpo/tensor/torch_errors.h"

namespace mpo::collective {

struct ThreadGroup::Slots {
  explicit Slots(int ranks) : tensors(ranks) {}
  Mutex mu;
  std::vector<at::Tensor> tensors ABSL_GUARDED_BY(mu);
};

absl::Status ThreadGroup::Transfer(const Collective& collective) {
  {
    MutexLock lock(slots_->mu);
    slots_->tensors[rank()] = collective.tensor;
  }
  MPO_RETURN_IF_ERROR(Meet(collective.what + ", put", 0));
  std::vector<at::Tensor> others;
  {
    MutexLock lock(slots_->mu);
    others = slots_->tensors;
  }
  at::Tensor result;
  const absl::Status computed = tensor::CatchTorch(collective.what, [&] {
    at::NoGradGuard no_grad;
    switch (collective.kind) {
      case Kind::kAllReduceSum:
        result = others[0].clone();
        for (int other = 1; other < ranks(); ++other) result += others[other];
        break;
      case Kind::kBroadcast:
        result = others[collective.root].clone();
        break;
      case Kind::kAllGather:
        for (at::Tensor& other : others) other = other.flatten();
        result = at::cat(others);
        break;
    }
  });
  MPO_RETURN_IF_ERROR(computed);
  // Nobody overwrites what another still reads.
  MPO_RETURN_IF_ERROR(Meet(collective.what + ", read", 0));
  return tensor::CatchTorch(collective.what, [&] {
    at::NoGradGuard no_grad;
    const at::Tensor& to = collective.kind == Kind::kAllGather
                               ? collective.all
                               : collective.tensor;
    at::Tensor(to).copy_(result.view_as(to));
  });
}

std::vector<std::unique_ptr<ThreadGroup>> MakeThreadGroups(
    Rendezvous& rendezvous, const ProcessGroup::Options& options) {
  const auto slots = std::make_shared<ThreadGroup::Slots>(rendezvous.ranks());
  std::vector<std::unique_ptr<ThreadGroup>> groups;
  for (int rank = 0; rank < rendezvous.ranks(); ++rank) {
    groups.push_back(std::make_unique<ThreadGroup>(
        std::make_shared<LocalMembership>(rendezvous, rank), options, slots));
  }
  return groups;
}

}  // namespace mpo::collective
