// SPDX-License-Identifier: Apache-2.0
#include "mpo/weights/staging.h"

#include <ATen/ATen.h>

#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "mpo/base/digest.h"
#include "mpo/base/parallel.h"
#include "mpo/base/status_macros.h"
#include "mpo/tensor/dtype.h"
#include "mpo/tensor/torch_errors.h"

namespace mpo::weights {

absl::Status VerifyDigests(const Manifest& manifest, const char* block,
                           int threads) {
  const Layout layout = LayoutOf(manifest);
  std::vector<std::string> digests(manifest.tensors.size());
  const std::vector<size_t> order = LargestFirst(manifest);
  ParallelFor(order.size(), threads, [&](size_t position) {
    const size_t i = order[position];
    digests[i] = Sha256Hex({block + layout.offsets[i],
                            static_cast<size_t>(manifest.tensors[i].bytes)});
  });
  for (size_t i = 0; i < digests.size(); ++i) {
    const TensorEntry& entry = manifest.tensors[i];
    if (digests[i] == entry.sha256) continue;
    return absl::DataLossError(
        absl::StrCat("version ", manifest.version, ", tensor '", entry.name,
                     "', offset ", entry.bytes, ": SHA-256 is ", digests[i],
                     ", the manifest says ", entry.sha256));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<tensor::NamedTensor>> ViewsOf(
    const Manifest& manifest, const at::Tensor& block) {
  const Layout layout = LayoutOf(manifest);
  std::vector<tensor::NamedTensor> tensors;
  for (size_t i = 0; i < manifest.tensors.size(); ++i) {
    const TensorEntry& entry = manifest.tensors[i];
    MPO_ASSIGN_OR_RETURN(const at::ScalarType dtype,
                         tensor::ParseDtype(entry.dtype));
    MPO_ASSIGN_OR_RETURN(
        at::Tensor view, tensor::CatchTorch("view of a tensor", [&] {
          return block.narrow(0, layout.offsets[i], entry.bytes)
              .view(dtype)
              .view(entry.shape);
        }));
    tensors.push_back({entry.name, std::move(view)});
  }
  return tensors;
}

absl::StatusOr<std::vector<tensor::NamedTensor>> TensorsOf(
    std::shared_ptr<const MemoryMap> map, const Manifest& manifest,
    int threads) {
  const std::string_view bytes = map->bytes();
  const int64_t expected = LayoutOf(manifest).bytes;
  if (static_cast<int64_t>(bytes.size()) != expected) {
    return absl::FailedPreconditionError(
        absl::StrCat("version ", manifest.version, ": its memory file has ",
                     bytes.size(), " bytes, the manifest needs ", expected));
  }
  MPO_RETURN_IF_ERROR(VerifyDigests(manifest, bytes.data(), threads));
  const at::Tensor block = at::from_blob(
      const_cast<char*>(bytes.data()), {expected}, [map](void*) {},
      at::TensorOptions(at::kByte));
  return ViewsOf(manifest, block);
}

}  // namespace mpo::weights
