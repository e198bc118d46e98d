// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/apart.h"

#include <torch/torch.h>

#include <utility>

#include "mpo/tensor/parallel.h"

namespace mpo::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Each part on a thread of its own, which does not know the caller's grad mode.
template <typename Task>
void ForParts(size_t parts, bool grad, Task task) {
  tensor::OnThreads(static_cast<int>(parts), [&](int i) {
    at::AutoGradMode mode(grad);
    task(static_cast<size_t>(i));
  });
}

variable_list Rows(const at::Tensor& x, const std::vector<int64_t>& begins) {
  variable_list parts;
  for (size_t i = 0; i + 1 < begins.size(); ++i)
    parts.push_back(x.narrow(0, begins[i], begins[i + 1] - begins[i]));
  return parts;
}

// The graphs of the parts, each from its input to its output.
struct Graphs : torch::CustomClassHolder {
  variable_list inputs, outputs;
};

class ApartFunction : public torch::autograd::Function<ApartFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const PartRun& run,
                            const std::vector<int64_t>& begins,
                            const at::Tensor& input, at::TensorList trained) {
    const auto graphs = c10::make_intrusive<Graphs>();
    for (const at::Tensor& part : Rows(input, begins)) {
      graphs->inputs.push_back(
          part.detach().set_requires_grad(input.requires_grad()));
    }
    const size_t parts = graphs->inputs.size();
    graphs->outputs.resize(parts);
    ForParts(parts, /*grad=*/true,
             [&](size_t i) { graphs->outputs[i] = run(i, graphs->inputs[i]); });
    ctx->save_for_backward(trained.vec());
    ctx->saved_data["graphs"] = c10::IValue::make_capsule(graphs);
    variable_list outputs;
    for (const at::Tensor& output : graphs->outputs)
      outputs.push_back(output.detach());
    return at::cat(outputs);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto graphs = c10::static_intrusive_pointer_cast<Graphs>(
        ctx->saved_data["graphs"].toCapsule());
    const variable_list inputs = std::exchange(graphs->inputs, {});
    const variable_list outputs = std::exchange(graphs->outputs, {});
    TORCH_CHECK(!outputs.empty(), "RunApart: a second backward pass");
    const variable_list trained = ctx->get_saved_variables();
    const bool input_grad = inputs[0].requires_grad();
    std::vector<int64_t> begins = {0};
    for (const at::Tensor& output : outputs)
      begins.push_back(begins.back() + output.size(0));
    const variable_list output_grads = Rows(grads[0], begins);
    std::vector<variable_list> found(outputs.size());
    ForParts(outputs.size(), /*grad=*/false, [&](size_t i) {
      variable_list sources = trained;
      if (input_grad) sources.push_back(inputs[i]);
      found[i] = torch::autograd::grad(
          {outputs[i]}, sources, {output_grads[i]}, /*retain_graph=*/false,
          /*create_graph=*/false, /*allow_unused=*/true);
    });
    variable_list out(3);  // run, begins, input, then every trained tensor.
    for (size_t t = 0; t < trained.size(); ++t) out.push_back(Sum(found, t));
    if (input_grad) {
      variable_list parts;
      for (const variable_list& part : found) parts.push_back(part.back());
      out[2] = at::cat(parts);
    }
    return out;
  }

 private:
  // Undefined where no part has a gradient.
  static at::Tensor Sum(const std::vector<variable_list>& found, size_t t) {
    at::Tensor sum;
    for (const variable_list& part : found) {
      if (!part[t].defined()) continue;
      sum = sum.defined() ? sum + part[t] : part[t];
    }
    return sum;
  }
};

}  // namespace

at::Tensor RunApart(const PartRun& run, const std::vector<int64_t>& begins,
                    const at::Tensor& input,
                    const std::vector<at::Tensor>& trained) {
  if (at::GradMode::is_enabled())
    return ApartFunction::apply(run, begins, input, at::TensorList(trained));
  const variable_list inputs = Rows(input, begins);
  variable_list outputs(inputs.size());
  ForParts(inputs.size(), /*grad=*/false,
           [&](size_t i) { outputs[i] = run(i, inputs[i]); });
  return at::cat(outputs);
}

}  // namespace mpo::model
