// SPDX-License-Identifier: Apache-2.0
#include "mpo/serving/client_connection.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <system_error>

#include "absl/strings/numbers.h"

namespace mpo::serving {
namespace {

bool LeadsTo(int socket, const in_addr& address, int port) {
  sockaddr_in peer = {};
  socklen_t size = sizeof(peer);
  return getpeername(socket, reinterpret_cast<sockaddr*>(&peer), &size) == 0 &&
         peer.sin_family == AF_INET && peer.sin_addr.s_addr == address.s_addr &&
         ntohs(peer.sin_port) == port;
}

}  // namespace

ClientConnection::ClientConnection(const std::string& remote_address,
                                   int remote_port) {
  in_addr address = {};
  if (inet_pton(AF_INET, remote_address.c_str(), &address) != 1) return;
  std::error_code error;
  for (std::filesystem::directory_iterator it("/proc/self/fd", error), end;
       !error && it != end; it.increment(error)) {
    int socket = -1;
    if (absl::SimpleAtoi(it->path().filename().string(), &socket) &&
        LeadsTo(socket, address, remote_port)) {
      socket_ = socket;
      return;
    }
  }
}

bool ClientConnection::HungUp() const {
  if (socket_ < 0) return false;
  char byte = 0;
  const ssize_t got = recv(socket_, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return got == 0 ||
         (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

}  // namespace mpo::serving
