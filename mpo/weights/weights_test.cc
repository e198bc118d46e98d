// SPDX-License-Identifier: Apache-2.0
#include <torch/torch.h>

#include <catch2/catch.hpp>
#include <limits>
#include <string>

#include "mpo/base/digest.h"
#include "mpo/weights/assembler.h"
#include "mpo/weights/published_weights.h"
#include "mpo/weights/staging.h"

namespace mpo::weights {
namespace {

using Catch::Contains;

// A small tensor, one of several chunks, an empty one and a scalar.
std::vector<tensor::NamedTensor> Tensors() {
  torch::manual_seed(5);
  return {{"small", torch::randn({2, 3})},
          {"large", torch::randn({700, 1000})},
          {"empty", torch::zeros({0, 4})},
          {"scalar", torch::tensor(2.5f)},
          {"half", torch::randn({5}).to(torch::kBFloat16)}};
}

std::shared_ptr<const PublishedWeights> Publish(PolicyVersion version = 7) {
  auto published =
      PublishedWeights::Create(version, "adapter", "{}", Tensors());
  REQUIRE(published.ok());
  return *published;
}

std::string Message(const absl::Status& status) {
  return std::string(status.message());
}

TEST_CASE("Weights come out of the assembler as they went in", "[weights]") {
  const auto published = Publish();
  CHECK(published->chunk_count() == 6);  // 2.8 MB is three chunks.
  auto assembler = Assembler::Create(published->manifest());
  REQUIRE(assembler.ok());
  for (int i = 0; i < published->chunk_count(); ++i) {
    REQUIRE(assembler->Add(published->chunk(i)).ok());
  }
  const auto tensors = assembler->Commit(7, published->chunk_count());
  REQUIRE(tensors.ok());
  const auto expected = Tensors();
  REQUIRE(tensors->size() == expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    CHECK((*tensors)[i].name == expected[i].name);
    CHECK(at::equal((*tensors)[i].tensor, expected[i].tensor));
    CHECK((*tensors)[i].tensor.dtype() == expected[i].tensor.dtype());
  }
  CHECK(assembler->Commit(7, 6).status().code() ==
        absl::StatusCode::kFailedPrecondition);
}

TEST_CASE("The assembler refuses what is not the announced weights",
          "[weights]") {
  const auto published = Publish();
  auto assembler = Assembler::Create(published->manifest());
  REQUIRE(assembler.ok());
  REQUIRE(assembler->Add(published->chunk(0)).ok());
  REQUIRE(assembler->Add(published->chunk(1)).ok());
  absl::Status status;
  absl::StatusCode code = absl::StatusCode::kDataLoss;
  std::string what = "version 7, tensor 'large', offset ";
  SECTION("overlap") {
    status = assembler->Add(published->chunk(1));
    what += "0: overlaps";
  }
  SECTION("hole") {
    status = assembler->Add(published->chunk(3));
    what += "2097152: leaves a hole";
  }
  SECTION("checksum") {
    std::string spoilt(published->chunk(2).data);
    spoilt[9] ^= 1;
    Chunk chunk = published->chunk(2);
    chunk.data = spoilt;
    status = assembler->Add(chunk);
    what += "1048576: CRC-32C";
  }
  SECTION("digest") {
    for (int i = 2; i < published->chunk_count(); ++i) {
      std::string data(published->chunk(i).data);
      if (i == 2) data[9] ^= 1;
      Chunk chunk = published->chunk(i);
      chunk.data = data;
      chunk.crc32c = Crc32c(data);
      REQUIRE(assembler->Add(chunk).ok());
    }
    status = assembler->Commit(7, published->chunk_count()).status();
    what += "2800000: SHA-256";
  }
  SECTION("commit before complete") {
    status = assembler->Commit(7, 2).status();
    what += "1048576: commit before complete";
  }
  SECTION("another version committed") {
    status = assembler->Commit(8, 2).status();
    code = absl::StatusCode::kInvalidArgument;
    what = "names version 8";
  }
  SECTION("unknown tensor") {
    Chunk chunk = published->chunk(2);
    chunk.tensor = 5;
    status = assembler->Add(chunk);
    code = absl::StatusCode::kInvalidArgument;
    what = "version 7, tensor index 5, offset 1048576";
  }
  SECTION("past the end") {
    Chunk chunk = published->chunk(2);
    chunk.offset = 2799999;
    status = assembler->Add(chunk);
    code = absl::StatusCode::kInvalidArgument;
    what += "2799999: 1048576 bytes reach past";
  }
  SECTION("empty chunk") {
    Chunk chunk = published->chunk(2);
    chunk.data = {};
    status = assembler->Add(chunk);
    code = absl::StatusCode::kInvalidArgument;
  }
  CHECK(status.code() == code);
  CHECK_THAT(Message(status), Contains(what));
  // Nothing can be had afterwards.
  CHECK_FALSE(assembler->Add(published->chunk(2)).ok());
  CHECK_FALSE(assembler->Commit(7, 2).ok());
}

std::vector<tensor::NamedTensor> Shared(
    std::shared_ptr<const PublishedWeights>& published, int threads) {
  published = *PublishedWeights::Create(
      7, "adapter", "{}", Tensors(),
      {.files = MemoryFiles::New(), .threads = threads});
  REQUIRE(published->sharing().ok());
  REQUIRE(published->offer().has_value());
  auto map = MemoryMaps().Open(*published->offer());
  REQUIRE(map.ok());
  auto tensors = TensorsOf(*std::move(map), published->manifest(), threads);
  REQUIRE(tensors.ok());
  return *std::move(tensors);
}

TEST_CASE("Weights come out of a memory file as they went in", "[weights]") {
  std::shared_ptr<const PublishedWeights> published;
  const auto tensors = Shared(published, GENERATE(1, 3));
  CHECK(published->manifest() == Publish()->manifest());
  CHECK(published->sha256() == Publish()->sha256());
  const auto expected = Tensors();
  REQUIRE(tensors.size() == expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    CHECK(tensors[i].name == expected[i].name);
    CHECK(at::equal(tensors[i].tensor, expected[i].tensor));
    CHECK(tensors[i].tensor.dtype() == expected[i].tensor.dtype());
  }
  // The same version can be had in chunks too.
  auto assembler = Assembler::Create(published->manifest());
  for (int i = 0; i < published->chunk_count(); ++i) {
    REQUIRE(assembler->Add(published->chunk(i)).ok());
  }
  CHECK(at::equal((*assembler->Commit(7, published->chunk_count()))[1].tensor,
                  expected[1].tensor));
}

TEST_CASE("Tensors of a version that was replaced stay readable", "[weights]") {
  std::shared_ptr<const PublishedWeights> published;
  const auto tensors = Shared(published, 1);
  const MemoryOffer offer = *published->offer();
  published.reset();
  CHECK(at::equal(tensors[1].tensor, Tensors()[1].tensor));
  CHECK(absl::IsFailedPrecondition(MemoryMaps().Open(offer).status()));
}

TEST_CASE("A memory file that is not the manifest's is refused", "[weights]") {
  const auto published = *PublishedWeights::Create(
      7, "adapter", "{}", Tensors(), {.files = MemoryFiles::New()});
  const auto map = *MemoryMaps().Open(*published->offer());
  Manifest manifest = published->manifest();
  SECTION("another digest") {
    manifest.tensors[1].sha256 = std::string(64, 'a');
    const auto tensors = TensorsOf(map, manifest, 2);
    CHECK(absl::IsDataLoss(tensors.status()));
    CHECK_THAT(Message(tensors.status()),
               Contains("version 7, tensor 'large', offset 2800000: SHA-256"));
  }
  SECTION("another size") {
    manifest.tensors.pop_back();
    CHECK(absl::IsFailedPrecondition(TensorsOf(map, manifest, 2).status()));
  }
}

TEST_CASE("The tensors of a published version outlive its name", "[weights]") {
  const bool share = GENERATE(false, true);
  auto tensors = PublishedWeights::Tensors(*PublishedWeights::Create(
      7, "adapter", "{}", Tensors(),
      {.files = share ? MemoryFiles::New() : nullptr}));
  REQUIRE(tensors.ok());
  const auto expected = Tensors();
  REQUIRE(tensors->size() == expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    CHECK((*tensors)[i].name == expected[i].name);
    CHECK(at::equal((*tensors)[i].tensor, expected[i].tensor));
  }
}

TEST_CASE("Weights that nobody asked to share are in no memory file",
          "[weights]") {
  const auto published = Publish();
  CHECK_FALSE(published->offer().has_value());
  CHECK(published->sharing().ok());
}

TEST_CASE("Tensors lie behind each other at multiples of 64 bytes",
          "[weights]") {
  const Layout layout = LayoutOf(Publish()->manifest());
  CHECK(layout.offsets ==
        std::vector<int64_t>{0, 64, 64 + 2800000, 64 + 2800000, 128 + 2800000});
  CHECK(layout.bytes == 192 + 2800000);
  Manifest empty;
  empty.tensors.resize(1);
  CHECK(LayoutOf(empty).bytes == 64);
  CHECK(LargestFirst(Publish()->manifest()) ==
        std::vector<size_t>{1, 0, 4, 3, 2});
}

TEST_CASE("A manifest that contradicts itself is refused", "[weights]") {
  Manifest m = Publish()->manifest();
  int64_t max_bytes = std::numeric_limits<int64_t>::max();
  std::string what;
  SECTION("kind") { m.kind = "delta", what = "kind"; }
  SECTION("version") { m.version = -1, what = "version -1"; }
  SECTION("dtype") { m.tensors[0].dtype = "F7", what = "'small'"; }
  SECTION("shape") { m.tensors[0].shape = {2, 4}, what = "need 32 bytes"; }
  SECTION("overflow") {
    m.tensors[0].shape = {int64_t{1} << 40, int64_t{1} << 40}, what = "'small'";
  }
  SECTION("negative") { m.tensors[0].shape = {-2, -3}, what = "'small'"; }
  SECTION("digest") { m.tensors[0].sha256 = "ab", what = "64 hex digits"; }
  SECTION("name") { m.tensors[1].name = "small", what = "twice"; }
  SECTION("total") { m.total_bytes++, what = "the manifest says"; }
  SECTION("size") { max_bytes = 1000, what = "1000 bytes that are allowed"; }
  SECTION("none") { m.tensors.clear(), what = "no tensors"; }
  const auto assembler = Assembler::Create(m, max_bytes);
  CHECK(assembler.status().code() == absl::StatusCode::kInvalidArgument);
  CHECK_THAT(Message(assembler.status()), Contains(what));
}

TEST_CASE("The weights digest depends on the weights alone", "[weights]") {
  const std::string digest = Publish(7)->sha256();
  CHECK(Publish(8)->sha256() == digest);
  auto tensors = Tensors();
  std::swap(tensors[0], tensors[1]);
  CHECK((*PublishedWeights::Create(1, "adapter", "", tensors))->sha256() ==
        digest);
  tensors[0].tensor[0][0] += 1;
  CHECK((*PublishedWeights::Create(1, "adapter", "", tensors))->sha256() !=
        digest);
}

}  // namespace
}  // namespace mpo::weights
