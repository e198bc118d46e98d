// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/placement.h"

#include <torch/torch.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "mpo/tensor/torch_errors.h"

namespace mpo::model {
namespace {

absl::StatusOr<at::Device> ParseDevice(const std::string& name) {
  if (name == "cpu") return at::Device(at::kCPU);
  absl::string_view rest = name;
  int index = 0;
  if (!absl::ConsumePrefix(&rest, "cuda") ||
      (!rest.empty() &&
       (!absl::ConsumePrefix(&rest, ":") || !absl::SimpleAtoi(rest, &index) ||
        index < 0 || index > 127))) {
    return absl::InvalidArgumentError(absl::StrCat(
        "device: expected cpu, cuda or cuda:<index>, got \"", name, "\""));
  }
  int devices = 0;
  if (at::hasCUDA()) devices = static_cast<int>(torch::cuda::device_count());
  if (index < devices) {
    return at::Device(at::kCUDA, static_cast<at::DeviceIndex>(index));
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "device: \"", name, "\" is asked for and ", devices,
      " CUDA devices are there; use cpu, or a build of the preset cuda on a "
      "machine with a GPU"));
}

}  // namespace

absl::StatusOr<LoadOptions> ParsePlacement(const std::string& dtype,
                                           const std::string& device) {
  LoadOptions options;
  if (dtype == "float32") {
    options.dtype = at::kFloat;
  } else if (dtype == "bfloat16") {
    options.dtype = at::kBFloat16;
  } else if (dtype == "float16") {
    options.dtype = at::kHalf;
  } else {
    return absl::InvalidArgumentError(absl::StrCat(
        "dtype: expected float32, bfloat16 or float16, got \"", dtype, "\""));
  }
  auto found = tensor::CatchTorch("look for the device",
                                  [&] { return ParseDevice(device); });
  if (!found.ok()) return found.status();
  options.device = *found;
  return options;
}

}  // namespace mpo::model
