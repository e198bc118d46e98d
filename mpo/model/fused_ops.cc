// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/fused_ops.h"

#include <torch/torch.h>

#include <algorithm>

#include "mpo/model/fused_loops.h"
#include "mpo/tensor/products.h"

namespace mpo::model {
namespace {

using tensor::Multiply;
using tensor::MultiplyInto;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

bool Fused(const at::Tensor& x) {
  return x.scalar_type() == at::kFloat && x.device().is_cpu();
}

const float* In(const at::Tensor& x) { return x.const_data_ptr<float>(); }
float* Out(const at::Tensor& x) { return x.mutable_data_ptr<float>(); }

class RmsNormFunction : public torch::autograd::Function<RmsNormFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& input,
                            const at::Tensor& weight, double eps) {
    const at::Tensor x = input.contiguous();
    const int64_t width = x.size(-1);
    const int64_t rows = x.numel() / width;
    const at::Tensor y = at::empty_like(x);
    const at::Tensor scale = at::empty({rows}, x.options());
    RmsNormLoop(In(x), In(weight), static_cast<float>(eps), rows, width, Out(y),
                Out(scale), at::get_num_threads());
    ctx->save_for_backward({x, weight, scale});
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &scale = saved[2];
    const at::Tensor g = grads[0].contiguous();
    const int64_t width = x.size(-1);
    const at::Tensor dx = at::empty_like(x);
    at::Tensor dw;
    RmsNormBackwardLoop(In(x), In(weight), In(scale), In(g), scale.numel(),
                        width, Out(dx), at::get_num_threads());
    if (ctx->needs_input_grad(1)) {
      dw = (g * x).view({-1, width}).mul_(scale.unsqueeze(1)).sum(0);
    }
    return {dx, dw, at::Tensor()};
  }
};

class SiluMulFunction : public torch::autograd::Function<SiluMulFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& input) {
    const at::Tensor x = input.contiguous();
    const int64_t width = x.size(-1) / 2;
    auto sizes = x.sizes().vec();
    sizes.back() = width;
    const at::Tensor y = at::empty(sizes, x.options());
    SiluMulLoop(In(x), x.numel() / x.size(-1), width, Out(y),
                at::get_num_threads());
    ctx->save_for_backward({x});
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const at::Tensor x = ctx->get_saved_variables()[0];
    const at::Tensor g = grads[0].contiguous();
    const at::Tensor dx = at::empty_like(x);
    SiluMulBackwardLoop(In(x), In(g), x.numel() / x.size(-1), x.size(-1) / 2,
                        Out(dx), at::get_num_threads());
    return {dx};
  }
};

