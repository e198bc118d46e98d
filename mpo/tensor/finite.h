// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "mpo/tensor/codec.h"

namespace mpo::tensor {

// OK when no element of any tensor is NaN or infinite; integers always are
// fine. Reads on Threads() threads. DATA_LOSS names the first tensor in the
// given order that has one.
absl::Status CheckFinite(const std::vector<NamedTensor>& tensors);

}  // namespace mpo::tensor
