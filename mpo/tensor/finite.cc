// SPDX-License-Identifier: Apache-2.0
#include "mpo/tensor/finite.h"

#include <torch/torch.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "mpo/base/parallel.h"
#include "mpo/base/status_macros.h"
#include "mpo/tensor/threads.h"

namespace mpo::tensor {
namespace {

constexpr int64_t kPieceBytes = int64_t{1} << 20;

// NaN and infinities are the values whose exponent has all bits set.
template <typename Word>
bool AllFinite(const void* data, int64_t bytes, Word exponent) {
  const auto* words = static_cast<const Word*>(data);
  const int64_t count = bytes / static_cast<int64_t>(sizeof(Word));
  Word found = 0;
  for (int64_t i = 0; i < count; ++i) {
    found |= static_cast<Word>((words[i] & exponent) == exponent);
  }
  return found == 0;
}

bool AllFinite(at::ScalarType dtype, const char* data, int64_t bytes) {
  switch (dtype) {
    case at::kFloat:
      return AllFinite<uint32_t>(data, bytes, 0x7f800000U);
    case at::kBFloat16:
      return AllFinite<uint16_t>(data, bytes, 0x7f80U);
    case at::kHalf:
      return AllFinite<uint16_t>(data, bytes, 0x7c00U);
    case at::kDouble:
      return AllFinite<uint64_t>(data, bytes, 0x7ff0000000000000U);
    default:
      return true;
  }
}

struct Piece {
  size_t tensor;
  at::ScalarType dtype;
  const char* data;
  int64_t bytes;
};

}  // namespace

absl::Status CheckFinite(const std::vector<NamedTensor>& tensors) {
  std::vector<at::Tensor> on_cpu;  // Keeps copies alive.
  std::vector<Piece> pieces;
  for (size_t i = 0; i < tensors.size(); ++i) {
    MPO_ASSIGN_OR_RETURN(at::Tensor cpu, OnCpu(tensors[i].tensor));
    const auto* data = static_cast<const char*>(cpu.const_data_ptr());
    const auto bytes = static_cast<int64_t>(cpu.nbytes());
    for (int64_t at = 0; at < bytes; at += kPieceBytes) {
      pieces.push_back(
          {i, cpu.scalar_type(), data + at, std::min(kPieceBytes, bytes - at)});
    }
    on_cpu.push_back(std::move(cpu));
  }
  std::atomic<size_t> bad = tensors.size();
  ParallelFor(pieces.size(), Threads(), [&](size_t k) {
    const Piece& piece = pieces[k];
    if (AllFinite(piece.dtype, piece.data, piece.bytes)) return;
    size_t least = bad;
    while (piece.tensor < least &&
           !bad.compare_exchange_weak(least, piece.tensor)) {
    }
  });
  if (bad == tensors.size()) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("tensor \"", tensors[bad].name,
                                          "\" holds a value that is not "
                                          "finite"));
}

}  // namespace mpo::tensor
