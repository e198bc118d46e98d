// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <grpcpp/grpcpp.h>

namespace mpo::rpc {

// Asks a server's health service once. OK when SERVING, UNAVAILABLE otherwise.
grpc::Status CheckHealth(grpc::Channel& channel, grpc::ClientContext& context);

}  // namespace mpo::rpc
