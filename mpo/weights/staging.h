// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "mpo/tensor/codec.h"
#include "mpo/weights/manifest.h"
#include "mpo/weights/memory_file.h"

namespace mpo::weights {

// That a block laid out as LayoutOf(manifest) holds what the manifest says, on
// at most `threads` threads. DATA_LOSS names version, tensor and the two
// digests.
absl::Status VerifyDigests(const Manifest& manifest, const char* block,
                           int threads);

// The tensors of such a block (uint8, on the CPU): views, not copies.
// INVALID_ARGUMENT for an unknown dtype.
absl::StatusOr<std::vector<tensor::NamedTensor>> ViewsOf(
    const Manifest& manifest, const at::Tensor& block);

// The tensors of a memory file whose digests are right. They lie in the map,
// which lasts as long as one of them, and must not be written to. The manifest
// must have passed ValidateManifest. FAILED_PRECONDITION: the file is not as
// large as the manifest's layout. DATA_LOSS as VerifyDigests.
absl::StatusOr<std::vector<tensor::NamedTensor>> TensorsOf(
    std::shared_ptr<const MemoryMap> map, const Manifest& manifest,
    int threads);

}  // namespace mpo::weights
