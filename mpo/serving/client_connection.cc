// SPDX-License-Identifier: Apache-2.0
#include "mpo/serving/client_connection.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

#include <filesystem>
#include <string>
#include <system_error>

#include "absl/strings/numbers.h"

namespace mpo::serving {
namespace {

// In the words of the HTTP library, which asks the same way.
bool LeadsTo(int socket, const std::string& address, int port) {
  sockaddr_storage peer = {};
  socklen_t size = sizeof(peer);
  auto* const raw = reinterpret_cast<sockaddr*>(&peer);
  char host[NI_MAXHOST], service[NI_MAXSERV];
  int found = 0;
  return getpeername(socket, raw, &size) == 0 &&
         getnameinfo(raw, size, host, sizeof(host), service, sizeof(service),
                     NI_NUMERICHOST | NI_NUMERICSERV) == 0 &&
         absl::SimpleAtoi(service, &found) && found == port && address == host;
}

}  // namespace

ClientConnection::ClientConnection(const std::string& remote_address,
                                   int remote_port) {
  std::error_code error;
  for (std::filesystem::directory_iterator it("/proc/self/fd", error), end;
       !error && it != end; it.increment(error)) {
    int socket = -1;
    if (absl::SimpleAtoi(it->path().filename().string(), &socket) &&
        LeadsTo(socket, remote_address, remote_port)) {
      socket_ = socket;
      return;
    }
  }
}

bool ClientConnection::HungUp() const {
  if (socket_ < 0) return false;
  pollfd asked{.fd = socket_, .events = POLLRDHUP, .revents = 0};
  return poll(&asked, 1, /*timeout=*/0) > 0 &&
         (asked.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

}  // namespace mpo::serving
