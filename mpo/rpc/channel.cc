// SPDX-License-Identifier: Apache-2.0
#include "mpo/rpc/channel.h"

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "mpo/base/mutex.h"
#include "mpo/rpc/grpc_status.h"
#include "mpo/rpc/health.h"
#include "mpo/rpc/limits.h"

namespace mpo::rpc {
namespace {

absl::Status CallUntil(
    absl::Time deadline, const std::stop_token& stop,
    const std::function<grpc::Status(grpc::ClientContext&)>& call) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(deadline));
  context.set_wait_for_ready(true);
  const std::stop_callback cancel(stop, [&context] { context.TryCancel(); });
  absl::Status status = FromGrpcStatus(call(context));
  if (!status.ok() && stop.stop_requested()) {
    return absl::CancelledError("stopped");
  }
  return status;
}

// Waits without sleeping through a stop request.
void Pause(absl::Duration pause, const std::stop_token& stop) {
  Mutex mu;
  CondVar never;
  MutexLock lock(mu);
  never.WaitFor(mu, stop, pause, [] { return false; });
}

}  // namespace

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 200);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  // A container that is started again may have another address: gRPC's
  // default asks the name server at most every 30 s.
  arguments.SetInt(GRPC_ARG_DNS_MIN_TIME_BETWEEN_RESOLUTIONS_MS, 1000);
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(),
                                   arguments);
}

absl::Status Call(
    const CallOptions& options,
    const std::function<grpc::Status(grpc::ClientContext&)>& call) {
  return CallUntil(absl::Now() + options.timeout, options.stop, call);
}

absl::Status CallWithRetry(
    const CallOptions& options,
    const std::function<grpc::Status(grpc::ClientContext&)>& call) {
  const absl::Time deadline = absl::Now() + options.timeout;
  absl::Duration backoff = absl::Milliseconds(100);
  thread_local std::minstd_rand jitter(std::random_device{}());
  while (true) {
    absl::Status status = CallUntil(deadline, options.stop, call);
    if (!absl::IsUnavailable(status)) return status;
    const absl::Duration pause =
        backoff * std::uniform_real_distribution<double>(0.5, 1.0)(jitter);
    if (absl::Now() + pause >= deadline) return status;
    Pause(pause, options.stop);
    if (options.stop.stop_requested()) return absl::CancelledError("stopped");
    backoff = std::min(backoff * 2, absl::Seconds(2));
  }
}

absl::Status WaitUntilHealthy(const std::string& address,
                              const CallOptions& options) {
  const auto channel = MakeChannel(address);
  return CallWithRetry(options, [&](grpc::ClientContext& context) {
    return CheckHealth(*channel, context);
  });
}

}  // namespace mpo::rpc
