// SPDX-License-Identifier: Apache-2.0
#include <httplib.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <future>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "mpo/http/backoff.h"
#include "mpo/http/exchange.h"
#include "mpo/http/secret.h"
#include "tests/support/temporary_directory.h"

namespace mpo::http {
namespace {

using Transfer = Reply::Transfer;

// Answers on a free port; /silent does when the server goes.
class Server {
 public:
  Server() {
    server_.Post("/echo", [](const httplib::Request& request,
                             httplib::Response& response) {
      response.set_content(request.get_header_value("Authorization") + " " +
                               request.get_header_value("Content-Type") + " " +
                               request.body,
                           "text/plain");
    });
    server_.Get("/busy", [](const auto&, httplib::Response& response) {
      response.status = 503;
      response.set_header("Retry-After", "7");
      response.set_content("later", "text/plain");
    });
    server_.Get("/silent", [this](const auto&, httplib::Response&) {
      asked_.set_value();
      released_.get_future().wait();
    });
    port_ = server_.bind_to_any_port("127.0.0.1");
    thread_ = std::thread([this] { server_.listen_after_bind(); });
    // A stop before the server runs would be lost.
    while (!server_.is_running()) std::this_thread::yield();
  }
  ~Server() {
    released_.set_value();
    server_.stop();
    thread_.join();
  }
  std::string url(const std::string& path) const {
    return absl::StrCat("http://127.0.0.1:", port_, path);
  }
  void AwaitSilentCall() { asked_.get_future().wait(); }

 private:
  httplib::Server server_;
  std::promise<void> asked_, released_;
  int port_ = 0;
  std::thread thread_;
};

Reply Get(const std::string& url, absl::Duration timeout = absl::Seconds(20),
          std::stop_token stop = {}) {
  return Exchange({.url = url,
                   .bearer = "",
                   .body = nullptr,
                   .timeout = timeout,
                   .max_reply_bytes = 100},
                  stop);
}

}  // namespace

TEST_CASE("Exchange posts a body as JSON with its credential", "[http]") {
  const Server server;
  const std::string body = "{}";
  const Reply reply = Exchange({.url = server.url("/echo"),
                                .bearer = "k3y",
                                .body = &body,
                                .timeout = absl::Seconds(20),
                                .max_reply_bytes = 100},
                               {});
  CHECK(reply.transfer == Transfer::kWhole);
  CHECK(reply.status == 200);
  CHECK(reply.body == "Bearer k3y application/json {}");
}

TEST_CASE("Exchange gives a server's refusal as it came", "[http]") {
  const Server server;
  const Reply reply = Get(server.url("/busy"));
  CHECK(reply.transfer == Transfer::kWhole);
  CHECK(reply.status == 503);
  CHECK(reply.body == "later");
  CHECK(reply.retry_after == 7);
  CHECK(Get(server.url("/none")).status == 404);
}

TEST_CASE("Exchange ends when time runs out, when stopped and at the limit",
          "[http]") {
  Server server;
  SECTION("time") {
    CHECK(Get(server.url("/silent"), absl::Milliseconds(50)).transfer ==
          Transfer::kTimedOut);
  }
  SECTION("stopped") {
    std::stop_source stop;
    std::jthread stopper([&] {
      server.AwaitSilentCall();
      stop.request_stop();
    });
    CHECK(Get(server.url("/silent"), absl::Seconds(60), stop.get_token())
              .transfer == Transfer::kBroken);
  }
  SECTION("limit") {
    const std::string body(200, 'x');
    CHECK(Exchange({.url = server.url("/echo"),
                    .bearer = "",
                    .body = &body,
                    .timeout = absl::Seconds(20),
                    .max_reply_bytes = 100},
                   {})
              .transfer == Transfer::kTooLarge);
  }
}

TEST_CASE("StatusOf tells what is worth another try", "[http]") {
  const auto code = [](Transfer transfer, long status) {
    Reply reply;
    reply.transfer = transfer;
    reply.status = status;
    return StatusOf(reply).code();
  };
  CHECK(code(Transfer::kWhole, 200) == absl::StatusCode::kOk);
  CHECK(code(Transfer::kWhole, 204) == absl::StatusCode::kFailedPrecondition);
  CHECK(code(Transfer::kWhole, 400) == absl::StatusCode::kFailedPrecondition);
  CHECK(code(Transfer::kWhole, 408) == absl::StatusCode::kDeadlineExceeded);
  CHECK(code(Transfer::kWhole, 429) == absl::StatusCode::kResourceExhausted);
  CHECK(code(Transfer::kWhole, 500) == absl::StatusCode::kUnavailable);
  CHECK(code(Transfer::kTimedOut, 0) == absl::StatusCode::kDeadlineExceeded);
  CHECK(code(Transfer::kBroken, 0) == absl::StatusCode::kUnavailable);
  CHECK(code(Transfer::kTooLarge, 200) == absl::StatusCode::kDataLoss);
  CHECK(Excerpt("a\nb\xff") == "a?b?");
  CHECK(Excerpt(std::string(300, 'x')).size() == 200);
}

TEST_CASE("Exchange says why nothing came", "[http]") {
  const Reply reply = Get("http://127.0.0.1:1/");
  CHECK(reply.transfer == Transfer::kBroken);
  CHECK_FALSE(reply.error.empty());
}

TEST_CASE("Pauses are random shares of a bound that doubles", "[http]") {
  Backoff backoff(absl::Seconds(1), absl::Seconds(5), 1);
  for (int i = 0; i < 50; ++i) {
    CHECK(backoff.Pause(0) <= absl::Seconds(1));
    CHECK(backoff.Pause(1) <= absl::Seconds(2));
    CHECK(backoff.Pause(1000) <= absl::Seconds(5));
  }
  Backoff same(absl::Seconds(1), absl::Seconds(5), 2);
  Backoff again(absl::Seconds(1), absl::Seconds(5), 2);
  CHECK(same.Pause(3) == again.Pause(3));
  CHECK(same.Pause(3) > absl::ZeroDuration());
}

TEST_CASE("Wait ends early when stopped", "[http]") {
  std::stop_source stop;
  CHECK(Wait(absl::ZeroDuration(), stop.get_token()));
  stop.request_stop();
  CHECK_FALSE(Wait(absl::Hours(1), stop.get_token()));
}

TEST_CASE("ReadSecretFile takes one line and never tells it", "[http]") {
  const TemporaryDirectory directory;
  const std::filesystem::path& folder = directory.path;
  const auto read = [&](const std::string& content) {
    std::ofstream(folder / "key") << content;
    return ReadSecretFile(folder / "key");
  };
  CHECK(read(" k3y\n")->Reveal() == "k3y");
  CHECK(absl::IsInvalidArgument(read(" \n").status()));
  const auto two_lines = read("secret\nmore");
  CHECK(absl::IsInvalidArgument(two_lines.status()));
  CHECK(std::string(two_lines.status().message()).find("secret") ==
        std::string::npos);
  CHECK(absl::IsInvalidArgument(read(std::string(70000, 'x')).status()));
  CHECK(absl::IsNotFound(ReadSecretFile(folder / "none").status()));
}

}  // namespace mpo::http
