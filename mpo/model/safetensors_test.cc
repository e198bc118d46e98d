// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/safetensors.h"

#include <torch/torch.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>

#include "mpo/base/file.h"

namespace mpo::model {
namespace {

const std::filesystem::path kPath =
    std::filesystem::path(MPO_BINARY_DIR) / "safetensors_test.safetensors";

std::vector<tensor::NamedTensor> Sample() {
  return {
      {"a", at::arange(6, at::kFloat).view({2, 3})},
      {"b.weight",
       at::ones({5}, at::kBFloat16)},  // 10 bytes: what follows is misaligned.
      {"c", at::arange(4, at::kLong)},
      {"empty", at::empty({0, 3})},
      {"scalar", at::tensor(2.5F)}};
}

absl::Status OpenBytes(const std::string& bytes) {
  REQUIRE(WriteFileAtomically(kPath, bytes).ok());
  return SafetensorsFile::Open(kPath).status();
}

std::string WithHeader(const std::string& header, size_t payload) {
  std::string bytes;
  for (int i = 0; i < 8; ++i)
    bytes.push_back(static_cast<char>(header.size() >> (8 * i) & 0xff));
  return bytes + header + std::string(payload, '\0');
}

TEST_CASE("what is written is read back, misaligned tensors included",
          "[safetensors]") {
  REQUIRE(WriteSafetensors(kPath, Sample()).ok());
  auto file = SafetensorsFile::Open(kPath);
  INFO(file.status().ToString());
  REQUIRE(file.ok());
  CHECK((*file)->header().metadata.at("format") == "pt");
  for (const auto& named : Sample()) {
    auto tensor = (*file)->Read(named.name);
    REQUIRE(tensor.ok());
    CHECK(tensor->scalar_type() == named.tensor.scalar_type());
    CHECK(at::equal(*tensor, named.tensor));
  }
  at::Tensor wide = at::empty({5}, at::kFloat);
  CHECK((*file)->Read("b.weight", wide).ok());
  CHECK(at::equal(wide, at::ones({5})));
  CHECK((*file)->Read("nothing").status().code() ==
        absl::StatusCode::kNotFound);
  CHECK((*file)->Read("a", wide).code() == absl::StatusCode::kInvalidArgument);
}

TEST_CASE("duplicate names and values that are not finite are refused",
          "[safetensors]") {
  CHECK(!EncodeSafetensors({{"a", at::ones({1})}, {"a", at::ones({1})}}).ok());
  REQUIRE(WriteSafetensors(kPath, {{"n", at::full({2}, NAN)}}).ok());
  auto file = SafetensorsFile::Open(kPath);
  REQUIRE(file.ok());
  CHECK((*file)->Read("n").status().code() ==
        absl::StatusCode::kInvalidArgument);
}

TEST_CASE("every truncation of a file is refused", "[safetensors]") {
  const std::string bytes = *EncodeSafetensors(Sample());
  for (size_t size = 0; size < bytes.size(); ++size) {
    const absl::Status status = OpenBytes(bytes.substr(0, size));
    REQUIRE(status.code() == absl::StatusCode::kInvalidArgument);
  }
  CHECK(OpenBytes(bytes).ok());
  CHECK(OpenBytes(bytes + "x").code() == absl::StatusCode::kInvalidArgument);
  CHECK(SafetensorsFile::Open("/nonexistent").status().code() ==
        absl::StatusCode::kNotFound);
  CHECK(SafetensorsFile::Open("/tmp").status().code() ==
        absl::StatusCode::kUnavailable);
}

TEST_CASE("lying headers are refused", "[safetensors]") {
  auto refused = [](const std::string& header, size_t payload) {
    INFO(header);
    CHECK(OpenBytes(WithHeader(header, payload)).code() ==
          absl::StatusCode::kInvalidArgument);
  };
  const std::string a =
      R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  CHECK(OpenBytes(WithHeader("{" + a + "}", 4)).ok());
  CHECK(OpenBytes(WithHeader("{}", 0)).ok());
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
  refused(R"({"a":{"shape":[1],"data_offsets":[0,4]}})", 4);
  refused(R"({"a":7})", 0);
  refused(R"({"__metadata__":{"x":1}})", 0);
  refused(R"({"__metadata__":3})", 0);
  refused("{\"\xff\":{}}", 0);
  refused("[]", 0);
  refused("{" + std::string(100000, '['), 0);
  refused("{\"a\":" + std::string(5000, '[') + std::string(5000, ']') + "}", 0);
  std::string huge = WithHeader("{}", 0);
  for (int i = 0; i < 8; ++i) huge[i] = '\xff';
  CHECK(OpenBytes(huge).code() == absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace mpo::model
