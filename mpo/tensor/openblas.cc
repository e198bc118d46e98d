// SPDX-License-Identifier: Apache-2.0
#include "mpo/tensor/openblas.h"

#include <dlfcn.h>

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

void OpenBlas::Run(const Sgemm& p) const {
  sgemm_(kRowMajor, p.a_transposed ? kTransposed : kPlain,
         p.b_transposed ? kTransposed : kPlain, static_cast<int>(p.m),
         static_cast<int>(p.n), static_cast<int>(p.k), p.alpha, p.a,
         static_cast<int>(p.lda), p.b, static_cast<int>(p.ldb), p.beta, p.c,
         static_cast<int>(p.ldc));
}

}  // namespace mpo::tensor
