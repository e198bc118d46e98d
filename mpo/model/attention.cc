// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/attention.h"

#include <torch/torch.h>

#include <optional>

#include "mpo/model/attention_loops.h"

namespace mpo::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

const float* In(const at::Tensor& x) { return x.const_data_ptr<float>(); }
float* Out(const at::Tensor& x) { return x.mutable_data_ptr<float>(); }

AttentionShape ShapeOf(const at::Tensor& q, int64_t kv_heads) {
  return {.batch = q.size(0),
          .length = q.size(2),
          .heads = q.size(1),
          .kv_heads = kv_heads,
          .head_dim = q.size(3)};
}

class CausalAttentionFunction
    : public torch::autograd::Function<CausalAttentionFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& queries,
                            const at::Tensor& keys, const at::Tensor& values) {
    const at::Tensor q = queries.contiguous(), k = keys.contiguous(),
                     v = values.contiguous();
    const AttentionShape s = ShapeOf(q, k.size(1));
    const at::Tensor out =
        at::empty({s.batch, s.length, s.heads * s.head_dim}, q.options());
    const at::Tensor log_sums =
        at::empty({s.batch, s.heads, s.length}, q.options());
    AttentionLoop(s, In(q), In(k), In(v), Out(out), Out(log_sums),
                  at::get_num_threads());
    ctx->save_for_backward({q, k, v, log_sums});
    return out;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2];
    const at::Tensor g = grads[0].contiguous();
    const at::Tensor dq = at::empty_like(q), dk = at::empty_like(k),
                     dv = at::empty_like(v);
    AttentionBackwardLoop(ShapeOf(q, k.size(1)), In(q), In(k), In(v),
                          In(saved[3]), In(g), Out(dq), Out(dk), Out(dv),
                          at::get_num_threads());
    return {dq, dk, dv};
  }
};

}  // namespace

bool AttendsInLoops(const at::Tensor& q, int64_t kv_heads,
                    const at::Tensor& bias) {
  return !bias.defined() && q.scalar_type() == at::kFloat &&
         q.device().is_cpu() && q.numel() > 0 &&
         HasAttentionLoops(ShapeOf(q, kv_heads)) &&
         q.size(0) * kv_heads >=
             (at::in_parallel_region() ? 1 : at::get_num_threads());
}

at::Tensor Attention(const at::Tensor& q, const at::Tensor& k,
                     const at::Tensor& v, const at::Tensor& bias) {
  TORCH_CHECK(q.dim() == 4 && k.dim() == 4 && k.sizes() == v.sizes() &&
                  k.size(1) > 0 && q.size(1) % k.size(1) == 0 &&
                  k.size(0) == q.size(0) && k.size(2) == q.size(2) &&
                  k.size(3) == q.size(3),
              "attention: q ", q.sizes(), " does not fit k ", k.sizes(),
              " and v ", v.sizes());
  if (AttendsInLoops(q, k.size(1), bias))
    return CausalAttentionFunction::apply(q, k, v);
  const int64_t repeat = q.size(1) / k.size(1);
  const auto all = [&](const at::Tensor& x) {
    return repeat == 1 ? x : x.repeat_interleave(repeat, 1);
  };
  std::optional<at::Tensor> mask;
  if (bias.defined()) {
    // Half precision ends at 65504.
    mask = q.scalar_type() == at::kHalf ? bias.clamp_min(-60000.0).to(at::kHalf)
                                        : bias.to(q.scalar_type());
  }
  return at::scaled_dot_product_attention(q, all(k), all(v), mask,
                                          /*dropout_p=*/0.0,
                                          /*is_causal=*/!bias.defined())
      .transpose(1, 2)
      .flatten(2);
}

}  // namespace mpo::model