// Tensors of one call: weight, bias (or undefined), stacked A, then every B.
class AdaptedLinearFunction
    : public torch::autograd::Function<AdaptedLinearFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& input,
                            const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias,
                            const std::optional<at::Tensor>& stacked,
                            at::TensorList bs, std::vector<int64_t> begins,
                            double scale, const PackedWeight& packed) {
    const at::Tensor x = input.reshape({-1, input.size(-1)});
    at::Tensor y = at::empty({x.size(0), weight.size(0)}, x.options());
    const at::Tensor a = stacked.value_or(at::Tensor());
    at::Tensor low;
    if (a.defined()) low = Multiply(x.to(a.scalar_type()), a.t());
    const bool first = a.defined() && !bias.has_value() &&
                       Cover(bs, begins, y.size(1)) && LowRankFirst(y, a);
    if (bias.has_value()) y.copy_(*bias);
    const auto multiply = [&](bool add) {
      MultiplyInto(y, x, weight.t(), 1, add ? 1 : 0, packed.transposed);
    };
    if (!first) multiply(/*add=*/bias.has_value());
    int64_t column = 0;
    for (size_t i = 0; i < bs.size(); ++i) {
      const int64_t rank = bs[i].size(1);
      at::Tensor part = y.narrow(1, begins[i], bs[i].size(0));
      const at::Tensor mine = low.narrow(1, column, rank);
      if (part.scalar_type() == mine.scalar_type()) {
        if (first) {
          WriteLowRank(part, mine, bs[i].t(), scale);
        } else {
          MultiplyInto(part, mine, bs[i].t(), scale, 1);
        }
      } else {
        part.add_(Multiply(mine, bs[i].t()), scale);
      }
      column += rank;
    }
    if (first) multiply(/*add=*/true);
    variable_list saved = {x, weight, low, a, packed.plain};
    saved.insert(saved.end(), bs.begin(), bs.end());
    ctx->save_for_backward(saved);
    ctx->saved_data["bias_grad"] = bias.has_value() && bias->requires_grad();
    ctx->saved_data["begins"] = begins;
    ctx->saved_data["scale"] = scale;
    auto sizes = input.sizes().vec();
    sizes.back() = weight.size(0);
    ctx->saved_data["sizes"] = input.sizes().vec();
    return y.view(sizes);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &a = saved[3],
                     &packed = saved[4];
    const std::vector<int64_t> begins = ctx->saved_data["begins"].toIntVector();
    const double scale = ctx->saved_data["scale"].toDouble();
    const at::Tensor g = grads[0].reshape({-1, weight.size(0)});
    // x, weight, bias, a, every b, begins, scale, packed.
    variable_list out(4 + begins.size() + 3);
    at::Tensor g_low;
    if (a.defined()) g_low = LowGradients(g, saved, begins, scale, out);
    if (ctx->needs_input_grad(0)) {
      const at::Tensor dx = at::empty({g.size(0), weight.size(1)}, g.options());
      if (a.defined() && LowRankFirst(dx, a)) {
        WriteLowRank(dx, g_low, a, 1);
        MultiplyInto(dx, g, weight, 1, 1, packed);
      } else {
        MultiplyInto(dx, g, weight, 1, 0, packed);
        if (a.defined() && dx.scalar_type() == a.scalar_type()) {
          MultiplyInto(dx, g_low, a, 1, 1);
        } else if (a.defined()) {
          dx.add_(Multiply(g_low, a));
        }
      }
      out[0] = dx.view(ctx->saved_data["sizes"].toIntVector());
    }
    if (ctx->needs_input_grad(1)) out[1] = Multiply(g.t(), x);
    if (ctx->saved_data["bias_grad"].toBool()) out[2] = g.sum(0);
    if (a.defined()) out[3] = Multiply(g_low.t(), x.to(a.scalar_type()));
    return out;
  }

 private:
  // Whether to add the large product to the low-rank ones: that saves a pass
  // over outputs that do not stay in a core's cache.
  static bool LowRankFirst(const at::Tensor& out, const at::Tensor& a) {
    constexpr int64_t kCachedFloats = int64_t{1} << 17;
    return out.numel() > kCachedFloats && out.scalar_type() == a.scalar_type();
  }

  // out = scale * low b.
  static void WriteLowRank(const at::Tensor& out, const at::Tensor& low,
                           const at::Tensor& b, double scale) {
    constexpr int64_t kMostRank = 64;  // Beyond, b does not stay in a cache.
    if (!Fused(out) || low.stride(1) != 1 || out.stride(1) != 1 ||
        low.size(1) > kMostRank) {
      return MultiplyInto(out, low, b, scale, 0);
    }
    LowRankLoop(In(low), low.stride(0), In(b.contiguous()), low.size(0),
                low.size(1), b.size(1), static_cast<float>(scale), Out(out),
                out.stride(0), at::get_num_threads());
  }

  // Whether every one of `outputs` has an adapter, in order.
  static bool Cover(at::TensorList bs, const std::vector<int64_t>& begins,
                    int64_t outputs) {
    int64_t covered = 0;
    for (size_t i = 0; i < bs.size(); ++i) {
      if (begins[i] != covered) return false;
      covered += bs[i].size(0);
    }
    return covered == outputs;
  }

  // d loss / d (x a^T), [rows, sum of ranks]; the gradients of every b go to
  // `out`.
  static at::Tensor LowGradients(const at::Tensor& g,
                                 const variable_list& saved,
                                 const std::vector<int64_t>& begins,
                                 double scale, variable_list& out) {
    const at::Tensor& low = saved[2];
    at::Tensor g_low = at::empty_like(low);
    int64_t column = 0;
    for (size_t i = 0; i < begins.size(); ++i) {
      const at::Tensor& b = saved[5 + i];
      const int64_t rank = b.size(1);
      const at::Tensor part =
          g.narrow(1, begins[i], b.size(0)).to(b.scalar_type());
      g_low.narrow(1, column, rank).copy_(Multiply(part, b).mul_(scale));
      out[4 + i] = Multiply(part.t(), low.narrow(1, column, rank)).mul_(scale);
      column += rank;
    }
    return g_low;
  }
};

