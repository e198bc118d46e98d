// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/recomputed.h"

#include <torch/torch.h>

#include <utility>

namespace mpo::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Run = std::function<at::Tensor(const at::Tensor&)>;

// A context keeps IValues only.
struct RunHolder : torch::CustomClassHolder {
  explicit RunHolder(Run function) : run(std::move(function)) {}
  Run run;
};

class RecomputedFunction
    : public torch::autograd::Function<RecomputedFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const Run& run,
                            const at::Tensor& input, at::TensorList trained) {
    variable_list saved = {input};
    saved.insert(saved.end(), trained.begin(), trained.end());
    ctx->save_for_backward(saved);
    ctx->saved_data["input_grad"] = input.requires_grad();
    ctx->saved_data["run"] =
        c10::IValue::make_capsule(c10::make_intrusive<RunHolder>(run));
    return run(input);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const auto holder = c10::static_intrusive_pointer_cast<RunHolder>(
        ctx->saved_data["run"].toCapsule());
    at::AutoGradMode with_grad(true);
    const at::Tensor input = saved[0].detach().set_requires_grad(
        ctx->saved_data["input_grad"].toBool());
    const at::Tensor output = holder->run(input);
    variable_list sources(saved.begin() + 1, saved.end());
    if (input.requires_grad()) sources.insert(sources.begin(), input);
    variable_list found = torch::autograd::grad(
        {output}, sources, {grads[0]}, /*retain_graph=*/false,
        /*create_graph=*/false, /*allow_unused=*/true);
    // run, input, then every trained tensor.
    variable_list out(2);
    size_t next = 0;
    if (input.requires_grad()) out[1] = found[next++];
    out.insert(out.end(), found.begin() + next, found.end());
    return out;
  }
};

}  // namespace

at::Tensor Recomputed(const Run& run, const at::Tensor& input,
                      const std::vector<at::Tensor>& trained) {
  return RecomputedFunction::apply(run, input, at::TensorList(trained));
}

}  // namespace mpo::model
