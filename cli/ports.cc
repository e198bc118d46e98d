// SPDX-License-Identifier: Apache-2.0
#include "cli/ports.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"

namespace mpo::cli {
namespace {

// A TCP socket that closes itself.
class Socket {
 public:
  Socket() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {}
  ~Socket() {
    if (fd_ >= 0) close(fd_);
  }
  Socket(Socket&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  Socket& operator=(Socket&&) = delete;

  // Port bound to, or an errno as a negative number.
  int Bind(const sockaddr_in& address) {
    const int yes = 1;
    setsockopt(fd_, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd_, reinterpret_cast<const sockaddr*>(&address),
             sizeof address) != 0 ||
        listen(fd_, 1) != 0) {
      return -errno;
    }
    sockaddr_in bound{};
    socklen_t size = sizeof bound;
    if (getsockname(fd_, reinterpret_cast<sockaddr*>(&bound), &size) != 0) {
      return -errno;
    }
    return ntohs(bound.sin_port);
  }

 private:
  int fd_;
};

absl::StatusOr<sockaddr_in> Parse(const std::string& address) {
  const size_t colon = address.rfind(':');
  sockaddr_in parsed{};
  parsed.sin_family = AF_INET;
  int port = 0;
  std::string host = address.substr(0, colon);
  if (host == "localhost") host = "127.0.0.1";
  if (colon == std::string::npos ||
      !absl::SimpleAtoi(address.substr(colon + 1), &port) || port < 0 ||
      port > 65535 || inet_pton(AF_INET, host.c_str(), &parsed.sin_addr) != 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "expected an address like 127.0.0.1:7070, got \"", address, "\""));
  }
  parsed.sin_port = htons(static_cast<uint16_t>(port));
  return parsed;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> FreeLoopbackAddresses(int count) {
  MPO_ASSIGN_OR_RETURN(const sockaddr_in any, Parse("127.0.0.1:0"));
  // All are held until the last is known, so that they differ.
  std::vector<Socket> sockets;
  std::vector<std::string> addresses;
  for (int i = 0; i < count; ++i) {
    const int port = sockets.emplace_back().Bind(any);
    if (port < 0) {
      return absl::UnavailableError(
          absl::StrCat("no free loopback port: ", std::strerror(-port)));
    }
    addresses.push_back(absl::StrCat("127.0.0.1:", port));
  }
  return addresses;
}

absl::Status CheckPortFree(const std::string& address,
                           const std::string& advice) {
  MPO_ASSIGN_OR_RETURN(const sockaddr_in parsed, Parse(address));
  Socket socket;
  const int port = socket.Bind(parsed);
  if (port >= 0) return absl::OkStatus();
  return absl::AlreadyExistsError(
      absl::StrCat("cannot listen at ", address, ": ", std::strerror(-port),
                   "; stop what uses it, or ", advice, " to get a free port"));
}

}  // namespace mpo::cli
