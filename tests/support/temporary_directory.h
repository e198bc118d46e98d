// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <string>

namespace mpo {

// A new empty directory for one test; gone with the object.
struct TemporaryDirectory {
  TemporaryDirectory() {
    std::string name =
        (std::filesystem::temp_directory_path() / "mpo_test_XXXXXX").string();
    path = mkdtemp(name.data());
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path); }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  std::filesystem::path path;
};

}  // namespace mpo
