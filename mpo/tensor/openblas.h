// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "mpo/tensor/sgemm.h"

namespace mpo::tensor {

// OpenBLAS, loaded at run time so that its symbols do not meet those of the
// BLAS in LibTorch. Thread-safe.
class OpenBlas {
 public:
  // The library to use in this process; null = LibTorch's own products. It is
  // Debian's (libopenblas0-pthread) on processors of AMD, where the MKL of
  // LibTorch's wheel reaches three quarters of its speed (docs/benchmarks.md),
  // and none on others or where it is not installed. The environment variable
  // MPO_OPENBLAS, read once, names another file or "none".
  static const OpenBlas* Get();

  // The library in `path`; nothing when it cannot be loaded or is not OpenBLAS.
  static std::optional<OpenBlas> Load(const std::string& path);

  // "OpenBLAS 0.3.21 ...", as the library describes itself.
  const std::string& description() const { return description_; }

  // On the calling thread.
  void Run(const Sgemm& product) const;

 private:
  using Function = void (*)(int order, int trans_a, int trans_b, int m, int n,
                            int k, float alpha, const float* a, int lda,
                            const float* b, int ldb, float beta, float* c,
                            int ldc);
  OpenBlas(Function function, std::string description)
      : sgemm_(function), description_(std::move(description)) {}

  Function sgemm_;
  std::string description_;
};

}  // namespace mpo::tensor
