// SPDX-License-Identifier: Apache-2.0
#include <torch/torch.h>

#include <catch2/catch.hpp>
#include <limits>
#include <new>

#include "mpo/tensor/codec.h"
#include "mpo/tensor/dtype.h"
#include "mpo/tensor/finite.h"
#include "mpo/tensor/threads.h"
#include "mpo/tensor/torch_errors.h"

namespace mpo::tensor {
namespace {

TEST_CASE("Encode then Decode returns the same tensor for every dtype",
          "[tensor]") {
  for (at::ScalarType type :
       {at::kBool, at::kByte, at::kChar, at::kShort, at::kInt, at::kLong,
        at::kHalf, at::kBFloat16, at::kFloat, at::kDouble}) {
    const at::Tensor tensor = at::arange(6).to(type).view({2, 3}).t();
    auto bytes = Encode(tensor);
    REQUIRE(bytes.ok());
    CHECK(bytes->shape == std::vector<int64_t>{3, 2});
    auto back = Decode(bytes->dtype, bytes->shape, bytes->bytes);
    REQUIRE(back.ok());
    CHECK(at::equal(*back, tensor));
  }
}

TEST_CASE("CheckFinite finds one bad value among many", "[tensor]") {
  const double bad = GENERATE(std::numeric_limits<double>::quiet_NaN(),
                              std::numeric_limits<double>::infinity(),
                              -std::numeric_limits<double>::infinity());
  const at::ScalarType type =
      GENERATE(at::kHalf, at::kBFloat16, at::kFloat, at::kDouble);
  // Larger than one piece of the search, and not contiguous.
  std::vector<NamedTensor> tensors = {
      {"small", at::ones({3}, type)},
      {"large", at::full({1000, 700}, -0.5, type).t()},
      {"counts", at::full({5}, INT64_MAX, at::kLong)},
      {"empty", at::zeros({0}, type)}};
  CHECK(CheckFinite(tensors).ok());
  tensors[1].tensor[699][999] = bad;
  const absl::Status status = CheckFinite(tensors);
  CHECK(absl::IsDataLoss(status));
  CHECK_THAT(std::string(status.message()), Catch::Contains("\"large\""));
  tensors[0].tensor[2] = bad;
  CHECK_THAT(std::string(CheckFinite(tensors).message()),
             Catch::Contains("\"small\""));
}

TEST_CASE("The largest finite values are finite", "[tensor]") {
  CHECK(CheckFinite({{"float", at::full({9}, 3.4e38, at::kFloat)},
                     {"half", at::full({9}, -65504, at::kHalf)}})
            .ok());
}

TEST_CASE("Decode refuses what does not fit", "[tensor]") {
  CHECK(Decode("F31", {1}, "abcd").status().code() ==
        absl::StatusCode::kInvalidArgument);
  CHECK(Decode("F32", {2}, "abcd").status().code() ==
        absl::StatusCode::kInvalidArgument);
  CHECK(Decode("F32", {-1}, "").status().code() ==
        absl::StatusCode::kInvalidArgument);
  CHECK(Decode("F32", {int64_t{1} << 62, 8}, "").status().code() ==
        absl::StatusCode::kInvalidArgument);
  CHECK(Decode("F32", {0, 4}, "").ok());
  CHECK(Decode("F32", {}, "abcd").ok());
}

TEST_CASE("Encode refuses a dtype without a name", "[tensor]") {
  CHECK(Encode(at::zeros({1}, at::kComplexFloat)).status().code() ==
        absl::StatusCode::kInvalidArgument);
}

TEST_CASE("Digest changes with name, value and shape, and with nothing else",
          "[tensor]") {
  const at::Tensor a = at::arange(4, at::kFloat);
  const std::string digest = *Digest({{"a", a}});
  CHECK(digest == *Digest({{"a", a.clone()}}));
  CHECK(digest != *Digest({{"b", a}}));
  CHECK(digest != *Digest({{"a", a + 1}}));
  CHECK(digest != *Digest({{"a", a.view({2, 2})}}));
}

TEST_CASE("CatchTorch turns exceptions into statuses that name the work",
          "[tensor]") {
  auto status = CatchTorch("multiply", [] {
    at::mm(at::zeros({2, 3}), at::zeros({2, 3}));
  });
  CHECK(status.code() == absl::StatusCode::kInternal);
  CHECK(std::string(status.message()).find("multiply: ") == 0);
  auto memory =
      CatchTorch("fill", [] { return at::empty({int64_t{1} << 50}); });
  CHECK(memory.status().code() == absl::StatusCode::kResourceExhausted);
  auto bad_alloc = CatchTorch("fill", []() -> int { throw std::bad_alloc(); });
  CHECK(bad_alloc.status().code() == absl::StatusCode::kResourceExhausted);
  CHECK(*CatchTorch("add", [] { return 1 + 1; }) == 2);
  CHECK(CatchTorch("pass",
                   [] { return absl::StatusOr<int>(absl::AbortedError("x")); })
            .status()
            .code() == absl::StatusCode::kAborted);
}

TEST_CASE("SetThreads sets LibTorch's threads and never fewer than one",
          "[tensor]") {
  SetThreads(2);
  CHECK(Threads() == 2);
  SetThreads(0);
  CHECK(Threads() == 1);
}

}  // namespace
}  // namespace mpo::tensor
