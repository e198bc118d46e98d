// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace mpo::tensor {

// c = alpha op(a) op(b) + beta c in float32, row-major: op(a) is [m, k], op(b)
// [k, n], c [m, n]. A transposed operand lies in memory as [k, m] or [n, k].
// `ld*` is the distance of rows in memory.
struct Sgemm {
  bool a_transposed = false;
  bool b_transposed = false;
  int64_t m = 0, n = 0, k = 0;
  float alpha = 1;
  const float* a = nullptr;
  int64_t lda = 0;
  const float* b = nullptr;
  int64_t ldb = 0;
  float beta = 0;
  float* c = nullptr;
  int64_t ldc = 0;
};

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

  // On at most `threads` OpenMP threads, each with a part of c; the same bits
  // for the same number.
  void Run(const Sgemm& product, int threads) const;

 private:
  using Function = void (*)(int order, int trans_a, int trans_b, int m, int n,
                            int k, float alpha, const float* a, int lda,
                            const float* b, int ldb, float beta, float* c,
                            int ldc);
  OpenBlas(Function function, std::string description)
      : sgemm_(function), description_(std::move(description)) {}
  void RunPart(const Sgemm& product, int64_t row, int64_t rows, int64_t column,
               int64_t columns) const;

  Function sgemm_;
  std::string description_;
};

}  // namespace mpo::tensor
