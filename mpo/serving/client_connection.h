// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace mpo::serving {

// The connection of a request in hand, found among the process's sockets by the
// address of its other end: the HTTP library tells that, not the socket. Valid
// while the request's handler runs. Thread-compatible.
class ClientConnection {
 public:
  // As getnameinfo writes them. A connection that is not found never hangs up.
  ClientConnection(const std::string& remote_address, int remote_port);

  // Whether the client has closed its end, or its sending half, whatever it
  // sent before; without waiting.
  bool HungUp() const;

 private:
  int socket_ = -1;
};

}  // namespace mpo::serving
