// SPDX-License-Identifier: Apache-2.0
#include "mpo/tensor/torch_errors.h"

#include <torch/torch.h>

#include <new>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace mpo::tensor {

absl::Status StatusOfCurrentException(std::string_view what) {
  const std::string prefix = absl::StrCat(std::string(what), ": ");
  try {
    throw;
  } catch (const c10::OutOfMemoryError& e) {
    return absl::ResourceExhaustedError(prefix + e.what_without_backtrace());
  } catch (const c10::Error& e) {
    const std::string message = e.what_without_backtrace();
    // The CPU allocator reports a failed allocation as a plain c10::Error.
    if (absl::StrContains(message, "can't allocate memory")) {
      return absl::ResourceExhaustedError(prefix + message);
    }
    return absl::InternalError(prefix + message);
  } catch (const std::bad_alloc& e) {
    return absl::ResourceExhaustedError(prefix + e.what());
  } catch (const std::exception& e) {
    return absl::InternalError(prefix + e.what());
  } catch (...) {
    return absl::InternalError(prefix + "unknown exception");
  }
}

}  // namespace mpo::tensor
