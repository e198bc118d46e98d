// SPDX-License-Identifier: Apache-2.0
#include "mpo/collective/gloo/gloo_group.h"

#include <netdb.h>
#include <sys/socket.h>
#include <torch/torch.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"
#include "mpo/collective/gloo/gloo_library.h"

namespace mpo::collective {
namespace {

constexpr char kPrefix[] = "gloo/";

// What the library's store functions work on.
struct Keys {
  Membership& membership;
  absl::Duration timeout;
  absl::Status failure;
};

int PutKey(void* user, const char* key, const char* data, size_t size) {
  auto& keys = *static_cast<Keys*>(user);
  const absl::Status status =
      keys.membership.Put(absl::StrCat(kPrefix, key), std::string(data, size));
  if (!status.ok()) keys.failure = status;
  return status.ok() ? 0 : 1;
}

int GetKey(void* user, const char* key,
           void (*take)(void* taker, const char* data, size_t size),
           void* taker) {
  auto& keys = *static_cast<Keys*>(user);
  const auto value =
      keys.membership.Get(absl::StrCat(kPrefix, key), keys.timeout);
  if (!value.ok()) {
    keys.failure = value.status();
    return 1;
  }
  take(taker, value->data(), value->size());
  return 0;
}

// Room for what the library says of an error.
class Text {
 public:
  mpo_gloo_error error() { return {buffer_.data(), buffer_.size()}; }
  absl::Status Status(int result) const {
    switch (result) {
      case MPO_GLOO_OK:
        return absl::OkStatus();
      case MPO_GLOO_BROKEN:
        return absl::UnavailableError(buffer_.data());
      default:
        return absl::InternalError(buffer_.data());
    }
  }

 private:
  std::array<char, 512> buffer_ = {};
};

mpo_gloo_type TypeOf(const at::Tensor& tensor) {
  if (tensor.scalar_type() == at::kFloat) return MPO_GLOO_FLOAT;
  return tensor.scalar_type() == at::kDouble ? MPO_GLOO_DOUBLE : MPO_GLOO_INT64;
}

}  // namespace

absl::StatusOr<std::unique_ptr<GlooGroup>> GlooGroup::Connect(
    std::shared_ptr<Membership> membership, const Options& options) {
  MPO_ASSIGN_OR_RETURN(const GlooLibrary* library, GlooLibrary::Load());
  Keys keys = {*membership, options.connect, {}};
  const mpo_gloo_store store = {&keys, PutKey, GetKey};
  mpo_gloo_context* context = nullptr;
  Text text;
  const int result = library->connect(
      membership->rank(), membership->ranks(), options.host.c_str(),
      absl::ToInt64Milliseconds(options.connect), &store, &context,
      text.error());
  if (result != MPO_GLOO_OK) {
    absl::Status status =
        keys.failure.ok() ? text.Status(result) : keys.failure;
    if (absl::IsUnavailable(status)) {
      const absl::Status why = membership->AwaitEnd(absl::Seconds(1));
      if (!why.ok()) status = why;
    }
    return absl::Status(
        status.code(),
        absl::StrCat("rank ", membership->rank(), " at ", options.host,
                     " could not connect with the other ranks: ",
                     std::string(status.message())));
  }
  return std::unique_ptr<GlooGroup>(
      new GlooGroup(std::move(membership), options, *library, context));
}

GlooGroup::GlooGroup(std::shared_ptr<Membership> membership,
                     const Options& options, const GlooLibrary& library,
                     mpo_gloo_context* context)
    : ProcessGroup(std::move(membership), options.operations),
      library_(library),
      context_(context) {}

GlooGroup::~GlooGroup() { library_.close(context_); }

absl::Status GlooGroup::Transfer(const Collective& collective) {
  const at::Tensor& tensor = collective.tensor;
  const int64_t timeout = absl::ToInt64Milliseconds(collective.timeout);
  Text text;
  int result = MPO_GLOO_INVALID;
  switch (collective.kind) {
    case Kind::kAllReduceSum:
      result = library_.all_reduce_sum(context_, tensor.data_ptr(),
                                       static_cast<size_t>(tensor.numel()),
                                       TypeOf(tensor), timeout, text.error());
      break;
    case Kind::kBroadcast:
      result = library_.broadcast(context_, tensor.data_ptr(), tensor.nbytes(),
                                  collective.root, timeout, text.error());
      break;
    case Kind::kAllGather:
      result =
          library_.all_gather(context_, tensor.data_ptr(), tensor.nbytes(),
                              collective.all.data_ptr(), timeout, text.error());
      break;
  }
  return text.Status(result);
}

absl::StatusOr<std::string> LocalAddressTowards(const std::string& address) {
  const size_t colon = address.rfind(':');
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[') {
    host = host.substr(1, host.size() - 2);
  }
  const std::string port =
      colon == std::string::npos ? "1" : address.substr(colon + 1);
  addrinfo hints = {};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(host.c_str(), port.c_str(), &hints, &found);
      error != 0) {
    return absl::UnavailableError(
        absl::StrCat(address, ": ", gai_strerror(error)));
  }
  // Connecting a datagram socket sends nothing and picks the address.
  std::array<char, NI_MAXHOST> name = {};
  const int fd = socket(found->ai_family, found->ai_socktype, 0);
  sockaddr_storage own = {};
  socklen_t size = sizeof own;
  const bool known =
      fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) == 0 &&
      getsockname(fd, reinterpret_cast<sockaddr*>(&own), &size) == 0 &&
      getnameinfo(reinterpret_cast<sockaddr*>(&own), size, name.data(),
                  name.size(), nullptr, 0, NI_NUMERICHOST) == 0;
  const int error = errno;
  if (fd >= 0) close(fd);
  freeaddrinfo(found);
  if (known) return std::string(name.data());
  return absl::UnavailableError(
      absl::StrCat(address, ": ", std::strerror(error)));
}

}  // namespace mpo::collective
