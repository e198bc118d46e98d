// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <set>
#include <string>
#include <string_view>

namespace mpo::text {

// What a Jinja template is made of, without running it.
struct JinjaWords {
  std::set<std::string> words;  // Identifiers in code, outside strings.
  bool has_text = false;  // Text other than spaces outside {{ }} and {% %}.
};

// Reads any text; comments are left out.
JinjaWords ReadJinja(std::string_view jinja);

}  // namespace mpo::text
