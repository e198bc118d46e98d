// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mpo::text {

// Watches a stream of text for strings that end it, wherever its pieces are
// cut. Not thread-safe.
class StopStrings {
 public:
  // Empty strings are left out; none = nothing ever stops.
  explicit StopStrings(std::vector<std::string> stops);

  // Adds a piece and returns what is now certain to stand before any stop
  // string. Once one is found, nothing more is returned.
  std::string Push(std::string_view piece);
  // What was held back because a stop string might have begun there; empty
  // when one was found.
  std::string Finish();
  bool found() const { return found_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool found_ = false;
};

}  // namespace mpo::text
