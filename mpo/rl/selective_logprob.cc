// SPDX-License-Identifier: Apache-2.0
#include "mpo/rl/selective_logprob.h"

#include <torch/torch.h>

#include <algorithm>
#include <vector>

#include "mpo/rl/softmax_rows.h"
#include "mpo/tensor/products.h"
#ifdef MPO_WITH_CUDA
#include "mpo/rl/softmax_rows_cuda.h"
#endif

namespace mpo::rl {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// In the dtype of `x`, where float32 would promote it.
at::Tensor Column(const at::Tensor& values, const at::Tensor& x) {
  return values.to(x.scalar_type()).unsqueeze(1);
}

at::Tensor Scaled(const at::Tensor& hidden, const at::Tensor& temperatures) {
  return hidden / Column(temperatures, hidden);
}

// A buffer of logits that is filled again for each chunk of rows: fresh pages
// of this size cost more than the softmax.
class Chunk {
 public:
  Chunk(int64_t rows, const at::Tensor& hidden, const at::Tensor& head)
      : head_(head),
        logits_(at::empty({rows, head.size(0)}, hidden.options())) {}

  // Fills logprobs and entropy [n]. With `sums` [n] defined, weights() / sums
  // are the probabilities afterwards.
  void Run(const at::Tensor& hidden, const at::Tensor& targets,
           const at::Tensor& temperatures, const at::Tensor& logprobs,
           const at::Tensor& entropy, const at::Tensor& sums) {
    rows_ = hidden.size(0);
    at::Tensor logits = weights();
    tensor::MultiplyInto(logits, Scaled(hidden, temperatures), head_.t());
    if (logits.scalar_type() == at::kFloat && logits.device().is_cpu()) {
      SoftmaxRows(logits.mutable_data_ptr<float>(), rows_, logits.size(1),
                  targets.contiguous().const_data_ptr<int64_t>(),
                  logprobs.mutable_data_ptr<float>(),
                  entropy.mutable_data_ptr<float>(),
                  sums.defined() ? sums.mutable_data_ptr<float>() : nullptr,
                  at::get_num_threads());
      return;
    }
#ifdef MPO_WITH_CUDA
    if (logits.is_cuda()) {
      return SoftmaxRowsCuda(logits, targets.contiguous(), logprobs, entropy,
                             sums);
    }
#endif
    const at::Tensor all = at::log_softmax(logits.to(at::kFloat), 1);
    logprobs.copy_(all.gather(1, targets.unsqueeze(1)).squeeze(1));
    const at::Tensor p = all.exp();
    entropy.copy_(-(p * all).sum(1));
    if (!sums.defined()) return;
    logits.copy_(p);
    sums.fill_(1);
  }

  // [rows of the last Run, vocabulary]
  at::Tensor weights() const { return logits_.narrow(0, 0, rows_); }

