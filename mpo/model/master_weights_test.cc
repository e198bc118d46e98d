// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/master_weights.h"

#include <torch/torch.h>

#include <catch2/catch.hpp>
#include <filesystem>

#include "mpo/model/decoder.h"

namespace mpo::model {
namespace {

std::shared_ptr<const LanguageModel> Tiny(const LoadOptions& options = {}) {
  auto config = LoadModelConfig(std::filesystem::path(MPO_SOURCE_DIR) /
                                "mpo/model/testdata/tiny_qwen2");
  REQUIRE(config.ok());
  auto model = LanguageModel::Random(*config, 5, options);
  REQUIRE(model.ok());
  return *model;
}

at::Tensor LossOf(const LanguageModel& model) {
  auto batch = PadSequences({{5, 6, 7, 8}, {1, 2}});
  REQUIRE(batch.ok());
  return at::log_softmax(Forward(model, nullptr, *batch).to(at::kFloat), -1)
      .select(-1, 3)
      .sum();
}

TEST_CASE("in float32 the passes run on the leaves themselves", "[model]") {
  const auto model = Tiny();
  auto weights = MasterWeights::Create(*model, {});
  REQUIRE(weights.ok());
  CHECK(&(*weights)->leaves() == &(*weights)->compute());
  CHECK_FALSE((*weights)->leaves().embedding().is_alias_of(model->embedding()));
  CHECK(*(*weights)->leaves().Digest() == *model->Digest());
}

TEST_CASE("gradients of bfloat16 passes reach every leaf in float32",
          "[model]") {
  const auto model = Tiny();
  auto weights = MasterWeights::Create(*model, {.dtype = at::kBFloat16});
  REQUIRE(weights.ok());
  CHECK((*weights)->compute().dtype() == at::kBFloat16);
  CHECK((*weights)->leaves().dtype() == at::kFloat);
  auto exact = MasterWeights::Create(*model, {});
  LossOf((*exact)->compute()).backward();
  // Twice, as two micro-batches: the casts outlive the first.
  for (int i = 0; i < 2; ++i) LossOf((*weights)->compute()).backward();
  const auto mixed = (*weights)->leaves().Parameters();
  const auto wanted = (*exact)->leaves().Parameters();
  for (size_t i = 0; i < mixed.size(); ++i) {
    INFO(mixed[i].name);
    const at::Tensor grad = mixed[i].tensor.grad();
    REQUIRE(grad.defined());
    CHECK(grad.scalar_type() == at::kFloat);
    const at::Tensor twice = wanted[i].tensor.grad() * 2;
    CHECK((grad - twice).norm().item<double>() <
          0.05 * twice.norm().item<double>());
  }
}

TEST_CASE("steps too small for bfloat16 are not lost", "[model]") {
  auto weights = MasterWeights::Create(*Tiny(), {.dtype = at::kBFloat16});
  REQUIRE(weights.ok());
  const LanguageModel& compute = (*weights)->compute();
  const at::Tensor before = compute.final_norm().detach().clone();
  at::Tensor leaf = (*weights)->leaves().final_norm();
  for (int i = 0; i < 16; ++i) {
    {
      at::NoGradGuard no_grad;
      leaf.add_(0.001);  // bfloat16 knows 1 and 1.0078.
    }
    (*weights)->Refresh();
    if (i == 0) CHECK(at::equal(compute.final_norm(), before));
  }
  CHECK(compute.final_norm()[0].item<float>() == 1.015625F);
  // The cast still leads to the leaf.
  compute.final_norm().sum().backward();
  CHECK(leaf.grad()[0].item<float>() == 1);
}

TEST_CASE("half-precision files become float32 leaves", "[model]") {
  auto weights = MasterWeights::Create(*Tiny({.dtype = at::kBFloat16}),
                                       {.dtype = at::kBFloat16});
  REQUIRE(weights.ok());
  CHECK((*weights)->leaves().dtype() == at::kFloat);
  CHECK(at::equal((*weights)->leaves().layer(0).o.to(at::kBFloat16),
                  (*weights)->compute().layer(0).o));
}

}  // namespace
}  // namespace mpo::model
