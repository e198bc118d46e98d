// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/learner_service.h"

#include <grpcpp/grpcpp.h>
#include <torch/torch.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <thread>

#include "mpo/rpc/channel.h"
#include "mpo/rpc/server_host.h"
#include "mpo/weights/assembler.h"
#include "services/policy_learner/toy_mesh.h"
#include "tests/support/temporary_directory.h"

namespace mpo::policy_learner {
namespace {

using Catch::Contains;
namespace fs = std::filesystem;

// A learner behind a real server on a free port.
class Fixture {
 public:
  explicit Fixture(int64_t steps = 2)
      : learner(directory.path, steps, ToyTask::Options()) {
    REQUIRE(learner.restored.ok());
    service = std::make_unique<LearnerService>(
        *learner.engine, *learner.spool, learner.publisher, learner.metrics);
    auto started = rpc::ServerHost::Start(
        {.drain_timeout = absl::Milliseconds(200)}, {service.get()});
    REQUIRE(started.ok());
    host = *std::move(started);
    stub = v1::PolicyLearnerService::NewStub(
        rpc::MakeChannel("127.0.0.1:" + std::to_string(host->port())));
  }
  ~Fixture() {
    learner.publisher.Close();
    host->Stop();
    learner.engine->Stop();
  }

  grpc::Status Submit(const std::vector<v1::SubmitRolloutsRequest>& requests,
                      v1::SubmitRolloutsResponse* response) {
    grpc::ClientContext context;
    const auto writer = stub->SubmitRollouts(&context, response);
    for (const auto& request : requests) {
      if (!writer->Write(request)) break;
    }
    writer->WritesDone();
    return writer->Finish();
  }

  // What an actor does; `tensors` only on success.
  grpc::Status Fetch(PolicyVersion min_version, absl::Duration timeout,
                     absl::StatusOr<std::vector<tensor::NamedTensor>>* tensors,
                     weights::Manifest* manifest) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
    v1::GetWeightsRequest request;
    request.set_min_version(min_version);
    const auto reader = stub->GetWeights(&context, request);
    v1::GetWeightsResponse part;
    std::optional<weights::Assembler> assembler;
    while (reader->Read(&part)) {
      if (part.has_manifest()) {
        const v1::WeightsManifest& m = part.manifest();
        *manifest = {
            m.version(), m.kind(), m.adapter_config(), {}, m.total_bytes()};
        for (const auto& t : m.tensors()) {
          manifest->tensors.push_back({t.name(),
                                       t.dtype(),
                                       {t.shape().begin(), t.shape().end()},
                                       t.bytes(),
                                       t.sha256()});
        }
        assembler = *weights::Assembler::Create(*manifest);
      } else if (part.has_chunk()) {
        const auto& c = part.chunk();
        REQUIRE(assembler->Add({c.tensor(), c.offset(), c.data(), c.crc32c()})
                    .ok());
      } else {
        *tensors =
            assembler->Commit(part.commit().version(), part.commit().chunks());
      }
    }
    return reader->Finish();
  }