 private:
  const at::Tensor& head_;
  at::Tensor logits_;
  int64_t rows_ = 0;
};

// p (ln p + H): minus this is the gradient of the entropy by the logits.
at::Tensor EntropySlope(const at::Tensor& p, const at::Tensor& entropy) {
  return at::xlogy(p, p).addcmul_(p, Column(entropy, p));
}

class SelectiveLogprobFunction
    : public torch::autograd::Function<SelectiveLogprobFunction> {
 public:
  static variable_list forward(AutogradContext* ctx, const at::Tensor& hidden,
                               const at::Tensor& head,
                               const at::Tensor& targets,
                               const at::Tensor& temperatures,
                               int64_t chunk_rows, bool entropy_gradient,
                               bool form_slopes) {
    const int64_t n = hidden.size(0);
    const auto float32 = hidden.options().dtype(at::kFloat);
    at::Tensor logprobs = at::empty({n}, float32);
    at::Tensor entropy = at::empty({n}, float32);
    at::Tensor slope, entropy_slope;  // By hidden, [N, D].
    if (form_slopes) slope = at::empty_like(hidden);
    if (form_slopes && entropy_gradient) entropy_slope = at::empty_like(hidden);
    Chunk chunk(std::min(chunk_rows, n), hidden, head);
    at::Tensor sums;
    if (form_slopes) sums = at::empty({n}, float32);
    for (int64_t begin = 0; begin < n; begin += chunk_rows) {
      const int64_t rows = std::min(chunk_rows, n - begin);
      const auto part = [&](const at::Tensor& x) {
        return x.defined() ? x.narrow(0, begin, rows) : x;
      };
      const at::Tensor t = part(temperatures);
      chunk.Run(part(hidden), part(targets), t, part(logprobs), part(entropy),
                part(sums));
      if (!form_slopes) continue;
      at::Tensor out = part(slope);
      tensor::MultiplyInto(out, chunk.weights(), head);
      out.div_(Column(part(sums), out).neg());
      out.add_(head.index_select(0, part(targets))).div_(Column(t, out));
      if (!entropy_gradient) continue;
      const at::Tensor p = chunk.weights().div_(Column(part(sums), head));
      at::Tensor entropy_out = part(entropy_slope);
      tensor::MultiplyInto(entropy_out, EntropySlope(p, part(entropy)), head);
      entropy_out.neg_().div_(Column(t, entropy_out));
    }
    ctx->saved_data["chunk_rows"] = chunk_rows;
    ctx->saved_data["entropy_gradient"] = entropy_gradient;
    if (form_slopes && !head.requires_grad()) {
      ctx->save_for_backward({slope, entropy_slope});
    } else if (form_slopes) {
      variable_list saved = {slope, entropy_slope, hidden,
                             head,  targets,       temperatures};
      // A single chunk is what the gradient of the head reads again; with an
      // entropy gradient it has been written over.
      if (n <= chunk_rows && !entropy_gradient)
        saved.insert(saved.end(), {chunk.weights(), sums});
      ctx->save_for_backward(saved);
    }
    if (!entropy_gradient) ctx->mark_non_differentiable({entropy});
    return {logprobs, entropy};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const bool entropy_gradient = ctx->saved_data["entropy_gradient"].toBool();
    at::Tensor by_logprob = grads[0];
    at::Tensor by_entropy;
    if (entropy_gradient && grads[1].defined()) by_entropy = grads[1];
    at::Tensor hidden_grad = at::zeros_like(saved[0]);
    if (by_logprob.defined()) {
      hidden_grad.addcmul_(saved[0], Column(by_logprob, hidden_grad));
    }
    if (by_entropy.defined()) {
      hidden_grad.addcmul_(saved[1], Column(by_entropy, hidden_grad));
    }
    at::Tensor head_grad;
    if (saved.size() > 2) {
      head_grad = HeadGradient(saved, by_logprob, by_entropy,
                               ctx->saved_data["chunk_rows"].toInt());
    }
    return {hidden_grad,  head_grad,    at::Tensor(), at::Tensor(),
            at::Tensor(), at::Tensor(), at::Tensor()};
  }

 private:
  // d / d head: sum over tokens of g (onehot - p) h^T / temperature.
  static at::Tensor HeadGradient(const variable_list& saved,
                                 const at::Tensor& by_logprob,
                                 const at::Tensor& by_entropy,
                                 int64_t chunk_rows) {
    const at::Tensor &hidden = saved[2], &head = saved[3], &targets = saved[4];
    const at::Tensor scaled = Scaled(hidden, saved[5]);
    at::Tensor weighted, result;
    if (by_logprob.defined()) {
      weighted = scaled * Column(by_logprob, scaled);
      result = at::embedding_dense_backward(weighted, targets, head.size(0),
                                            /*padding_idx=*/-1,
                                            /*scale_grad_by_freq=*/false);
    } else {
      result = at::zeros_like(head);
    }
    if (saved.size() > 6) {
      if (!by_logprob.defined()) return result;
      weighted.div_(Column(saved[7], weighted));
      tensor::MultiplyInto(result, saved[6].t(), weighted, -1, 1);
      return result;
    }
    const int64_t n = hidden.size(0);
    Chunk chunk(std::min(chunk_rows, n), hidden, head);
    const at::Tensor logprobs =
        at::empty({n}, hidden.options().dtype(at::kFloat));
    const at::Tensor entropy = at::empty_like(logprobs);
    const at::Tensor sums = at::empty_like(logprobs);
    for (int64_t begin = 0; begin < n; begin += chunk_rows) {
      const int64_t rows = std::min(chunk_rows, n - begin);
      const auto part = [&](const at::Tensor& x) {
        return x.narrow(0, begin, rows);
      };
      chunk.Run(part(hidden), part(targets), part(saved[5]), part(logprobs),
                part(entropy), part(sums));
      const at::Tensor p = chunk.weights().div_(Column(part(sums), head));
      if (by_logprob.defined()) {
        tensor::MultiplyInto(result, p.t(), part(weighted), -1, 1);
      }
      if (by_entropy.defined()) {
        tensor::MultiplyInto(result, EntropySlope(p, part(entropy)).t(),
                             part(scaled) * Column(part(by_entropy), scaled),
                             -1, 1);
      }
    }
    return result;
  }
};

// Rows of equal chunks that keep to the limit. Every chunk's products read the
// whole head, so few of many rows are better.
int64_t ChunkRows(int64_t n, const at::Tensor& head,
                  const SelectiveLogprobOptions& options) {
  const int64_t row_bytes =
      head.size(0) * static_cast<int64_t>(head.element_size());
  const int64_t most = std::max<int64_t>(options.logits_bytes / row_bytes, 1);
  const int64_t chunks = std::max<int64_t>((n + most - 1) / most, 1);
  return std::max<int64_t>((n + chunks - 1) / chunks, 1);
}

}  // namespace

TokenStatistics SelectiveLogprob(const at::Tensor& hidden,
                                 const at::Tensor& head,
                                 const at::Tensor& targets,
                                 const at::Tensor& temperatures,
                                 const SelectiveLogprobOptions& options) {
  TORCH_CHECK(targets.scalar_type() == at::kLong &&
                  targets.sizes() == at::IntArrayRef({hidden.size(0)}),
              "selective log-prob: expected ", hidden.size(0),
              " int64 targets, found ", targets.sizes());
  TORCH_CHECK(
      targets.numel() == 0 || (targets.min().item<int64_t>() >= 0 &&
                               targets.max().item<int64_t>() < head.size(0)),
      "selective log-prob: a target outside the vocabulary of ", head.size(0));
  const bool form_slopes = at::GradMode::is_enabled() &&
                           (hidden.requires_grad() || head.requires_grad());
  variable_list out =
      SelectiveLogprobFunction::apply(hidden, head, targets, temperatures,
                                      ChunkRows(hidden.size(0), head, options),
                                      options.entropy_gradient, form_slopes);
  return {out[0], out[1]};
}

}  // namespace mpo::rl
