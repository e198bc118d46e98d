// SPDX-License-Identifier: Apache-2.0
#include "mpo/collective/process_group.h"

#include <torch/torch.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"
#include "mpo/tensor/codec.h"
#include "mpo/tensor/dtype.h"

namespace mpo::collective {

absl::Status ProcessGroup::In(const std::string& operation,
                              const absl::Status& status) const {
  if (status.ok()) return status;
  return absl::Status(status.code(),
                      absl::StrCat(operation, " on rank ", rank(), ": ",
                                   std::string(status.message())));
}

absl::Status ProcessGroup::Check(const at::Tensor& tensor,
                                 const std::string& what) const {
  const bool typed = tensor.defined() && (tensor.scalar_type() == at::kFloat ||
                                          tensor.scalar_type() == at::kDouble ||
                                          tensor.scalar_type() == at::kLong);
  if (typed && tensor.is_contiguous() && tensor.device() == device()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      what,
      ": expected a contiguous tensor of float, double or int64 on the "
      "group's device, got ",
      tensor.defined() ? absl::StrCat(c10::toString(tensor.scalar_type()), " ",
                                      tensor::ShapeString(tensor.sizes()),
                                      " on ", tensor.device().str())
                       : "none"));
}

absl::Status ProcessGroup::Meet(const std::string& operation, int64_t bytes) {
  const absl::Status status =
      membership_->Enter({.rank = rank(),
                          .sequence = ++sequence_,
                          .operation = operation,
                          .bytes = bytes,
                          .patience = options_.patience});
  return In(operation, status);
}

absl::Status ProcessGroup::Run(Collective collective, const char* name) {
  MPO_RETURN_IF_ERROR(Check(collective.tensor, collective.what));
  collective.what = absl::StrCat(name, " of ", collective.what);
  collective.timeout = options_.transfer;
  const auto bytes = static_cast<int64_t>(collective.tensor.nbytes());
  MPO_RETURN_IF_ERROR(Meet(collective.what, bytes));
  if (bytes == 0) return absl::OkStatus();
  absl::Status status = Transfer(collective);
  if (status.ok()) return status;
  // The transport knows that a connection broke or stood still; the side
  // channel finds out whose.
  if (absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status)) {
    const absl::Status why = membership_->AwaitEnd(options_.diagnosis);
    if (!why.ok()) status = why;
  }
  return In(collective.what, status);
}

absl::Status ProcessGroup::AllReduceSum(const at::Tensor& tensor,
                                        const std::string& what) {
  return Run({.kind = Kind::kAllReduceSum,
              .tensor = tensor,
              .all = {},
              .what = what,
              .timeout = {}},
             "all_reduce");
}

absl::Status ProcessGroup::Broadcast(const at::Tensor& tensor, int root,
                                     const std::string& what) {
  if (root < 0 || root >= ranks()) {
    return absl::InvalidArgumentError(absl::StrCat(
        what, ": expected a root in [0, ", ranks(), "), got ", root));
  }
  return Run({.kind = Kind::kBroadcast,
              .tensor = tensor,
              .all = {},
              .root = root,
              .what = what,
              .timeout = {}},
             "broadcast");
}

absl::Status ProcessGroup::AllGather(const at::Tensor& own,
                                     const at::Tensor& all,
                                     const std::string& what) {
  MPO_RETURN_IF_ERROR(Check(all, what));
  if (own.defined() && (all.numel() != own.numel() * ranks() ||
                        all.scalar_type() != own.scalar_type())) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": expected room for ", ranks(), " parts of ",
                     own.numel(), " elements, got ", all.numel()));
  }
  return Run({.kind = Kind::kAllGather,
              .tensor = own,
              .all = all,
              .what = what,
              .timeout = {}},
             "all_gather");
}

absl::Status ProcessGroup::Barrier(const std::string& what) {
  return Meet(absl::StrCat("barrier of ", what), 0);
}

}  // namespace mpo::collective
