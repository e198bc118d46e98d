// SPDX-License-Identifier: Apache-2.0
#include "mpo/text/token_decoder.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"

namespace mpo::text {
namespace {

using nlohmann::json;

std::string TypeOf(const json& spec) {
  const json type = spec.is_object() ? spec.value("type", json()) : json();
  return type.is_string() ? type.get<std::string>() : "";
}

bool ReadReplace(const json& spec, TokenDecoder& decoder) {
  const json pattern = spec.value("pattern", json());
  const json from =
      pattern.is_object() ? pattern.value("String", json()) : json();
  const json to = spec.value("content", json());
  if (!from.is_string() || !to.is_string() || from == "") return false;
  decoder.replaced = from.get<std::string>();
  decoder.replacement = to.get<std::string>();
  return true;
}

}  // namespace

absl::StatusOr<TokenDecoder> TokenDecoder::Parse(const json& spec) {
  TokenDecoder decoder;
  const std::string type = TypeOf(spec);
  if (type == "ByteLevel") return decoder;
  decoder.byte_level = false;
  const json steps =
      type == "Sequence" ? spec.value("decoders", json()) : json();
  bool known = steps.is_array();
  size_t at = 0;
  auto next = [&](const char* name) {
    return known && at < steps.size() && TypeOf(steps[at]) == name;
  };
  if (next("Replace")) known = ReadReplace(steps[at++], decoder);
  known = next("ByteFallback");
  ++at;
  known = next("Fuse");
  ++at;
  if (next("Strip")) {
    known = steps[at].value("content", json()) == " " &&
            steps[at].value("start", json()) == 1 &&
            steps[at].value("stop", json()) == 0;
    decoder.strip_space = true;
    ++at;
  }
  if (known && at == steps.size()) return decoder;
  return absl::UnimplementedError(absl::StrCat(
      "decoder: ", spec.dump(-1, ' ', true).substr(0, 200),
      ", known are ByteLevel and a Sequence of Replace, ByteFallback, Fuse and "
      "Strip of one space at the start"));
}

}  // namespace mpo::text
