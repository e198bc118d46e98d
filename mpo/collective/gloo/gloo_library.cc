// SPDX-License-Identifier: Apache-2.0
#include "mpo/collective/gloo/gloo_library.h"

#include <dlfcn.h>

#include <filesystem>
#include <string>
#include <system_error>

#include "absl/strings/str_cat.h"

namespace mpo::collective {
namespace {

absl::StatusOr<GlooLibrary> Open() {
  std::error_code error;
  const std::filesystem::path program =
      std::filesystem::read_symlink("/proc/self/exe", error);
  std::string tried;
  for (const char* place : {"libmpo_gloo.so", "../lib/libmpo_gloo.so"}) {
    const std::filesystem::path path =
        (program.parent_path() / place).lexically_normal();
    if (!std::filesystem::exists(path, error)) {
      absl::StrAppend(&tried, tried.empty() ? "" : ", ", path.string());
      continue;
    }
    void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
    if (handle == nullptr) return absl::NotFoundError(dlerror());
    GlooLibrary library;
    const auto find = [&](const char* name, auto& function) {
      function = reinterpret_cast<std::decay_t<decltype(function)>>(
          dlsym(handle, name));
      return function != nullptr;
    };
    if (!find("mpo_gloo_connect", library.connect) ||
        !find("mpo_gloo_close", library.close) ||
        !find("mpo_gloo_all_reduce_sum", library.all_reduce_sum) ||
        !find("mpo_gloo_broadcast", library.broadcast) ||
        !find("mpo_gloo_all_gather", library.all_gather)) {
      return absl::NotFoundError(
          absl::StrCat(path.string(), " is of another version: ", dlerror()));
    }
    return library;
  }
  return absl::NotFoundError(
      absl::StrCat("expected libmpo_gloo.so, which learner.ranks above 1 "
                   "needs, at one of: ",
                   tried));
}

}  // namespace

absl::StatusOr<const GlooLibrary*> GlooLibrary::Load() {
  static const absl::StatusOr<GlooLibrary>& library =
      *new absl::StatusOr<GlooLibrary>(Open());
  if (!library.ok()) return library.status();
  return &*library;
}

}  // namespace mpo::collective
