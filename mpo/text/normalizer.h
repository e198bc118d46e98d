// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace mpo::text {

// The `normalizer` of a tokenizer.json: none, NFC, Prepend, Replace (of a
// string) and a Sequence of them. Thread-safe.
class Normalizer {
 public:
  Normalizer() = default;

  // INVALID_ARGUMENT: a field of the wrong type. UNIMPLEMENTED: another type;
  // the message names it.
  static absl::StatusOr<Normalizer> Parse(const nlohmann::json& spec);

  // `text` is valid UTF-8. RESOURCE_EXHAUSTED where it grows beyond 64 MiB.
  absl::StatusOr<std::string> Apply(std::string_view text) const;

  bool empty() const { return steps_.empty(); }

 private:
  struct Step {
    enum class Kind { kNfc, kPrepend, kReplace };
    Kind kind = Kind::kNfc;
    std::string pattern;  // kReplace.
    std::string content;  // kPrepend, kReplace.
  };
  absl::Status Add(const nlohmann::json& spec, int depth);
  absl::Status AddReplace(const nlohmann::json& spec);

  std::vector<Step> steps_;
};

}  // namespace mpo::text
