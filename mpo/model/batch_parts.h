// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "mpo/model/decoder.h"

namespace mpo::model {

// A batch divided among threads that each run their rows by themselves
// (RunApart, docs/adr/0012-rows-of-a-thread.md).

// Where each thread's rows of `hidden` [batch, length, D] begin, and the end of
// the last ones'. Empty where the threads had better share every operation: on
// a device, within an OpenMP region or without OpenMP, where rows are few or
// short or do not divide to within a tenth, and where `wanted` [N], which may
// be undefined, is not ascending.
std::vector<int64_t> ThreadParts(const at::Tensor& hidden,
                                 const at::Tensor& wanted);

// Rows [begin, end) of a batch, and which of their tokens are wanted.
struct BatchPart {
  SequenceBatch batch;
  at::Tensor wanted;  // Over the part's flattened [rows, length].
};

BatchPart TakePart(const SequenceBatch& batch, const at::Tensor& wanted,
                   int64_t begin, int64_t end);

}  // namespace mpo::model
