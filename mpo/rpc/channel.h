// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <stop_token>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace mpo::rpc {

// A channel with the mesh's keepalive, message limit, a reconnect backoff of at
// most 1 s, and host names looked up anew at most every second.
std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address);

// Every outgoing call has a deadline and can be stopped.
struct CallOptions {
  absl::Duration timeout = absl::Seconds(10);
  std::stop_token stop = {};
};

// One call: sets deadline, wait_for_ready and cancellation on a fresh context
// and runs `call`. CANCELLED when stopped.
absl::Status Call(
    const CallOptions& options,
    const std::function<grpc::Status(grpc::ClientContext&)>& call);

// The same, tried again on UNAVAILABLE with jittered pauses until the timeout.
// Only for calls that are idempotent.
absl::Status CallWithRetry(
    const CallOptions& options,
    const std::function<grpc::Status(grpc::ClientContext&)>& call);

// Waits up to `timeout` for health SERVING at `address`.
absl::Status WaitUntilHealthy(const std::string& address,
                              const CallOptions& options);

}  // namespace mpo::rpc
