// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "absl/status/statusor.h"
#include "mpo/collective/gloo/gloo_shim.h"

namespace mpo::collective {

// The functions of libmpo_gloo.so. Loaded once a process and never unloaded;
// with symbols of its own first and hidden from others, so that neither its
// Gloo nor LibTorch's sees the other. Thread-safe.
class GlooLibrary {
 public:
  // NOT_FOUND names the places looked at.
  static absl::StatusOr<const GlooLibrary*> Load();

  decltype(&mpo_gloo_connect) connect = nullptr;
  decltype(&mpo_gloo_close) close = nullptr;
  decltype(&mpo_gloo_all_reduce_sum) all_reduce_sum = nullptr;
  decltype(&mpo_gloo_broadcast) broadcast = nullptr;
  decltype(&mpo_gloo_all_gather) all_gather = nullptr;
};

}  // namespace mpo::collective
