// SPDX-License-Identifier: Apache-2.0
#include "mpo/collective/rendezvous_server.h"

#include "mpo/base/status_macros.h"
#include "mpo/collective/rendezvous_service.h"
#include "mpo/rpc/server_host.h"

namespace mpo::collective {

RendezvousServer::RendezvousServer(const Options& options, Clock& clock)
    : options_(options),
      rendezvous_(options.group, clock),
      service_(std::make_unique<RendezvousService>(rendezvous_)) {}

absl::StatusOr<std::unique_ptr<RendezvousServer>> RendezvousServer::Start(
    const Options& options, Clock& clock) {
  std::unique_ptr<RendezvousServer> server(
      new RendezvousServer(options, clock));
  MPO_ASSIGN_OR_RETURN(
      server->host_, rpc::ServerHost::Start({.address = options.listen,
                                             .drain_timeout = absl::Seconds(1)},
                                            {server->service_.get()}));
  server->checker_ = std::jthread([self = server.get()](std::stop_token stop) {
    self->KeepChecking(stop);
  });
  return server;
}

RendezvousServer::~RendezvousServer() {
  rendezvous_.End(absl::CancelledError("the group has ended"));
  if (host_ != nullptr) host_->Stop();
}

int RendezvousServer::port() const { return host_->port(); }

void RendezvousServer::KeepChecking(std::stop_token stop) {
  while (!stop.stop_requested()) {
    rendezvous_.Check();
    MutexLock lock(mu_);
    never_.WaitFor(mu_, stop, options_.check, [] { return false; });
  }
}

}  // namespace mpo::collective
