// SPDX-License-Identifier: Apache-2.0
#include "services/orchestrator/run_options.h"

#include <algorithm>

#include "mpo/base/digest.h"
#include "mpo/base/status_macros.h"
#include "mpo/evaluation/prompts.h"
#include "services/orchestrator/record_json.h"

namespace mpo::orchestrator {

absl::StatusOr<EngineOptions> EngineOptionsFrom(
    const config::v1::RunConfig& config, const std::string& config_sha256) {
  EngineOptions options;
  PlanOptions& plan = options.plan;
  plan.run = config.run().name();
  plan.seed = config.run().seed();
  plan.total_steps = config.run().steps();
  plan.prompts_per_step = config.generation().prompts_per_step();
  plan.group_size = config.generation().group_size();
  plan.unit_size = config.generation().unit_size();
  plan.max_staleness = config.generation().max_staleness();
  plan.evaluation_every = config.evaluation().every();
  plan.evaluation_prompts = config.evaluation().prompts();
  plan.sampling = {.temperature = config.generation().temperature(),
                   .top_k = config.generation().top_k(),
                   .top_p = config.generation().top_p(),
                   .max_new_tokens = config.generation().max_new_tokens()};
  MPO_ASSIGN_OR_RETURN(
      plan.training,
      evaluation::ReadPrompts(config.data().train(), config.task()));
  if (!config.data().heldout().empty()) {
    MPO_ASSIGN_OR_RETURN(
        plan.heldout,
        evaluation::ReadPrompts(config.data().heldout(), config.task()));
  }
  MPO_RETURN_IF_ERROR(ValidatePlan(plan));
  options.policy = {.max_staleness = plan.max_staleness,
                    .meta_every = config.meta().every(),
                    .barrier = config.meta().publish() == "barrier",
                    .max_unscorable = config.reward().max_unscorable()};
  options.task = config.task();
  options.config_sha256 = config_sha256;
  options.directory = config.run().dir();
  options.monitor_initial = config.reward().monitor_initial();
  options.evidence = config.meta().evidence();
  options.max_criteria = config.meta().max_criteria();
  options.lease = absl::Seconds(config.mesh().work_lease());
  // One renewal may be lost before a member counts as gone.
  options.member_ttl =
      std::max(options.lease, absl::Seconds(3 * config.mesh().heartbeat()));
  return options;
}

RunRecord RunRecordFrom(const EngineOptions& options) {
  Sha256 data;
  for (const auto* set : {&options.plan.training, &options.plan.heldout}) {
    for (const Prompt& prompt : *set) data.Update(ToJson(prompt));
    data.Update("\n");
  }
  RunRecord run;
  run.name = options.plan.run;
  run.seed = options.plan.seed;
  run.total_steps = options.plan.total_steps;
  run.config_sha256 = options.config_sha256;
  run.data_sha256 = data.HexDigest();
  return run;
}

}  // namespace mpo::orchestrator
