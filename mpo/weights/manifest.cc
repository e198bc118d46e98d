// SPDX-License-Identifier: Apache-2.0
#include "mpo/weights/manifest.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"
#include "mpo/tensor/codec.h"
#include "mpo/tensor/dtype.h"

namespace mpo::weights {
namespace {

absl::Status ValidateEntry(const TensorEntry& entry, const std::string& where) {
  absl::StatusOr<at::ScalarType> dtype = tensor::ParseDtype(entry.dtype);
  if (!dtype.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": ", std::string(dtype.status().message())));
  }
  const auto size = tensor::ByteSize(*dtype, entry.shape);
  if (!size.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": ", std::string(size.status().message())));
  }
  if (entry.bytes < 0 || *size != static_cast<uint64_t>(entry.bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": ", entry.dtype, " and the shape need ", *size,
                     " bytes, the manifest says ", entry.bytes));
  }
  if (entry.sha256.size() != 64 ||
      entry.sha256.find_first_not_of("0123456789abcdef") != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": expected a SHA-256 of 64 hex digits, got '",
                     entry.sha256, "'"));
  }
  return absl::OkStatus();
}

}  // namespace

Layout LayoutOf(const Manifest& manifest) {
  const auto aligned = [](int64_t bytes) {
    return (bytes + kTensorAlignment - 1) / kTensorAlignment * kTensorAlignment;
  };
  Layout layout;
  for (const TensorEntry& entry : manifest.tensors) {
    layout.offsets.push_back(layout.bytes);
    layout.bytes += aligned(entry.bytes);
  }
  layout.bytes = std::max(layout.bytes, kTensorAlignment);
  return layout;
}

std::vector<size_t> LargestFirst(const Manifest& manifest) {
  std::vector<size_t> order(manifest.tensors.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return manifest.tensors[a].bytes > manifest.tensors[b].bytes;
  });
  return order;
}

absl::Status ValidateManifest(const Manifest& manifest, int64_t max_bytes) {
  const std::string version = absl::StrCat("version ", manifest.version);
  if (manifest.version < 0) {
    return absl::InvalidArgumentError(absl::StrCat(version, " is negative"));
  }
  if (manifest.kind != "adapter" && manifest.kind != "full") {
    return absl::InvalidArgumentError(
        absl::StrCat(version, ": expected kind 'adapter' or 'full', got '",
                     manifest.kind, "'"));
  }
  if (manifest.tensors.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(version, " has no tensors"));
  }
  std::set<std::string> names;
  int64_t total = 0;
  for (const TensorEntry& entry : manifest.tensors) {
    const std::string where =
        absl::StrCat(version, ", tensor '", entry.name, "'");
    MPO_RETURN_IF_ERROR(ValidateEntry(entry, where));
    if (!names.insert(entry.name).second) {
      return absl::InvalidArgumentError(absl::StrCat(where, ": named twice"));
    }
    if (entry.bytes > max_bytes - total) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": more than the ", max_bytes,
                       " bytes that are allowed in all"));
    }
    total += entry.bytes;
  }
  if (total != manifest.total_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(version, ": tensors have ", total,
                     " bytes, the manifest says ", manifest.total_bytes));
  }
  return absl::OkStatus();
}

}  // namespace mpo::weights
