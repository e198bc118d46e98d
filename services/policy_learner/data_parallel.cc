// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/data_parallel.h"

#include <torch/torch.h>

#include <algorithm>
#include <map>

namespace mpo::policy_learner {
namespace {

using tensor::NamedTensor;

// Elements summed at once: large enough for the bandwidth, small beside a
// model.
constexpr int64_t kBucket = 8 << 20;

void OrThrow(const absl::Status& status) {
  if (!status.ok()) throw GroupFailure(status);
}

}  // namespace

std::vector<int64_t> DataParallel::OwnRows(
    const TrainingBatch& batch, const std::vector<int64_t>& rows) const {
  if (!shared()) return rows;
  // Ascending, rows of one prompt next to each other.
  std::vector<int64_t> sorted = rows;
  std::sort(sorted.begin(), sorted.end());
  std::map<std::vector<int32_t>, int64_t> first;  // Row, by prompt.
  std::map<int64_t, int64_t> place;
  int64_t total = 0;
  for (int64_t row : sorted) {
    const std::vector<int32_t>& input = batch.inputs[row];
    place[row] =
        first
            .try_emplace(
                {input.begin(), input.begin() + batch.prompt_lengths[row]}, row)
            .first->second;
    total += static_cast<int64_t>(input.size());
  }
  std::stable_sort(sorted.begin(), sorted.end(),
                   [&](int64_t a, int64_t b) { return place[a] < place[b]; });
  // A row is whose share its middle token lies in.
  std::map<int64_t, bool> own;
  int64_t before = 0;
  for (int64_t row : sorted) {
    const auto length = static_cast<int64_t>(batch.inputs[row].size());
    own[row] = (2 * before + length) * ranks() / (2 * total) == rank();
    before += length;
  }
  std::vector<int64_t> share;
  for (int64_t row : rows) {
    if (own[row]) share.push_back(row);
  }
  return share;
}

void DataParallel::Complete(const std::vector<at::Tensor>& matrices,
                            const std::string& what) const {
  if (!shared() || matrices.empty()) return;
  at::NoGradGuard no_grad;
  const at::Tensor all = at::stack(matrices).to(group_->device());
  OrThrow(group_->AllReduceSum(all, what));
  for (size_t i = 0; i < matrices.size(); ++i) {
    at::Tensor(matrices[i]).copy_(all[static_cast<int64_t>(i)]);
  }
}

void DataParallel::Sum(const std::vector<double*>& numbers,
                       const std::string& what) const {
  if (!shared()) return;
  const at::Tensor all =
      torch::zeros({static_cast<int64_t>(numbers.size())}, torch::kDouble);
  double* values = all.data_ptr<double>();
  for (size_t i = 0; i < numbers.size(); ++i) values[i] = *numbers[i];
  const at::Tensor there = all.to(group_->device());
  OrThrow(group_->AllReduceSum(there, what));
  all.copy_(there);
  for (size_t i = 0; i < numbers.size(); ++i) *numbers[i] = values[i];
}

void DataParallel::SumGradients(const std::vector<NamedTensor>& leaves,
                                const std::vector<double*>& numbers,
                                const std::string& what) const {
  if (!shared()) return;
  at::NoGradGuard no_grad;
  // How many ranks have a gradient of each leaf goes with the numbers.
  std::vector<double> having(leaves.size());
  std::vector<double*> all = numbers;
  for (size_t i = 0; i < leaves.size(); ++i) {
    having[i] = leaves[i].tensor.grad().defined() ? 1 : 0;
    all.push_back(&having[i]);
  }
  Sum(all, what + "' losses");
  std::vector<at::Tensor> bucket;
  int64_t elements = 0;
  const auto flush = [&] {
    if (bucket.empty()) return;
    std::vector<at::Tensor> flat;
    for (const at::Tensor& grad : bucket) {
      flat.push_back(grad.flatten().to(at::kFloat));
    }
    const at::Tensor sum = at::cat(flat).to(group_->device());
    OrThrow(group_->AllReduceSum(sum, what));
    int64_t offset = 0;
    for (const at::Tensor& grad : bucket) {
      at::Tensor(grad).copy_(sum.narrow(0, offset, grad.numel()).view_as(grad));
      offset += grad.numel();
    }
    bucket.clear();
    elements = 0;
  };
  for (size_t i = 0; i < leaves.size(); ++i) {
    if (having[i] == 0) continue;
    at::Tensor leaf = leaves[i].tensor;
    if (!leaf.grad().defined()) leaf.mutable_grad() = torch::zeros_like(leaf);
    bucket.push_back(leaf.grad());
    elements += leaf.numel();
    if (elements >= kBucket) flush();
  }
  flush();
}

void DataParallel::Broadcast(const std::vector<NamedTensor>& tensors) const {
  if (!shared()) return;
  at::NoGradGuard no_grad;
  for (const NamedTensor& entry : tensors) {
    at::Tensor target = entry.tensor;
    const bool moves = target.scalar_type() == at::kFloat ||
                       target.scalar_type() == at::kDouble ||
                       target.scalar_type() == at::kLong;
    // The tensor itself where it can be sent as it lies.
    const at::Tensor sent =
        target.detach()
            .to(group_->device(), moves ? target.scalar_type() : at::kFloat)
            .contiguous();
    OrThrow(group_->Broadcast(sent, /*root=*/0, entry.name));
    if (!sent.is_alias_of(target)) target.copy_(sent);
  }
}

void DataParallel::Progress() const {
  if (shared()) group_->membership().Progress();
}

}  // namespace mpo::policy_learner
