// SPDX-License-Identifier: Apache-2.0
#include "mpo/rpc/health.h"

#include <memory>

#include "grpc/health/v1/health.grpc.pb.h"

namespace mpo::rpc {

grpc::Status CheckHealth(grpc::Channel& channel, grpc::ClientContext& context) {
  using grpc::health::v1::HealthCheckResponse;
  // The stub wants shared ownership; the caller keeps the channel alive.
  const auto stub = grpc::health::v1::Health::NewStub(
      std::shared_ptr<grpc::ChannelInterface>(&channel, [](auto*) {}));
  HealthCheckResponse response;
  grpc::Status status = stub->Check(&context, {}, &response);
  if (status.ok() && response.status() != HealthCheckResponse::SERVING) {
    return {grpc::StatusCode::UNAVAILABLE, "server is not serving"};
  }
  return status;
}

}  // namespace mpo::rpc
