// SPDX-License-Identifier: Apache-2.0
#include "mpo/tensor/openblas.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace mpo::tensor {
namespace {

constexpr char kDebianPath[] =
    "/usr/lib/x86_64-linux-gnu/openblas-pthread/libopenblas.so.0";
// Of cblas.h.
constexpr int kRowMajor = 101, kPlain = 111, kTransposed = 112;
// Below these a part is not worth a thread.
constexpr int64_t kLeastWork = 1 << 18;  // Multiplications.
constexpr int64_t kLeastRows = 128;
// Times as many columns as rows from which on columns are split in any case.
constexpr int64_t kMostWider = 16;

bool OnAmd() {
#if defined(__x86_64__)
  unsigned highest = 0, name[3] = {};
  if (__get_cpuid(0, &highest, &name[0], &name[2], &name[1]) == 0) return false;
  return std::memcmp(name, "AuthenticAMD", 12) == 0 ||
         std::memcmp(name, "HygonGenuine", 12) == 0;
#else
  return false;
#endif
}

}  // namespace

const OpenBlas* OpenBlas::Get() {
  static const std::optional<OpenBlas> library = [] {
    const char* asked = std::getenv("MPO_OPENBLAS");
    if (asked == nullptr) {
      return OnAmd() ? Load(kDebianPath) : std::nullopt;
    }
    return std::string(asked) == "none" ? std::nullopt : Load(asked);
  }();
  return library.has_value() ? &*library : nullptr;
}

std::optional<OpenBlas> OpenBlas::Load(const std::string& path) {
  void* const handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) return std::nullopt;
  const auto function =
      reinterpret_cast<Function>(::dlsym(handle, "cblas_sgemm"));
  const auto describe =
      reinterpret_cast<char* (*)()>(::dlsym(handle, "openblas_get_config"));
  const auto set_threads = reinterpret_cast<void (*)(int)>(
      ::dlsym(handle, "openblas_set_num_threads"));
  if (function == nullptr || describe == nullptr || set_threads == nullptr) {
    ::dlclose(handle);
    return std::nullopt;
  }
  set_threads(1);  // The caller's threads are the only ones.
  return OpenBlas(function, describe());  // Stays loaded.
}

void OpenBlas::RunPart(const Sgemm& p, int64_t row, int64_t rows,
                       int64_t column, int64_t columns) const {
  const float* a = p.a + row * (p.a_transposed ? 1 : p.lda);
  const float* b = p.b + column * (p.b_transposed ? p.ldb : 1);
  sgemm_(kRowMajor, p.a_transposed ? kTransposed : kPlain,
         p.b_transposed ? kTransposed : kPlain, static_cast<int>(rows),
         static_cast<int>(columns), static_cast<int>(p.k), p.alpha, a,
         static_cast<int>(p.lda), b, static_cast<int>(p.ldb), p.beta,
         p.c + row * p.ldc + column, static_cast<int>(p.ldc));
}

void OpenBlas::Run(const Sgemm& p, int threads) const {
  const int64_t work = p.m * p.n * p.k;
  const auto parts = static_cast<int>(
      std::clamp<int64_t>(work / kLeastWork, 1, std::max(1, threads)));
  // Every part packs what it does not split.
  const bool by_rows =
      p.m >= p.n || (p.m >= parts * kLeastRows && p.n < kMostWider * p.m);
  const int64_t length = by_rows ? p.m : p.n;
#pragma omp parallel for num_threads(parts) schedule(static, 1) if (parts > 1)
  for (int i = 0; i < parts; ++i) {
    const int64_t begin = length * i / parts;
    const int64_t count = length * (i + 1) / parts - begin;
    if (count == 0) continue;
    if (by_rows) {
      RunPart(p, begin, count, 0, p.n);
    } else {
      RunPart(p, 0, p.m, begin, count);
    }
  }
}

}  // namespace mpo::tensor
