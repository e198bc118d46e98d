// SPDX-License-Identifier: Apache-2.0
#include "services/rollout_actor/mesh_peers.h"

#include <ATen/ATen.h>
#include <grpcpp/grpcpp.h>

#include "absl/strings/match.h"
#include "mpo/base/digest.h"
#include "mpo/logging/log.h"
#include "mpo/rpc/server_host.h"
#include "services/rollout_actor/actor_fixture.h"
#include "services/rollout_actor/wire.h"

namespace mpo::rollout_actor {
namespace {

// The three services as the test tells them to be.
struct Orchestrator : v1::OrchestratorService::Service {
  v1::RegisterRequest registered;
  v1::HeartbeatRequest heartbeat;
  v1::CompleteWorkRequest completed;
  v1::LeaseWorkResponse lease;
  grpc::Status answer;

  grpc::Status Register(grpc::ServerContext*,
                        const v1::RegisterRequest* request,
                        v1::RegisterResponse* response) override {
    registered = *request;
    response->set_member_id("m");
    response->mutable_ttl()->set_seconds(10);
    return answer;
  }
  grpc::Status Heartbeat(grpc::ServerContext*,
                         const v1::HeartbeatRequest* request,
                         v1::HeartbeatResponse* response) override {
    heartbeat = *request;
    response->add_lost_unit_ids("u");
    return answer;
  }
  grpc::Status LeaseWork(grpc::ServerContext*, const v1::LeaseWorkRequest*,
                         v1::LeaseWorkResponse* response) override {
    *response = lease;
    return answer;
  }
  grpc::Status CompleteWork(grpc::ServerContext*,
                            const v1::CompleteWorkRequest* request,
                            v1::CompleteWorkResponse*) override {
    completed = *request;
    return answer;
  }
};

struct Learner : v1::PolicyLearnerService::Service {
  std::vector<v1::GetWeightsResponse> parts;
  // What a caller gets who can read a memory file; empty = `parts`.
  std::vector<v1::GetWeightsResponse> mapped;
  std::vector<v1::GetWeightsRequest> asked;
  std::vector<v1::SubmitRolloutsRequest> rollouts;
  int missing = 0;
  grpc::Status answer;

  grpc::Status GetWeights(
      grpc::ServerContext*, const v1::GetWeightsRequest* request,
      grpc::ServerWriter<v1::GetWeightsResponse>* writer) override {
    asked.push_back(*request);
    const bool map = request->has_reader() && !mapped.empty();
    for (const auto& part : map ? mapped : parts) {
      if (!writer->Write(part)) break;
    }
    return answer;
  }
  grpc::Status SubmitRollouts(
      grpc::ServerContext*,
      grpc::ServerReader<v1::SubmitRolloutsRequest>* reader,
      v1::SubmitRolloutsResponse* response) override {
    v1::SubmitRolloutsRequest request;
    while (reader->Read(&request)) rollouts.push_back(request);
    response->set_accepted(static_cast<int>(rollouts.size()) - missing);
    return answer;
  }
};

struct Reward : v1::RewardService::Service {
  v1::ScoreRequest request;
  std::vector<v1::ScoreResponse> responses;
  grpc::Status answer;

  grpc::Status Score(grpc::ServerContext*, const v1::ScoreRequest* asked,
                     grpc::ServerWriter<v1::ScoreResponse>* writer) override {
    request = *asked;
    for (const auto& response : responses) writer->Write(response);
    return answer;
  }
};

struct Mesh {
  Orchestrator orchestrator;
  Learner learner;
  Reward reward;
  std::unique_ptr<rpc::ServerHost> host =
      *rpc::ServerHost::Start({}, {&orchestrator, &learner, &reward});
  std::unique_ptr<MeshPeers> peers;

