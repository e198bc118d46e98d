// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "mpo/base/clock.h"
#include "mpo/base/mutex.h"
#include "mpo/collective/rendezvous.h"

namespace mpo::rpc {
class ServerHost;
}

namespace mpo::collective {

class RendezvousService;

// Serves one group's rendezvous over gRPC (LearnerGroupService) and looks for
// lost ranks several times a second. Ends the group when destroyed.
// Thread-safe.
class RendezvousServer {
 public:
  struct Options {
    std::string listen = "127.0.0.1:0";  // host:port; port 0 = a free one.
    Rendezvous::Options group;
    absl::Duration check = absl::Milliseconds(200);
  };

  // UNAVAILABLE when the address is taken.
  static absl::StatusOr<std::unique_ptr<RendezvousServer>> Start(
      const Options& options, Clock& clock);
  ~RendezvousServer();

  Rendezvous& rendezvous() { return rendezvous_; }
  int port() const;

 private:
  RendezvousServer(const Options& options, Clock& clock);
  void KeepChecking(std::stop_token stop) ABSL_LOCKS_EXCLUDED(mu_);

  const Options options_;
  Rendezvous rendezvous_;
  std::unique_ptr<RendezvousService> service_;
  std::unique_ptr<rpc::ServerHost> host_;
  Mutex mu_;
  CondVar never_;
  std::jthread checker_;
};

}  // namespace mpo::collective
