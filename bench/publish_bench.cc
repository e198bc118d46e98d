// SPDX-License-Identifier: Apache-2.0
// How long the learner's weights need to an actor: from the moment the learner
// begins to publish a version until the actor has it in force. Learner service,
// gRPC on loopback, shared memory, fetching, checking and applying are those of
// the mesh; both sides run in this one process. The last line is one JSON
// object:
//   ms          the whole way; publish_ms, fetch_ms and apply_ms are its parts
//   bytes       of the tensors
#include <torch/torch.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <future>
#include <iostream>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "bench/command_loop.h"
#include "mpo/base/status_macros.h"
#include "mpo/rpc/server_host.h"
#include "mpo/tensor/threads.h"
#include "nlohmann/json.hpp"
#include "services/policy_learner/learner_service.h"
#include "services/rollout_actor/mesh_peers.h"
#include "services/rollout_actor/policy_replica.h"

namespace mpo {
namespace {

using bench::SecondsSince;
using Json = nlohmann::json;
using policy_learner::LearnerEngine;
using policy_learner::PolicyTrainer;
using weights::PublishedWeights;
using TimePoint = std::chrono::steady_clock::time_point;

struct Options {
  std::string model;
  int64_t rank = 16;
  int repeats = 9;
  int threads = 2;
  bool chunks = false;
};

// Nothing is trained here.
class NoLedger final : public policy_learner::StepLedger {
 public:
  absl::StatusOr<policy_learner::StepAssignment> AssignBatch(
      int64_t, absl::Duration, std::stop_token) override {
    return policy_learner::StepAssignment{.sample_keys = std::nullopt,
                                          .finished = true};
  }
  absl::Status CommitStep(int64_t, const std::string&,
                          const std::map<std::string, double>&,
                          const std::map<std::string, double>&,
                          std::stop_token) override {
    return absl::OkStatus();
  }
};

// A directory of this process that goes with it.
class ScratchDirectory {
 public:
  ScratchDirectory()
      : path_(std::filesystem::temp_directory_path() /
              absl::StrCat("publish_bench_", ::getpid())) {}
  ~ScratchDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  const std::filesystem::path path_;
};

// Milliseconds of every repetition, by what they were spent on.
using Times = std::map<std::string, std::vector<double>>;

Json Summary(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return {{"median", (values[(n - 1) / 2] + values[n / 2]) / 2},
          {"min", values.front()},
          {"max", values.back()}};
}

struct Received {
  bool mapped = false;
  TimePoint fetched;
  TimePoint applied;
};

// What UnitRunner::EnsureWeights does.
absl::StatusOr<Received> Receive(rollout_actor::MeshPeers& peers,
                                 rollout_actor::PolicyReplica& replica,
                                 PolicyVersion version) {
  Received received;
  MPO_ASSIGN_OR_RETURN(auto fetched,
                       peers.GetWeights(version, replica.MaxWeightBytes(), {}));
  received.mapped = fetched.mapped;
  received.fetched = std::chrono::steady_clock::now();
  MPO_RETURN_IF_ERROR(replica.Apply(fetched.manifest, fetched.tensors));
  received.applied = std::chrono::steady_clock::now();
  return received;
}

// As after a step: every weight is another.
void Train(const policy_learner::PolicyModel& model) {
  at::NoGradGuard no_grad;
  for (const tensor::NamedTensor& named : model.Weights()) {
    at::Tensor(named.tensor).mul_(1.0001);
  }
}

// Publishes versions 1 to `repeats` + 3; the first three are not counted: the
// memory of files is fresh.
absl::StatusOr<Times> Measure(const Options& options,
                              const policy_learner::PolicyModel& model,
                              policy_learner::WeightsPublisher& publisher,
                              rollout_actor::MeshPeers& peers,
                              rollout_actor::PolicyReplica& replica,
                              bool* mapped) {
  const auto ms = [](TimePoint from, TimePoint to) {
    return std::chrono::duration<double, std::milli>(to - from).count();
  };
  const auto files = options.chunks ? nullptr : weights::MemoryFiles::New();
  Times times;
  for (PolicyVersion version = 1; version <= options.repeats + 3; ++version) {
    Train(model);
    auto receiving = std::async(std::launch::async, [&, version] {
      return Receive(peers, replica, version);
    });
    const TimePoint start = std::chrono::steady_clock::now();
    MPO_ASSIGN_OR_RETURN(
        auto published,
        PublishedWeights::Create(version, model.kind(), model.adapter_config(),
                                 model.Weights(), {.files = files}));
    publisher.Publish(std::move(published));
    const TimePoint out = std::chrono::steady_clock::now();
    MPO_ASSIGN_OR_RETURN(const Received received, receiving.get());
    *mapped = received.mapped;
    if (version <= 3) continue;
    times["ms"].push_back(ms(start, received.applied));
    times["publish_ms"].push_back(ms(start, out));
    times["fetch_ms"].push_back(ms(out, received.fetched));
    times["apply_ms"].push_back(ms(received.fetched, received.applied));
  }
  return times;
}

absl::Status Run(const Options& options) {
  tensor::SetThreads(options.threads);
  MPO_ASSIGN_OR_RETURN(auto base, model::LanguageModel::Load(options.model));
  policy_learner::TrainerOptions trainer_options;
  if (options.rank > 0) {
    trainer_options.lora =
        model::LoraConfig{.rank = options.rank, .alpha = 2.0 * options.rank};
  }
  MPO_ASSIGN_OR_RETURN(auto trainer, PolicyTrainer::Create(
                                         base, trainer_options, Clock::Real()));
  const policy_learner::PolicyModel& model = trainer->model();
  const ScratchDirectory scratch;
  MPO_ASSIGN_OR_RETURN(auto spool,
                       policy_learner::RolloutSpool::Open(
                           {.directory = scratch.path() / "spool"}));
  prometheus::Registry registry;
  policy_learner::LearnerMetrics metrics(registry);
  policy_learner::WeightsPublisher publisher;
  NoLedger ledger;
  LearnerEngine engine({}, std::move(trainer), *spool, /*decode=*/nullptr,
                       ledger, publisher, metrics, Clock::Real());
  policy_learner::LearnerService service(engine, *spool, publisher, metrics);
  MPO_ASSIGN_OR_RETURN(auto host, rpc::ServerHost::Start(
                                      {.address = "127.0.0.1:0"}, {&service}));
  rollout_actor::MeshPeersOptions peers_options;
  peers_options.policy_learner = absl::StrCat("127.0.0.1:", host->port());
  peers_options.orchestrator = peers_options.reward_server =
      peers_options.policy_learner;
  peers_options.shared_memory = !options.chunks;
  rollout_actor::MeshPeers peers(peers_options);
  MPO_ASSIGN_OR_RETURN(auto replica,
                       rollout_actor::PolicyReplica::Create(base, {}));
  bool mapped = false;
  auto times = Measure(options, model, publisher, peers, *replica, &mapped);
  if (times.ok()) {
    const weights::Manifest manifest = publisher.newest()->manifest();
    Json json = {
        {"rank", options.rank},          {"tensors", manifest.tensors.size()},
        {"bytes", manifest.total_bytes}, {"repeats", options.repeats},
        {"threads", options.threads},    {"shared_memory", mapped}};
    for (const auto& [name, values] : *times) json[name] = Summary(values);
    json["bytes_per_second"] = static_cast<double>(manifest.total_bytes) /
                               json["ms"]["median"].get<double>() * 1e3;
    std::cout << json.dump() << std::endl;
  }
  publisher.Close();
  host->Stop();
  return times.status();
}

}  // namespace
}  // namespace mpo

int main(int argc, char** argv) {
  mpo::Options options;
  CLI::App app("Times the learner's weights from publishing to the actor");
  app.add_option("--model", options.model, "Hugging Face directory")
      ->required();
  app.add_option("--rank", options.rank,
                 "of the adapter on all linear layers; 0 = all weights")
      ->check(CLI::Range(0, 1024));
  app.add_option("--repeats", options.repeats)->check(CLI::Range(1, 1000));
  app.add_option("--threads", options.threads);
  app.add_flag("--chunks", options.chunks,
               "over the network, as to an actor on another host");
  return mpo::bench::Main(app, argc, argv, [&] { return mpo::Run(options); });
}
