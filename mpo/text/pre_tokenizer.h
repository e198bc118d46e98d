// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace mpo::text {

// Cuts text into the words that byte-pair merges may not cross, as the
// `pre_tokenizer` of a tokenizer.json says: Digits, Split (by a regular
// expression or a string), ByteLevel, and a Sequence of them that ends with
// ByteLevel. Thread-safe.
class PreTokenizer {
 public:
  PreTokenizer();
  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;
  ~PreTokenizer();

  // INVALID_ARGUMENT: a field of the wrong type, a pattern that does not
  // compile. UNIMPLEMENTED: a type or behaviour outside the list above; the
  // message names it.
  static absl::StatusOr<PreTokenizer> Parse(const nlohmann::json& spec);

  // Words of valid UTF-8 `text`, in order, as raw bytes. RESOURCE_EXHAUSTED
  // when a pattern needs too many steps on this text.
  absl::StatusOr<std::vector<std::string>> Split(std::string_view text) const;

 private:
  struct Step;
  absl::Status Add(const nlohmann::json& spec, bool last);
  std::vector<std::unique_ptr<const Step>> steps_;
};

}  // namespace mpo::text
