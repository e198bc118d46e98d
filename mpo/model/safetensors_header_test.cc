// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/safetensors_header.h"

#include <catch2/catch.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace mpo::model {
namespace {

absl::Status Parse(const std::string& header, uint64_t payload) {
  return ParseSafetensorsHeader(header, payload, "f.safetensors").status();
}

constexpr char kA[] = R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]})";

TEST_CASE("a header gives every tensor's place, shape and the metadata",
          "[safetensors]") {
  const auto header = ParseSafetensorsHeader(
      R"({"__metadata__":{"format":"pt"},
          "b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},
          "empty":{"dtype":"I64","shape":[0,7],"data_offsets":[4,4]},)" +
          std::string(kA) + "}",
      16, "f");
  INFO(header.status().ToString());
  REQUIRE(header.ok());
  CHECK(header->metadata.at("format") == "pt");
  const SafetensorsEntry& b = header->entries.at("b");
  CHECK(b.dtype == "BF16");
  CHECK(b.shape == std::vector<int64_t>{2, 3});
  CHECK(b.begin == 4);
  CHECK(b.end == 16);
  CHECK(header->entries.size() == 3);
}

TEST_CASE("lying headers are refused", "[safetensors]") {
  auto refused = [](const std::string& header, uint64_t payload) {
    const absl::Status status = Parse(header, payload);
    INFO(header);
    CHECK(status.code() == absl::StatusCode::kInvalidArgument);
    CHECK(absl::StrContains(status.message(), "f.safetensors"));
  };
  const std::string a = kA;
  CHECK(Parse("{" + a + "}", 4).ok());
  CHECK(Parse("{}", 0).ok());
  refused("", 0);
  refused(" {" + a + "}", 4);           // No '{' first.
  refused("{" + a + "," + a + "}", 4);  // Duplicate.
  refused("{" + a + R"(,"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
          4);  // Overlap.
  refused("{" + a + R"(,"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})",
          6);  // Overlap.
  refused(
      "{" + a + R"(,"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
      12);                    // Hole.
  refused("{" + a + "}", 8);  // Remainder.
  refused(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4);
  refused(R"({"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}})", 4);
  refused(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4);
  refused(R"({"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", 4);
  refused(
      R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})",
      0);
  refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4);
  refused(
      R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,99999999999999999999]}})",
      4);
  refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}})", 4);
  refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}})", 4);
  refused(
      R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}})",
      4);
  refused(R"({"a":{"shape":[1],"data_offsets":[0,4]}})", 4);
  refused(R"({"a":7})", 0);
  refused(R"({"__metadata__":{"x":1}})", 0);
  refused(R"({"__metadata__":3})", 0);
  refused("{\"\xff\":{}}", 0);
  refused("[]", 0);
  refused("{" + std::string(100000, '['), 0);
  refused("{\"a\":" + std::string(5000, '[') + std::string(5000, ']') + "}", 0);
}

TEST_CASE("more than 100,000 tensors are refused", "[safetensors]") {
  std::string header = "{";
  for (int i = 0; i <= 100'000; ++i) {
    absl::StrAppend(
        &header, i == 0 ? "" : ",",
        absl::StrCat("\"", i,
                     R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})"));
  }
  const absl::Status status = Parse(header + "}", 0);
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  CHECK(absl::StrContains(status.message(), "100001"));
}

}  // namespace
}  // namespace mpo::model
