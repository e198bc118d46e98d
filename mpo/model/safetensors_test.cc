// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/safetensors.h"

#include <torch/torch.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <string>

#include "mpo/base/file.h"

namespace mpo::model {
namespace {

// Cases may run at the same time, each in a process of its own.
const std::filesystem::path kPath =
    std::filesystem::temp_directory_path() /
    ("safetensors_test_" + std::to_string(getpid()) + ".safetensors");

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
  // More than one chunk, misaligned, into a target that is not contiguous.
  const at::Tensor large = at::arange(5'000'000, at::kInt).view({1000, 5000});
  REQUIRE(WriteSafetensors(kPath,
                           {{"a", at::ones({1}, at::kByte)}, {"large", large}})
              .ok());
  auto second = SafetensorsFile::Open(kPath);
  REQUIRE(second.ok());
  CHECK(at::equal(*(*second)->Read("large"), large));
  at::Tensor turned = at::empty({5000, 1000}, at::kInt).t();
  CHECK((*second)->Read("large", turned).ok());
  CHECK(at::equal(turned, large));
  CHECK((*file)->Read("nothing").status().code() ==
        absl::StatusCode::kNotFound);
  CHECK((*file)->Read("a", wide).code() == absl::StatusCode::kInvalidArgument);
}

TEST_CASE("a file is its header, padded to 8 bytes, and the tensors in turn",
          "[safetensors]") {
  // The second is not contiguous.
  REQUIRE(WriteSafetensors(kPath,
                           {{"b", at::full({3}, 7, at::kByte)},
                            {"a", at::arange(4, at::kShort).view({2, 2}).t()}})
              .ok());
  const std::string json =
      R"({"__metadata__":{"format":"pt"},)"
      R"("a":{"data_offsets":[3,11],"dtype":"I16","shape":[2,2]},)"
      R"("b":{"data_offsets":[0,3],"dtype":"U8","shape":[3]}})";
  std::string expected = json + std::string((8 - json.size() % 8) % 8, ' ');
  expected = std::string(1, static_cast<char>(expected.size())) +
             std::string(7, '\0') + expected + "\7\7\7";
  for (const char element : {0, 2, 1, 3}) expected += {element, '\0'};
  CHECK(*ReadFile(kPath) == expected);
}

TEST_CASE("floating-point tensors are converted where a dtype is given",
          "[safetensors]") {
  REQUIRE(WriteSafetensors(kPath, Sample(), at::kBFloat16).ok());
  auto file = SafetensorsFile::Open(kPath);
  REQUIRE(file.ok());
  for (const auto& named : Sample()) {
    const bool floating = named.tensor.is_floating_point();
    const at::Tensor expected =
        floating ? named.tensor.to(at::kBFloat16) : named.tensor;
    const at::Tensor found = *(*file)->Read(named.name);
    CHECK(found.scalar_type() == expected.scalar_type());
    CHECK(at::equal(found, expected));
  }
  // Over the range of float16: told, and the old file stays.
  CHECK(absl::IsDataLoss(
      WriteSafetensors(kPath, {{"n", at::full({2}, 1e6)}}, at::kHalf)));
  CHECK(SafetensorsFile::Open(kPath).ok());
}

TEST_CASE("duplicate names and values that are not finite are refused",
          "[safetensors]") {
  CHECK(absl::IsInvalidArgument(
      WriteSafetensors(kPath, {{"a", at::ones({1})}, {"a", at::ones({1})}})));
  REQUIRE(WriteSafetensors(kPath, {{"n", at::full({2}, NAN)}}).ok());
  auto file = SafetensorsFile::Open(kPath);
  REQUIRE(file.ok());
  CHECK((*file)->Read("n").status().code() ==
        absl::StatusCode::kInvalidArgument);
}

TEST_CASE("every truncation of a file is refused", "[safetensors]") {
  REQUIRE(WriteSafetensors(kPath, Sample()).ok());
  const std::string bytes = *ReadFile(kPath);
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

TEST_CASE("a header that lies about its length is refused", "[safetensors]") {
  CHECK(OpenBytes(WithHeader("{}", 0)).ok());
  CHECK(OpenBytes(WithHeader("{}", 1)).code() ==
        absl::StatusCode::kInvalidArgument);
  std::string huge = WithHeader("{}", 0);
  for (int i = 0; i < 8; ++i) huge[i] = '\xff';
  CHECK(OpenBytes(huge).code() == absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace mpo::model
