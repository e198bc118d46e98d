// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <grpcpp/support/server_interceptor.h>
#include <prometheus/registry.h>

#include <memory>

namespace mpo::rpc {

// Counts every call of a server in `registry`, which must outlive the server:
// mpo_grpc_server_handled_total{method, code},
// mpo_grpc_server_handling_seconds{method}, mpo_grpc_server_in_flight{method}.
std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>
MakeServerMetrics(prometheus::Registry& registry);

}  // namespace mpo::rpc
