// SPDX-License-Identifier: Apache-2.0
#include "mpo/http/exchange.h"

#include <curl/curl.h>

#include <algorithm>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace mpo::http {
namespace {

struct Sink {
  Reply* reply;
  size_t limit;
  bool too_large;
  const std::stop_token* stop;
};

size_t OnBody(char* data, size_t size, size_t count, void* user) {
  auto& sink = *static_cast<Sink*>(user);
  if (sink.reply->body.size() + size * count > sink.limit) {
    sink.too_large = true;
    return 0;
  }
  sink.reply->body.append(data, size * count);
  return size * count;
}

size_t OnHeader(char* data, size_t size, size_t count, void* user) {
  const std::string line(data, size * count);
  const size_t colon = line.find(':');
  double seconds = 0;
  if (colon != std::string::npos &&
      absl::EqualsIgnoreCase(line.substr(0, colon), "retry-after") &&
      absl::SimpleAtod(line.substr(colon + 1), &seconds) && seconds >= 0) {
    static_cast<Sink*>(user)->reply->retry_after = seconds;
  }
  return size * count;
}

int OnProgress(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<Sink*>(user)->stop->stop_requested() ? 1 : 0;
}

Reply::Transfer TransferOf(CURLcode code, bool too_large) {
  if (too_large) return Reply::Transfer::kTooLarge;
  if (code == CURLE_OPERATION_TIMEDOUT) return Reply::Transfer::kTimedOut;
  return code == CURLE_OK ? Reply::Transfer::kWhole : Reply::Transfer::kBroken;
}

}  // namespace

std::string Excerpt(const std::string& body) {
  std::string text = body.substr(0, 200);
  for (char& c : text) {
    if (c < 0x20 || c > 0x7e) c = '?';
  }
  return text;
}

absl::Status StatusOf(const Reply& reply) {
  switch (reply.transfer) {
    case Reply::Transfer::kTooLarge:
      return absl::DataLossError("the answer is larger than the limit");
    case Reply::Transfer::kTimedOut:
      return absl::DeadlineExceededError("no answer in time");
    case Reply::Transfer::kBroken:
      return absl::UnavailableError(reply.error);
    case Reply::Transfer::kWhole:
      break;
  }
  if (reply.status == 200) return absl::OkStatus();
  const std::string what =
      absl::StrCat("HTTP ", reply.status, ": ", Excerpt(reply.body));
  if (reply.status == 408) return absl::DeadlineExceededError(what);
  if (reply.status == 429) return absl::ResourceExhaustedError(what);
  if (reply.status >= 500) return absl::UnavailableError(what);
  return absl::FailedPreconditionError(what);
}

Reply Exchange(const Request& request, std::stop_token stop) {
  Reply reply;
  const std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> curl(
      curl_easy_init(), curl_easy_cleanup);
  if (curl == nullptr) {
    reply.error = "libcurl cannot be initialised";
    return reply;
  }
  curl_slist* list =
      curl_slist_append(nullptr, "Content-Type: application/json");
  if (!request.bearer.empty()) {
    list = curl_slist_append(
        list, ("Authorization: Bearer " + request.bearer).c_str());
  }
  const std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> headers(
      list, curl_slist_free_all);
  Sink sink{&reply, request.max_reply_bytes, false, &stop};
  CURL* handle = curl.get();
  curl_easy_setopt(handle, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers.get());
  if (request.body != nullptr) {
    curl_easy_setopt(handle, CURLOPT_POSTFIELDS, request.body->c_str());
    curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE,
                     static_cast<long>(request.body->size()));
  }
  curl_easy_setopt(
      handle, CURLOPT_TIMEOUT_MS,
      std::max<long>(1, absl::ToInt64Milliseconds(request.timeout)));
  curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(handle, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, OnBody);
  curl_easy_setopt(handle, CURLOPT_WRITEDATA, &sink);
  curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, OnHeader);
  curl_easy_setopt(handle, CURLOPT_HEADERDATA, &sink);
  curl_easy_setopt(handle, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(handle, CURLOPT_XFERINFOFUNCTION, OnProgress);
  curl_easy_setopt(handle, CURLOPT_XFERINFODATA, &sink);
  const CURLcode code = curl_easy_perform(handle);
  curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &reply.status);
  reply.transfer = TransferOf(code, sink.too_large);
  if (reply.transfer == Reply::Transfer::kBroken) {
    reply.error = curl_easy_strerror(code);
  }
  return reply;
}

}  // namespace mpo::http
