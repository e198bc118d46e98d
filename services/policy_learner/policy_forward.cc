// SPDX-License-Identifier: Apache-2.0
// The forward passes of an update: which rows run together and what of them is
// kept.
#include <torch/torch.h>

#include <algorithm>
#include <utility>

#include "services/policy_learner/policy_update.h"

namespace mpo::policy_learner {

template <typename Visit>
void PolicyUpdate::ForEachSample(const MicroBatch& micro, Visit visit) const {
  for (size_t j = 0; j < micro.rows.size(); ++j) {
    int64_t offset = batch_.prompt_lengths[micro.rows[j].samples.front()];
    for (int64_t sample : micro.rows[j].samples) {
      visit(static_cast<int64_t>(j), sample, offset);
      offset += FedTokens(sample);
    }
  }
}

PolicyUpdate::MicroBatch PolicyUpdate::MakeMicroBatch(
    std::vector<PackedRow> rows) const {
  MicroBatch micro;
  micro.rows = std::move(rows);
  const auto count = static_cast<int64_t>(micro.rows.size());
  int64_t length = 0;
  bool shared = false;
  for (const PackedRow& row : micro.rows) {
    length = std::max(length, row.length);
    shared = shared || row.samples.size() > 1;
  }
  const at::Tensor tokens = torch::zeros({count, length}, torch::kLong);
  const at::Tensor positions = torch::zeros({count, length}, torch::kLong);
  // Which response a token belongs to: 0 prompt, then 1, 2, ...; -1 padding.
  const at::Tensor part = torch::full({count, length}, -1, torch::kLong);
  const int64_t columns = batch_.mask.size(1);
  std::vector<int64_t> hidden, token, sequence, value_hidden, value_token;
  const bool* has_value = batch_.value_mask.data_ptr<bool>();
  int64_t responses = 0;
  ForEachSample(micro, [&](int64_t j, int64_t sample, int64_t offset) {
    const std::vector<int32_t>& input = batch_.inputs[sample];
    const int64_t prompt = batch_.prompt_lengths[sample];
    ++responses;
    for (int64_t t = 0; t < static_cast<int64_t>(input.size()); ++t) {
      const int64_t at = j * length + (t < prompt ? t : offset + t - prompt);
      tokens.data_ptr<int64_t>()[at] = input[t];
      positions.data_ptr<int64_t>()[at] = t;
      part.data_ptr<int64_t>()[at] = t < prompt ? 0 : responses;
    }
    for (int64_t t = 0; t < columns; ++t) {
      const int64_t at = j * length + (t == 0 ? prompt - 1 : offset + t - 1);
      if (t < batch_.response_lengths[sample]) {
        hidden.push_back(at);
        token.push_back(sample * columns + t);
        sequence.push_back(responses - 1);
      }
      if (!has_value[sample * columns + t]) continue;
      value_hidden.push_back(at);
      value_token.push_back(sample * columns + t);
    }
  });
  const at::Device device = model_.policy().device();
  micro.sequences.tokens = tokens.to(device);
  micro.sequences.positions = positions.to(device);
  micro.sequences.valid = (part >= 0).to(device);
  if (shared) {
    const at::Tensor of_key = part.unsqueeze(1);
    const at::Tensor open =
        torch::ones({length, length}, torch::kBool)
            .tril()
            .logical_and((of_key == 0).logical_or(of_key == part.unsqueeze(2)));
    // Finite, as the decoder's own mask: no row may be without a key.
    micro.sequences.bias =
        torch::zeros({count, 1, length, length})
            .masked_fill_(open.logical_not().unsqueeze(1), -1e30)
            .to(device);
  }
  // Only these leave the last layer; the others count from among them.
  std::vector<int64_t> needed = hidden;
  needed.insert(needed.end(), value_hidden.begin(), value_hidden.end());
  std::sort(needed.begin(), needed.end());
  needed.erase(std::unique(needed.begin(), needed.end()), needed.end());
  for (std::vector<int64_t>* index : {&hidden, &value_hidden}) {
    for (int64_t& at : *index) {
      at = std::lower_bound(needed.begin(), needed.end(), at) - needed.begin();
    }
  }
  const auto index = [&](const std::vector<int64_t>& values) {
    return torch::tensor(values, torch::kLong).to(device);
  };
  micro.needed_index = index(needed);
  micro.hidden_index = index(hidden);
  micro.token_index = torch::tensor(token, torch::kLong);
  micro.response_index = torch::tensor(sequence, torch::kLong);
  micro.value_hidden_index = index(value_hidden);
  micro.value_token_index = torch::tensor(value_token, torch::kLong);
  return micro;
}

at::Tensor PolicyUpdate::Normed(const model::LanguageModel& weights,
                                const at::Tensor& layers,
                                const at::Tensor& index) {
  return model::FinalNorm(weights, layers.index_select(0, index));
}

void PolicyUpdate::TakeTrunks(const std::vector<TrainingSample>& samples) {
  trunk_.assign(samples.size(), {});
  const int64_t width = model_.policy().config().hidden_size;
  for (size_t i = 0; i < samples.size(); ++i) {
    const mpo::Trunk* trunk = samples[i].trunk.get();
    const auto tokens = static_cast<int64_t>(batch_.inputs[i].size());
    // A value after the end needs one token more than the trunk has.
    if (trunk == nullptr || trunk->layer != model_.trunk_layers() ||
        static_cast<int64_t>(trunk->inputs.size()) != tokens * width) {
      continue;
    }
    const at::Tensor all = torch::from_blob(
        const_cast<float*>(trunk->inputs.data()), {tokens, width});
    const int64_t prompt = batch_.prompt_lengths[i];
    trunk_[i] = {all.narrow(0, 0, prompt),
                 all.narrow(0, prompt, tokens - prompt)};
  }
}

at::Tensor PolicyUpdate::Trunk(const MicroBatch& micro, bool reference) {
  if (model_.adapter() == nullptr || (reference && model_.reference_apart())) {
    return model::Embed(reference ? model_.reference() : model_.policy(),
                        micro.sequences.tokens);
  }
  at::NoGradGuard no_grad;
  const model::LanguageModel& base = model_.policy();
  bool known = true;
  ForEachSample(micro, [&](int64_t, int64_t sample, int64_t) {
    known = known && trunk_[sample].prompt.defined();
  });
  at::Tensor out;
  if (known) {
    out = base.final_norm().new_zeros({static_cast<int64_t>(micro.rows.size()),
                                       micro.sequences.tokens.size(1),
                                       base.config().hidden_size});
  } else {
    out = model::ForwardLayers(base, nullptr,
                               model::Embed(base, micro.sequences.tokens),
                               micro.sequences, 0, model_.trunk_layers());
  }
  ForEachSample(micro, [&](int64_t row, int64_t sample, int64_t offset) {
    const at::Tensor prompt =
        out[row].narrow(0, 0, batch_.prompt_lengths[sample]);
    const at::Tensor response = out[row].narrow(0, offset, FedTokens(sample));
    if (known) {
      prompt.copy_(trunk_[sample].prompt);
      response.copy_(trunk_[sample].response);
    } else {
      trunk_[sample] = {prompt, response};
    }
  });
  return out;
}

at::Tensor PolicyUpdate::Layers(const MicroBatch& micro, bool reference) {
  const model::LanguageModel& weights =
      reference ? model_.reference() : model_.policy();
  const int64_t first =
      reference && model_.reference_apart() ? 0 : model_.trunk_layers();
  return model::ForwardLayersAt(weights, reference ? nullptr : model_.adapter(),
                                Trunk(micro, reference), micro.sequences, first,
                                micro.needed_index, options_.activations);
}

at::Tensor PolicyUpdate::Hidden(const MicroBatch& micro, bool reference) {
  return Normed(reference ? model_.reference() : model_.policy(),
                Layers(micro, reference), micro.hidden_index);
}

at::Tensor PolicyUpdate::ValueHidden(const MicroBatch& micro,
                                     const at::Tensor& layers) {
  if (value_.trunk == nullptr) {
    at::NoGradGuard no_grad;
    return Normed(model_.policy(), layers, micro.value_hidden_index);
  }
  const model::LanguageModel& trunk = value_.trunk->compute();
  const at::Tensor out = model::ForwardLayersAt(
      trunk, nullptr, model::Embed(trunk, micro.sequences.tokens),
      micro.sequences, /*first_layer=*/0, micro.needed_index,
      options_.activations);
  return Normed(trunk, out, micro.value_hidden_index);
}

at::Tensor PolicyUpdate::PolicyHead() const {
  return model::HeadWeight(model_.policy(), model_.adapter());
}

}  // namespace mpo::policy_learner