  explicit Mesh(bool shared_memory = true) {
    const std::string address = absl::StrCat("127.0.0.1:", host->port());
    MeshPeersOptions options;
    options.orchestrator = options.policy_learner = options.reward_server =
        address;
    options.name = "actor-0";
    options.incarnation = "i";
    options.address = "127.0.0.1:1";
    options.config_sha256 = "c";
    options.shared_memory = shared_memory;
    peers = std::make_unique<MeshPeers>(options);
  }
};

std::shared_ptr<const weights::PublishedWeights> Published(
    PolicyVersion version) {
  const FetchedWeights weights = ActorFixture::Weights(version);
  return *weights::PublishedWeights::Create(
      version, "adapter", weights.manifest.adapter_config, weights.tensors,
      {.files = weights::MemoryFiles::New()});
}

// The parts of a stream that carries a version whole.
std::vector<v1::GetWeightsResponse> PartsOf(
    const weights::PublishedWeights& weights) {
  const weights::PublishedWeights* const published = &weights;
  const PolicyVersion version = weights.version();
  std::vector<v1::GetWeightsResponse> parts(1);
  v1::WeightsManifest& manifest = *parts[0].mutable_manifest();
  manifest.set_version(version);
  manifest.set_kind("adapter");
  manifest.set_adapter_config(weights.manifest().adapter_config);
  manifest.set_total_bytes(weights.manifest().total_bytes);
  for (const auto& entry : published->manifest().tensors) {
    auto& tensor = *manifest.add_tensors();
    tensor.set_name(entry.name);
    tensor.set_dtype(entry.dtype);
    for (const int64_t size : entry.shape) tensor.add_shape(size);
    tensor.set_bytes(entry.bytes);
    tensor.set_sha256(entry.sha256);
  }
  for (int i = 0; i < published->chunk_count(); ++i) {
    auto& chunk = *parts.emplace_back().mutable_chunk();
    chunk.set_tensor(published->chunk(i).tensor);
    chunk.set_offset(published->chunk(i).offset);
    chunk.set_data(std::string(published->chunk(i).data));
    chunk.set_crc32c(published->chunk(i).crc32c);
  }
  auto& commit = *parts.emplace_back().mutable_commit();
  commit.set_version(version);
  commit.set_chunks(published->chunk_count());
  return parts;
}

std::vector<v1::GetWeightsResponse> PartsOf(PolicyVersion version) {
  return PartsOf(*Published(version));
}

// The two parts that say where a version lies in memory.
std::vector<v1::GetWeightsResponse> MappedPartsOf(
    const weights::PublishedWeights& weights) {
  std::vector<v1::GetWeightsResponse> parts = {PartsOf(weights)[0]};
  const weights::MemoryOffer& offer = *weights.offer();
  auto& file = *parts[0].mutable_manifest()->mutable_memory_file();
  file.set_path(offer.path);
  file.set_bytes(offer.bytes);
  file.set_inode(offer.inode);
  file.set_edition(offer.edition);
  *file.mutable_guard() = ToProto(offer.guard);
  parts.emplace_back().mutable_commit()->set_version(weights.version());
  return parts;
}

constexpr int64_t kMaxBytes = 1 << 24;

TEST_CASE("MeshPeers speaks to the orchestrator", "[rollout_actor]") {
  Mesh mesh;
  const auto membership = mesh.peers->Register({});
  REQUIRE(membership.ok());
  CHECK(membership->member_id == "m");
  CHECK(membership->ttl == absl::Seconds(10));
  CHECK(mesh.orchestrator.registered.role() == v1::ROLE_ROLLOUT_ACTOR);
  CHECK(mesh.orchestrator.registered.name() == "actor-0");
  CHECK(mesh.orchestrator.registered.config_sha256() == "c");

  CHECK(*mesh.peers->Heartbeat("m", {"u"}, 3, {}) ==
        std::vector<std::string>{"u"});
  CHECK(mesh.orchestrator.heartbeat.policy_version() == 3);
  CHECK(mesh.orchestrator.heartbeat.unit_ids(0) == "u");

  auto work = mesh.peers->LeaseWork("m", absl::Seconds(1), {});
  REQUIRE(work.ok());
  CHECK_FALSE(work->unit.has_value());
  v1::WorkUnit& unit = *mesh.orchestrator.lease.mutable_unit();
  unit.set_id("training/1/0");
  unit.set_kind(v1::WORK_KIND_TRAINING);
  unit.set_lease_epoch(5);
  unit.mutable_sampling()->set_max_new_tokens(7);
  auto& sample = *unit.add_samples();
  sample.set_key("k");
  sample.set_seed(9);
  *sample.mutable_prompt() =
      ToProto(ActorFixture::Unit("u", 0).samples[0].prompt);
  work = mesh.peers->LeaseWork("m", absl::Seconds(1), {});
  REQUIRE(work.ok());
  REQUIRE(work->unit.has_value());
  CHECK(work->unit->lease_epoch == 5);
  CHECK(work->unit->sampling.max_new_tokens == 7);
  CHECK(work->unit->samples[0].seed == 9);
  CHECK(work->unit->samples[0].prompt ==
        ActorFixture::Unit("u", 0).samples[0].prompt);
  unit.set_kind(v1::WORK_KIND_UNSPECIFIED);
  CHECK(absl::IsInternal(
      mesh.peers->LeaseWork("m", absl::Seconds(1), {}).status()));

  mesh.orchestrator.answer = {grpc::StatusCode::NOT_FOUND, "unknown member"};
  CHECK(absl::IsNotFound(mesh.peers->Heartbeat("m", {}, 0, {}).status()));
}

TEST_CASE("MeshPeers reports outcomes and gives units back",
          "[rollout_actor]") {
  Mesh mesh;
  WorkUnit unit = ActorFixture::Unit("training/1/0", 0, 1);
  unit.lease_epoch = 5;
  UnitOutcomes outcomes;
  SampleOutcome outcome;
  outcome.sample_key = "k";
  outcome.finish_reason = FinishReason::kStop;
  outcome.verdict.detail = "why";
  outcome.base = {.mean_logprob = -2};
  outcomes.samples = {outcome};
  outcomes.generation = absl::Milliseconds(1500);
  REQUIRE(mesh.peers->CompleteWork("m", unit, outcomes, {}).ok());
  const auto& sent = mesh.orchestrator.completed;
  CHECK(sent.lease_epoch() == 5);
  CHECK(sent.success().generation().seconds() == 1);
  CHECK(sent.success().generation().nanos() == 500'000'000);
  CHECK(sent.success().outcomes(0).base().mean_logprob() == -2);
  CHECK(sent.success().outcomes(0).verdict().unscorable().reason() ==
        v1::UNSCORABLE_REASON_INVALID_RESPONSE);
  CHECK_FALSE(sent.success().outcomes(0).has_monitor());
  REQUIRE(mesh.peers->ReturnWork("m", unit, "no room", false, {}).ok());
  CHECK(mesh.orchestrator.completed.failure().detail() == "no room");
  CHECK_FALSE(mesh.orchestrator.completed.failure().draining());
  REQUIRE(mesh.peers->ReturnWork("m", unit, "I go", true, {}).ok());
  CHECK(mesh.orchestrator.completed.failure().draining());
}

TEST_CASE("MeshPeers hands out weights only when all of them are right",
          "[rollout_actor]") {
  Mesh mesh;
  mesh.learner.parts = PartsOf(4);
  const auto fetched = mesh.peers->GetWeights(4, kMaxBytes, {});
  INFO(fetched.status());
  REQUIRE(fetched.ok());
  CHECK(fetched->manifest.version == 4);
  CHECK(fetched->tensors.size() == fetched->manifest.tensors.size());

  const auto error = [&] {
    return mesh.peers->GetWeights(4, kMaxBytes, {}).status();
  };
  SECTION("a flipped bit") {
    (*mesh.learner.parts[1].mutable_chunk()->mutable_data())[0] ^= 1;
    CHECK(absl::IsDataLoss(error()));
  }
  SECTION("a flipped bit under a right checksum") {
    auto& chunk = *mesh.learner.parts[1].mutable_chunk();
    (*chunk.mutable_data())[0] ^= 1;
    chunk.set_crc32c(Crc32c(chunk.data()));
    CHECK(absl::IsDataLoss(error()));
  }
  SECTION("a chunk missing") {
    mesh.learner.parts.erase(mesh.learner.parts.begin() + 2);
    CHECK(absl::IsDataLoss(error()));
  }
  SECTION("no manifest") {
    mesh.learner.parts.erase(mesh.learner.parts.begin());
    CHECK(absl::IsDataLoss(error()));
  }
  SECTION("no commit") {
    mesh.learner.parts.pop_back();
    CHECK(absl::IsUnavailable(error()));
  }
  SECTION("more bytes than allowed") {
    CHECK(absl::IsDataLoss(mesh.peers->GetWeights(4, 16, {}).status()));
  }
  SECTION("a learner that breaks off") {
    mesh.learner.parts.resize(2);
    mesh.learner.answer = {grpc::StatusCode::ABORTED, "replaced"};
    CHECK(absl::IsAborted(error()));
  }
}

void CheckTensors(const FetchedWeights& fetched) {
  const auto expected = ActorFixture::Weights(0).tensors;
  REQUIRE(fetched.tensors.size() == expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    CHECK(at::equal(fetched.tensors[i].tensor, expected[i].tensor));
  }
}

TEST_CASE("MeshPeers maps the weights of a learner on its host",
          "[rollout_actor]") {
  Mesh mesh;
  auto published = Published(4);
  mesh.learner.mapped = MappedPartsOf(*published);
  const auto fetched = mesh.peers->GetWeights(4, kMaxBytes, {});
  INFO(fetched.status());
  REQUIRE(fetched.ok());
  CHECK(fetched->mapped);
  CHECK(fetched->manifest == published->manifest());
  CHECK(mesh.learner.asked.size() == 1);
  // The learner has gone on meanwhile, or died.
  published.reset();
  CheckTensors(*fetched);
  // An actor that starts again finds the next version where that lies.
  published = Published(5);
  mesh.learner.mapped = MappedPartsOf(*published);
  Mesh again;
  again.learner.mapped = mesh.learner.mapped;
  const auto newer = again.peers->GetWeights(0, kMaxBytes, {});
  REQUIRE(newer.ok());
  CHECK(newer->manifest.version == 5);
  CheckTensors(*newer);
}

TEST_CASE("MeshPeers takes chunks where it cannot use the memory file",
          "[rollout_actor]") {
  Mesh mesh;
  auto published = Published(4);
  mesh.learner.parts = PartsOf(*published);
  mesh.learner.mapped = MappedPartsOf(*published);
  v1::WeightsManifest& manifest = *mesh.learner.mapped[0].mutable_manifest();
  auto& file = *manifest.mutable_memory_file();
  SECTION("another host") { file.mutable_guard()->set_boot_id("other"); }
  SECTION("another process namespace") {
    file.mutable_guard()->set_pid_namespace(1);
  }
  SECTION("replaced before it was opened") { published.reset(); }
  SECTION("no permission, or no file") { file.set_path("/proc/1/fd/99999"); }
  SECTION("a descriptor of something else") { file.set_inode(1); }
  SECTION("another size") { file.set_bytes(file.bytes() + 64); }
  SECTION("a size that is not the manifest's") {
    manifest.mutable_tensors()->RemoveLast();
    manifest.set_total_bytes(manifest.total_bytes() -
                             published->manifest().tensors.back().bytes);
  }
  const int64_t told = logging::LineCount("info");
  for (int i = 0; i < 2; ++i) {
    const auto fetched = mesh.peers->GetWeights(4, kMaxBytes, {});
    INFO(fetched.status());
    REQUIRE(fetched.ok());
    CHECK_FALSE(fetched->mapped);
    CheckTensors(*fetched);
  }
  CHECK(mesh.learner.asked.size() == 4);
  CHECK_FALSE(mesh.learner.asked[1].has_reader());
  CHECK(logging::LineCount("info") == told + 1);
}

TEST_CASE("MeshPeers refuses a memory file with another digest",
          "[rollout_actor]") {
  Mesh mesh;
  const auto published = Published(4);
  mesh.learner.parts = PartsOf(*published);
  mesh.learner.mapped = MappedPartsOf(*published);
  v1::WeightsManifest& manifest = *mesh.learner.mapped[0].mutable_manifest();
  SECTION("of a tensor") {
    manifest.mutable_tensors(1)->set_sha256(std::string(64, 'a'));
  }
  SECTION("that is none") { manifest.mutable_tensors(1)->set_sha256("a"); }
  const auto fetched = mesh.peers->GetWeights(4, kMaxBytes, {});
  CHECK(absl::IsDataLoss(fetched.status()));
  CHECK(mesh.learner.asked.size() == 1);
  CHECK(absl::IsDataLoss(mesh.peers->GetWeights(4, 16, {}).status()));
}

TEST_CASE("MeshPeers asks for chunks where shared memory is off",
          "[rollout_actor]") {
  const bool shared_memory = GENERATE(true, false);
  Mesh mesh(shared_memory);
  mesh.learner.parts = PartsOf(4);
  const int64_t told = logging::LineCount("info");
  REQUIRE(mesh.peers->GetWeights(4, kMaxBytes, {}).ok());
  REQUIRE(mesh.learner.asked.size() == 1);
  CHECK(mesh.learner.asked[0].has_reader() == shared_memory);
  // That the learner offers nothing is told; that it was not asked is not.
  CHECK(logging::LineCount("info") == told + (shared_memory ? 1 : 0));
}

TEST_CASE("MeshPeers submits rollouts and counts what was taken",
          "[rollout_actor]") {
  Mesh mesh;
  JudgedRollout one;
  one.rollout.sample_key = "k";
  one.rollout.response_tokens = {1, 2};
  one.rollout.logprobs = {-1, -2};
  one.rollout.spans = {{0, 2, 3}};
  one.verdict.scored = true;
  one.verdict.reward = 0.25;
  JudgedRollout other = one;
  other.trunk = std::make_shared<Trunk>(Trunk{1, {2.5F}});
  REQUIRE(mesh.peers->SubmitRollouts({one, other}, {}).ok());
  REQUIRE(mesh.learner.rollouts.size() == 2);
  CHECK(mesh.learner.rollouts[0].rollout().spans(0).policy_version() == 3);
  CHECK(mesh.learner.rollouts[0].verdict().scored().reward() == 0.25);
  CHECK_FALSE(mesh.learner.rollouts[0].has_trunk());
  CHECK(mesh.learner.rollouts[1].trunk().layer() == 1);
  CHECK(mesh.learner.rollouts[1].trunk().inputs().size() == sizeof(float));
  mesh.learner.missing = 1;
  CHECK(absl::IsInternal(mesh.peers->SubmitRollouts({one}, {})));
  mesh.learner.answer = {grpc::StatusCode::RESOURCE_EXHAUSTED, "spool full"};
  CHECK(absl::IsResourceExhausted(mesh.peers->SubmitRollouts({one}, {})));
}

TEST_CASE("MeshPeers takes exactly one verdict an item", "[rollout_actor]") {
  Mesh mesh;
  const WorkUnit unit = ActorFixture::Unit("u", 0, 2);
  std::vector<ScoreItem> items;
  for (const Sample& sample : unit.samples) {
    items.push_back({sample.key, sample.prompt, "text", -2.5});
    v1::ScoreResponse response;
    response.set_sample_key(sample.key);
    response.mutable_verdict()->mutable_scored()->set_reward(0.5);
    response.mutable_monitor()->mutable_unscorable()->set_reason(
        v1::UNSCORABLE_REASON_JUDGE_TIMEOUT);
    mesh.reward.responses.push_back(response);
  }
  const auto verdicts = mesh.peers->Score(unit, items, {});
  INFO(verdicts.status());
  REQUIRE(verdicts.ok());
  CHECK(verdicts->at("u#0").verdict.reward == 0.5);
  CHECK(verdicts->at("u#1").monitor->reason == UnscorableReason::kJudgeTimeout);
  CHECK(mesh.reward.request.items(0).base_mean_logprob() == -2.5);
  CHECK(mesh.reward.request.rubric_sha256() == unit.rubric_sha256);

  auto& responses = mesh.reward.responses;
  SECTION("one missing") { responses.pop_back(); }
  SECTION("one twice") { responses.push_back(responses[0]); }
  SECTION("one that was not asked for") {
    responses.push_back(responses[0]);
    responses[2].set_sample_key("other");
  }
  SECTION("neither scored nor unscorable") {
    responses[0].mutable_verdict()->clear_outcome();
  }
  SECTION("unscorable without a reason") {
    responses[0].mutable_verdict()->mutable_unscorable();
  }
  SECTION("no monitor verdict") { responses[0].clear_monitor(); }
  CHECK(absl::IsInternal(mesh.peers->Score(unit, items, {}).status()));
}

TEST_CASE("MeshPeers ends as cancelled when stopped", "[rollout_actor]") {
  MeshPeersOptions options;
  options.orchestrator = options.policy_learner = options.reward_server =
      "127.0.0.1:1";
  MeshPeers peers(options);
  std::stop_source stop;
  stop.request_stop();
  CHECK(absl::IsCancelled(peers.Register(stop.get_token()).status()));
  CHECK(absl::IsCancelled(
      peers.GetWeights(0, kMaxBytes, stop.get_token()).status()));
}

}  // namespace
}  // namespace mpo::rollout_actor
