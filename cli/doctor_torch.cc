// SPDX-License-Identifier: Apache-2.0
#include <ATen/Version.h>
#include <ATen/ops/ones.h>
#include <torch/version.h>

#include <exception>

#include "absl/strings/str_cat.h"
#include "cli/doctor_checks.h"
#include "mpo/tensor/openblas.h"
#include "mpo/tensor/threads.h"
#include "mpo/tensor/tile.h"

namespace mpo::cli {

Finding CheckTorch() {
  try {
    const tensor::OpenBlas* const blas = tensor::OpenBlas::Get();
    const at::Tensor ones = at::ones({64, 64});
    const bool right = ones.mm(ones).sum().item<double>() == 64.0 * 64 * 64;
    return {
        .level = right ? Finding::Level::kOk : Finding::Level::kFailed,
        .name = "libtorch",
        .detail = absl::StrCat(
            TORCH_VERSION, ", ", at::get_cpu_capability(), ", ",
            tensor::Threads(), " threads, products: ",
            blas == nullptr ? "LibTorch's" : blas->description(),
            blas != nullptr && tensor::HasTiles() ? ", large ones our own" : "",
            right ? "" : ", and it computes wrongly")};
  } catch (const std::exception& error) {
    return {.level = Finding::Level::kFailed,
            .name = "libtorch",
            .detail = error.what()};
  }
}

}  // namespace mpo::cli