  TemporaryDirectory directory;
  ToyLearner learner;
  std::unique_ptr<LearnerService> service;
  std::unique_ptr<rpc::ServerHost> host;
  std::unique_ptr<v1::PolicyLearnerService::Stub> stub;
};

std::vector<v1::SubmitRolloutsRequest> Requests(int count) {
  const PolicyModel policy =
      *PolicyModel::Create(ToyTask::Model(), ToyTask::Options().lora, 0);
  std::vector<v1::SubmitRolloutsRequest> requests;
  for (const auto& sample : ToyTask::Sample(policy, 1, 1)) {
    if (static_cast<int>(requests.size()) < count) {
      requests.push_back(ToProto(sample));
    }
  }
  return requests;
}

TEST_CASE("Submitted rollouts are on disk when the call returns", "[learner]") {
  Fixture f;
  v1::SubmitRolloutsResponse response;
  REQUIRE(f.Submit(Requests(5), &response).ok());
  CHECK(response.accepted() == 5);
  REQUIRE(f.Submit(Requests(7), &response).ok());
  CHECK(response.accepted() == 2);
  CHECK(response.duplicates() == 5);
  CHECK(f.learner.spool->Read("key-1-6").ok());
  REQUIRE(f.Submit({}, &response).ok());
  v1::GetLearnerStatusResponse status;
  grpc::ClientContext context;
  REQUIRE(f.stub->GetStatus(&context, {}, &status).ok());
  CHECK(status.spooled_rollouts() == 7);
  CHECK(status.phase() == "idle");
  CHECK(status.weights_sha256().size() == 64);
}

TEST_CASE("A malformed rollout is named and nothing of its stream is kept",
          "[learner]") {
  Fixture f;
  auto requests = Requests(3);
  std::string field;
  SECTION("log-prob") {
    requests[2].mutable_rollout()->set_logprobs(0, 0.5F), field = "logprobs";
  }
  SECTION("version") {
    requests[2].mutable_rollout()->mutable_spans(0)->set_policy_version(1);
    field = "policy version 1";
  }
  SECTION("verdict") {
    requests[2].clear_verdict(), field = "expected scored or unscorable";
  }
  SECTION("finish reason") {
    requests[2].mutable_rollout()->clear_finish_reason();
    field = "finish_reason";
  }
  v1::SubmitRolloutsResponse response;
  const grpc::Status status = f.Submit(requests, &response);
  CHECK(status.error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  CHECK_THAT(status.error_message(), Contains("'key-1-2'") && Contains(field));
  CHECK(f.learner.spool->size() == 0);
}

TEST_CASE("Published weights arrive whole over the wire", "[learner]") {
  Fixture f;
  absl::StatusOr<std::vector<tensor::NamedTensor>> tensors;
  weights::Manifest manifest;
  REQUIRE(f.Fetch(0, absl::Seconds(10), &tensors, &manifest).ok());
  REQUIRE(tensors.ok());
  CHECK(manifest == f.learner.publisher.newest()->manifest());
  const auto expected =
      PolicyModel::Create(ToyTask::Model(), ToyTask::Options().lora, 0)
          ->Weights();
  REQUIRE(tensors->size() == expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    CHECK((*tensors)[i].name == expected[i].name);
    CHECK(at::equal((*tensors)[i].tensor, expected[i].tensor));
  }
}

// What a caller gets who runs as `reader` says.
std::vector<v1::GetWeightsResponse> Ask(Fixture& f,
                                        const weights::HostGuard& reader) {
  grpc::ClientContext context;
  v1::GetWeightsRequest request;
  request.mutable_reader()->set_boot_id(reader.boot_id);
  request.mutable_reader()->set_pid_namespace(reader.pid_namespace);
  const auto stream = f.stub->GetWeights(&context, request);
  std::vector<v1::GetWeightsResponse> parts;
  v1::GetWeightsResponse part;
  while (stream->Read(&part)) parts.push_back(part);
  CHECK(stream->Finish().ok());
  REQUIRE(parts.size() >= 2);
  return parts;
}

TEST_CASE("A reader on the learner's host is shown the memory file",
          "[learner]") {
  Fixture f;
  weights::HostGuard guard = *weights::OwnHostGuard();
  const auto newest = f.learner.publisher.newest();
  f.learner.publisher.Publish(*weights::PublishedWeights::Create(
      3, newest->manifest().kind, newest->manifest().adapter_config,
      PolicyModel::Create(ToyTask::Model(), ToyTask::Options().lora, 0)
          ->Weights(),
      {.files = weights::MemoryFiles::New()}));
  const auto parts = Ask(f, guard);
  REQUIRE(parts.size() == 2);
  const v1::WeightsManifest& manifest = parts[0].manifest();
  CHECK(manifest.memory_file().guard().boot_id() == guard.boot_id);
  CHECK(parts[1].commit().chunks() == 0);
  const auto map = weights::MemoryMaps().Open(
      {manifest.memory_file().path(), manifest.memory_file().bytes(),
       manifest.memory_file().inode(), manifest.memory_file().edition(),
       guard});
  INFO(map.status());
  CHECK(map.ok());
  // Others get chunks.
  ++guard.pid_namespace;
  const auto chunks = Ask(f, guard);
  CHECK_FALSE(chunks[0].manifest().has_memory_file());
  CHECK(chunks.back().commit().chunks() == static_cast<int>(chunks.size()) - 2);
}

TEST_CASE("A learner that shares nothing sends chunks to all", "[learner]") {
  Fixture f;
  const auto parts = Ask(f, *weights::OwnHostGuard());
  CHECK_FALSE(parts[0].manifest().has_memory_file());
  CHECK(parts[1].has_chunk());
}

TEST_CASE("GetWeights waits for the version that is asked for", "[learner]") {
  Fixture f;
  absl::StatusOr<std::vector<tensor::NamedTensor>> tensors;
  weights::Manifest manifest;
  CHECK(f.Fetch(2, absl::Milliseconds(50), &tensors, &manifest).error_code() ==
        grpc::StatusCode::DEADLINE_EXCEEDED);
  // More callers than gRPC has threads, all waiting while training runs.
  std::vector<grpc::Status> statuses(6);
  std::vector<int64_t> versions(6);
  {
    std::vector<std::jthread> actors;
    for (size_t i = 0; i < statuses.size(); ++i) {
      actors.emplace_back([&, i] {
        absl::StatusOr<std::vector<tensor::NamedTensor>> own;
        weights::Manifest m;
        statuses[i] = f.Fetch(2, absl::Seconds(60), &own, &m);
        versions[i] = m.version;
      });
    }
    f.learner.Start();
  }
  for (size_t i = 0; i < statuses.size(); ++i) {
    CHECK(statuses[i].ok());
    CHECK(versions[i] == 2);
  }
  CHECK(f.learner.Wait().ok());
}

TEST_CASE("A caller that waits for weights is released on shutdown",
          "[learner]") {
  Fixture f;
  grpc::Status status;
  std::jthread actor([&] {
    absl::StatusOr<std::vector<tensor::NamedTensor>> tensors;
    weights::Manifest manifest;
    status = f.Fetch(9, absl::Seconds(60), &tensors, &manifest);
  });
  f.learner.publisher.Close();
  f.host->Stop();
  actor.join();
  CHECK(status.error_code() != grpc::StatusCode::OK);
}

TEST_CASE("SaveCheckpoint answers with step and path", "[learner]") {
  Fixture f;
  f.learner.ledger->hold = true;
  grpc::ClientContext early, context;
  v1::SaveCheckpointResponse response;
  CHECK(f.stub->SaveCheckpoint(&early, {}, &response).error_code() ==
        grpc::StatusCode::FAILED_PRECONDITION);
  f.learner.Start();
  REQUIRE(f.stub->SaveCheckpoint(&context, {}, &response).ok());
  CHECK(response.step() == 0);
  CHECK_THAT(response.path(), Contains("step_0"));
}

}  // namespace
}  // namespace mpo::policy_learner
