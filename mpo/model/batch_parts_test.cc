// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/batch_parts.h"

#include <torch/torch.h>

#include <catch2/catch.hpp>

#include "mpo/tensor/parallel.h"

namespace mpo::model {
namespace {

// Runs with so many threads.
struct Threads {
  explicit Threads(int count) { at::set_num_threads(count); }
  ~Threads() { at::set_num_threads(before); }
  const int before = at::get_num_threads();
};

TEST_CASE("threads that run rows of their own give what they give together",
          "[model]") {
  ModelConfig shape;
  shape.vocab_size = 50;
  shape.hidden_size = 16;
  shape.intermediate_size = 32;
  shape.layers = 3;
  shape.heads = 4;
  shape.kv_heads = 2;
  shape.head_dim = 4;
  shape.context = 128;
  shape.initializer_range = 0.3;
  auto weights = LanguageModel::Random(shape, 5);
  REQUIRE(weights.ok());
  auto adapter = LoraAdapter::Create({.rank = 3, .alpha = 6}, shape, 1);
  REQUIRE(adapter.ok());
  at::manual_seed(4);
  std::vector<at::Tensor> leaves;
  for (const auto& named : (*adapter)->Parameters()) {
    at::Tensor leaf = named.tensor;
    at::NoGradGuard no_grad;
    leaf.normal_(0, 0.3);
    leaves.push_back(leaf.requires_grad_(true));
  }
  std::vector<std::vector<int32_t>> sequences(6);
  for (size_t i = 0; i < sequences.size(); ++i) {
    for (size_t t = 0; t < 100 - 7 * i; ++t)
      sequences[i].push_back(static_cast<int32_t>((3 + 11 * i + 5 * t) % 50));
  }
  auto batch = PadSequences(sequences);
  REQUIRE(batch.ok());
  const at::Tensor wanted = at::tensor({0, 3, 98, 150, 310, 599}, at::kLong);
  const Activations activations =
      GENERATE(Activations::kKept, Activations::kRecomputed);
  const auto run = [&](const at::Tensor& index) {
    at::Tensor out = ForwardLayersAt(**weights, adapter->get(),
                                     Embed(**weights, batch->tokens), *batch, 0,
                                     index, activations);
    std::vector<at::Tensor> all = {out};
    for (at::Tensor& g : torch::autograd::grad({at::sin(out).sum()}, leaves, {},
                                               false, false, true))
      all.push_back(g);
    return all;
  };
  std::vector<at::Tensor> together, apart, repeated, backwards;
  {
    const Threads one(1);
    together = run(wanted);
  }
  {
    const Threads two(2);
    CHECK(ThreadParts(Embed(**weights, batch->tokens), wanted).size() ==
          (tensor::HasOpenMp() ? 3 : 0));
    apart = run(wanted);
    repeated = run(wanted);
    // Not ascending: the threads then share every operation.
    CHECK(ThreadParts(Embed(**weights, batch->tokens), wanted.flip(0)).empty());
    backwards = run(wanted.flip(0));
  }
  REQUIRE(apart.size() == together.size());
  CHECK(at::allclose(backwards[0].flip(0), together[0], 1e-5, 1e-5));
  for (size_t i = 0; i < apart.size(); ++i) {
    REQUIRE(apart[i].defined() == together[i].defined());
    if (!apart[i].defined()) continue;
    CHECK(together[i].abs().max().item<float>() > 0);
    CHECK(at::allclose(apart[i], together[i], 1e-4, 1e-5));
    CHECK(at::equal(apart[i], repeated[i]));
  }
}

TEST_CASE("a part of a batch has its rows' tokens, masks and wanted tokens",
          "[model]") {
  SequenceBatch batch;
  batch.tokens = at::arange(12, at::kLong).view({4, 3});
  batch.positions = at::arange(3, at::kLong).expand({4, 3});
  batch.valid = batch.tokens.lt(11);
  batch.bias = at::randn({4, 1, 3, 3});
  const at::Tensor wanted = at::tensor({0, 5, 6, 11}, at::kLong);
  const BatchPart part = TakePart(batch, wanted, 1, 3);
  CHECK(at::equal(part.batch.tokens, batch.tokens.narrow(0, 1, 2)));
  CHECK(at::equal(part.batch.bias, batch.bias.narrow(0, 1, 2)));
  CHECK(part.batch.valid.all().item<bool>());
  CHECK(at::equal(part.wanted, at::tensor({2, 3}, at::kLong)));
  CHECK(TakePart(batch, at::tensor({0}, at::kLong), 1, 3).wanted.numel() == 0);
  CHECK(!TakePart(batch, {}, 0, 1).wanted.defined());
}

TEST_CASE("threads share every operation where parts would not pay",
          "[model]") {
  const Threads two(2);
  const auto parts = [](at::IntArrayRef sizes) {
    return ThreadParts(at::zeros(sizes), {}).size();
  };
  const size_t with_openmp = tensor::HasOpenMp() ? 3 : 0;
  CHECK(parts({4, 200, 8}) == with_openmp);
  CHECK(parts({21, 200, 8}) == with_openmp);
  CHECK(parts({4, 100, 8}) == 0);   // Few tokens.
  CHECK(parts({1, 2000, 8}) == 0);  // One row.
  CHECK(parts({5, 200, 8}) == 0);   // Three rows against two.
  const Threads one(1);
  CHECK(parts({4, 200, 8}) == 0);
}

}  // namespace
}  // namespace mpo::model