class RotateHeadsFunction
    : public torch::autograd::Function<RotateHeadsFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& input,
                            const std::optional<at::Tensor>& cos,
                            const std::optional<at::Tensor>& sin,
                            int64_t head_dim, int64_t repeat) {
    // Rows may be strided (a part of q, k and v), the last dimension not.
    const bool in_place = input.stride(2) == 1 &&
                          input.stride(1) >= input.size(2) &&
                          input.stride(0) == input.size(1) * input.stride(1);
    const at::Tensor x = in_place ? input : input.contiguous();
    // A contiguous tensor's own stride says nothing where a size is 1.
    const int64_t row_stride = in_place ? x.stride(1) : x.size(2);
    const HeadsShape shape{.batch = x.size(0),
                           .length = x.size(1),
                           .heads = x.size(2) / head_dim,
                           .head_dim = head_dim,
                           .repeat = repeat};
    const at::Tensor y =
        at::empty({shape.batch, shape.heads * repeat, shape.length, head_dim},
                  x.options());
    RotateHeadsLoop(shape, In(x), row_stride, Table(cos.value_or(at::Tensor())),
                    Table(sin.value_or(at::Tensor())), Out(y),
                    at::get_num_threads());
    ctx->save_for_backward(
        {cos.value_or(at::Tensor()), sin.value_or(at::Tensor())});
    ctx->saved_data["heads"] = shape.heads;
    ctx->saved_data["repeat"] = repeat;
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor g = grads[0].contiguous();
    const HeadsShape shape{.batch = g.size(0),
                           .length = g.size(2),
                           .heads = ctx->saved_data["heads"].toInt(),
                           .head_dim = g.size(3),
                           .repeat = ctx->saved_data["repeat"].toInt()};
    const at::Tensor dx = at::empty(
        {shape.batch, shape.length, shape.heads * shape.head_dim}, g.options());
    RotateHeadsBackwardLoop(shape, In(g), Table(saved[0]), Table(saved[1]),
                            Out(dx), at::get_num_threads());
    return {dx, at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }

 private:
  static const float* Table(const at::Tensor& t) {
    return t.defined() ? In(t) : nullptr;
  }
};

}  // namespace

at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  if (Fused(x) && Fused(weight)) return RmsNormFunction::apply(x, weight, eps);
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor scale =
      at::rsqrt(wide.square().mean(-1, /*keepdim=*/true).add(eps));
  return (wide * scale).to(x.scalar_type()) * weight;
}

at::Tensor SiluMul(const at::Tensor& gate_up) {
  if (Fused(gate_up)) return SiluMulFunction::apply(gate_up);
  const auto parts = gate_up.chunk(2, -1);
  return at::silu(parts[0]) * parts[1];
}

at::Tensor AdaptedLinear(const at::Tensor& x, const at::Tensor& weight,
                         const at::Tensor& bias,
                         const std::vector<LinearAdapter>& adapters,
                         double scale, const PackedWeight& packed) {
  std::vector<at::Tensor> as, bs;
  std::vector<int64_t> begins;
  for (const LinearAdapter& adapter : adapters) {
    as.push_back(adapter.a);
    bs.push_back(adapter.b);
    begins.push_back(adapter.begin);
  }
  // What is absent must not be passed as an undefined tensor.
  std::optional<at::Tensor> a, b;
  if (bias.defined()) b = bias;
  if (!as.empty()) a = as.size() == 1 ? as[0] : at::cat(as);
  return AdaptedLinearFunction::apply(x, weight, b, a, at::TensorList(bs),
                                      begins, scale, packed);
}

at::Tensor RotateHeads(const at::Tensor& x, int64_t head_dim, int64_t repeat,
                       const Rotary* rotary) {
  if (Fused(x)) {
    std::optional<at::Tensor> cos, sin;
    if (rotary != nullptr) {
      const std::vector<int64_t> sizes = {x.size(0), x.size(1), head_dim / 2};
      cos = rotary->cos.expand(sizes).contiguous();
      sin = rotary->sin.expand(sizes).contiguous();
    }
    return RotateHeadsFunction::apply(x, cos, sin, head_dim, repeat);
  }
  const int64_t heads = x.size(2) / head_dim;
  at::Tensor y = x.reshape({x.size(0), x.size(1), heads, head_dim});
  if (rotary != nullptr) {
    const auto halves = y.chunk(2, -1);
    const at::Tensor cos = rotary->cos.unsqueeze(2).to(x.scalar_type());
    const at::Tensor sin = rotary->sin.unsqueeze(2).to(x.scalar_type());
    y = at::cat(
        {halves[0] * cos - halves[1] * sin, halves[1] * cos + halves[0] * sin},
        -1);
  }
  y = y.transpose(1, 2);
  return (repeat == 1 ? y : y.repeat_interleave(repeat, 1)).contiguous();
}

}  // namespace mpo::model
