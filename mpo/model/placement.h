// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "mpo/model/language_model.h"

namespace mpo::model {

// Where a model lies and in which precision, from the names people write:
// `dtype` float32, bfloat16 or float16; `device` cpu, cuda or cuda:<index>.
// INVALID_ARGUMENT for another name. FAILED_PRECONDITION when this build or
// this machine has no such device.
absl::StatusOr<LoadOptions> ParsePlacement(const std::string& dtype,
                                           const std::string& device);

}  // namespace mpo::model
