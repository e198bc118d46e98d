// SPDX-License-Identifier: Apache-2.0
#include <httplib.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <thread>

#include "mpo/judge/chat_client.h"

namespace mpo::judge {
namespace {

using Handler =
    std::function<void(int call, const httplib::Request&, httplib::Response&)>;

// An OpenAI-compatible server on a free port.
class Server {
 public:
  explicit Server(Handler handler) {
    server_.Post("/v1/chat/completions",
                 [this, handler](const httplib::Request& request,
                                 httplib::Response& response) {
                   handler(calls_++, request, response);
                 });
    port_ = server_.bind_to_any_port("127.0.0.1");
    thread_ = std::thread([this] { server_.listen_after_bind(); });
    // A stop before the server runs would be lost.
    while (!server_.is_running()) std::this_thread::yield();
  }
  ~Server() {
    server_.stop();
    thread_.join();
  }
  std::string url() const {
    return "http://127.0.0.1:" + std::to_string(port_);
  }
  int calls() const { return calls_; }

 private:
  std::atomic<int> calls_{0};
  httplib::Server server_;
  int port_ = 0;
  std::thread thread_;
};

std::string Completion(const std::string& content,
                       const std::string& finish = "stop") {
  return nlohmann::json{
      {"choices",
       {{{"message", {{"role", "assistant"}, {"content", content}}},
         {"finish_reason", finish}}}},
      {"usage", {{"prompt_tokens", 7}, {"completion_tokens", 2}}}}
      .dump();
}

void Answer(httplib::Response& response, const std::string& content) {
  response.set_content(Completion(content), "application/json");
}

struct Client {
  explicit Client(const std::string& url, int attempts = 3) {
    CurlChatModelOptions options;
    options.base_url = url;
    options.attempts = attempts;
    options.timeout = absl::Milliseconds(300);
    options.api_key = http::Secret("k3y");
    options.sleep = [this](absl::Duration pause, std::stop_token) {
      pauses.push_back(pause);
      return true;
    };
    options.on_attempt = [this](const ChatAttempt& attempt) {
      outcomes.push_back(attempt.outcome);
    };
    auto created = CurlChatModel::Create(options);
    REQUIRE(created.ok());
    model = *std::move(created);
  }
  absl::StatusOr<std::string> Ask(const ChatOptions& options = {}) {
    return model->Complete({{"user", "hi"}}, options);
  }
  std::unique_ptr<CurlChatModel> model;
  std::vector<absl::Duration> pauses;
  std::vector<std::string> outcomes;
};

}  // namespace

TEST_CASE("CurlChatModel sends the chat and returns the answer", "[judge]") {
  nlohmann::json seen;
  std::string key;
  Server server(
      [&](int, const httplib::Request& request, httplib::Response& response) {
        seen = nlohmann::json::parse(request.body);
        key = request.get_header_value("Authorization");
        Answer(response, "hello");
      });
  Client client(server.url());
  ChatOptions options;
  options.max_tokens = 5;
  options.response_schema = "{\"type\": \"object\"}";
  CHECK(*client.Ask(options) == "hello");
  CHECK(seen["max_tokens"] == 5);
  CHECK(seen["messages"][0]["content"] == "hi");
  CHECK(seen["response_format"]["json_schema"]["schema"]["type"] == "object");
  CHECK(key == "Bearer k3y");
  CHECK(client.model->status().requests == 1);
}

TEST_CASE("CurlChatModel tries again on errors and garbage", "[judge]") {
  Server server(
      [&](int call, const httplib::Request&, httplib::Response& response) {
        if (call == 0) {
          response.status = 500;
        } else if (call == 1) {
          response.set_content("garbage", "text/plain");
        } else {
          Answer(response, "hello");
        }
      });
  Client client(server.url() + "/v1/");
  CHECK(*client.Ask() == "hello");
  CHECK(client.outcomes ==
        std::vector<std::string>{"http_5xx", "parse_error", "ok"});
  CHECK(client.pauses.size() == 2);
  CHECK(client.model->status().failures == 2);
}

TEST_CASE("CurlChatModel gives up with the last failure's code", "[judge]") {
  const auto code = [](const Handler& handler) {
    Server server(handler);
    Client client(server.url(), 2);
    return client.Ask().status().code();
  };
  using R = httplib::Response;
  using Q = httplib::Request;
  CHECK(code([](int, const Q&, R& r) { r.status = 503; }) ==
        absl::StatusCode::kUnavailable);
  CHECK(code([](int, const Q&, R& r) { r.status = 429; }) ==
        absl::StatusCode::kResourceExhausted);
  CHECK(code([](int, const Q&, R& r) { r.status = 401; }) ==
        absl::StatusCode::kFailedPrecondition);
  CHECK(code([](int, const Q&, R& r) { Answer(r, ""); }) ==
        absl::StatusCode::kDataLoss);
  CHECK(code([](int, const Q&, R& r) {
          r.set_content(Completion("cut", "length"), "application/json");
        }) == absl::StatusCode::kDataLoss);
  CHECK(code([](int, const Q&, R& r) {
          r.set_content(std::string(2 << 20, 'x'), "text/plain");
        }) == absl::StatusCode::kDataLoss);
  std::string url;
  {
    url = Server([](int, const Q&, R&) {}).url();
  }
  CHECK(absl::IsUnavailable(Client(url, 1).Ask().status()));
}

TEST_CASE("CurlChatModel keeps bytes that are no text out of its messages",
          "[judge]") {
  Server server([](int, const httplib::Request&, httplib::Response& response) {
    response.status = 500;
    response.set_content("d\xe9sol\xe9\n\x01", "text/plain");
  });
  CHECK(Client(server.url(), 1).Ask().status().message() ==
        "HTTP 500: d?sol???");
}

TEST_CASE("CurlChatModel calls a slow answer a timeout", "[judge]") {
  std::stop_source over;
  Server server([&](int, const httplib::Request&, httplib::Response&) {
    Mutex mu;
    CondVar never;
    MutexLock lock(mu);
    never.WaitFor(mu, over.get_token(), absl::Seconds(10),
                  [] { return false; });
  });
  Client client(server.url(), 1);
  CHECK(absl::IsDeadlineExceeded(client.Ask().status()));
  over.request_stop();
}

TEST_CASE("CurlChatModel asks again for an answer that is not accepted",
          "[judge]") {
  Server server(
      [&](int call, const httplib::Request&, httplib::Response& response) {
        Answer(response, call == 0 ? "bad" : "good");
      });
  Client client(server.url());
  ChatOptions options;
  options.accept = [](const std::string& answer) {
    return answer == "good" ? absl::OkStatus() : absl::DataLossError("bad");
  };
  CHECK(*client.Ask(options) == "good");
  CHECK(server.calls() == 2);
}

TEST_CASE("CurlChatModel leaves out a schema the server rejects", "[judge]") {
  Server server(
      [&](int, const httplib::Request& request, httplib::Response& response) {
        if (request.body.find("response_format") != std::string::npos) {
          response.status = 400;
        } else {
          Answer(response, "hello");
        }
      });
  Client client(server.url());
  ChatOptions options;
  options.response_schema = "{}";
  CHECK(*client.Ask(options) == "hello");
  CHECK(*client.Ask(options) == "hello");
  CHECK(server.calls() == 3);
}

TEST_CASE("CurlChatModel waits as long as the server asks, within reason",
          "[judge]") {
  for (const char* wait : {"5", "500"}) {
    Server server(
        [&](int call, const httplib::Request&, httplib::Response& response) {
          if (call > 0) return Answer(response, "hello");
          response.status = 429;
          response.set_header("Retry-After", wait);
        });
    Client client(server.url());
    const bool patient = std::string(wait) == "5";
    CHECK(client.Ask().ok() == patient);
    CHECK(client.pauses.size() == (patient ? 1 : 0));
    if (patient) CHECK(client.pauses[0] >= absl::Seconds(5));
  }
}

TEST_CASE("CurlChatModel opens its circuit when the server is gone",
          "[judge]") {
  Server server([&](int, const httplib::Request&, httplib::Response& response) {
    response.status = 500;
  });
  Client client(server.url(), 1);
  for (int i = 0; i < 30; ++i) CHECK_FALSE(client.Ask().ok());
  CHECK(server.calls() == 20);
  CHECK(client.model->status().circuit == CircuitState::kOpen);
}

TEST_CASE("CurlChatModel ends early when stopped and checks its options",
          "[judge]") {
  Server server([&](int, const httplib::Request&, httplib::Response& response) {
    response.status = 500;
  });
  Client client(server.url());
  std::stop_source stop;
  stop.request_stop();
  ChatOptions options;
  options.stop = stop.get_token();
  CHECK(absl::IsCancelled(client.Ask(options).status()));
  for (const char* url : {"", "localhost:80", "ftp://x"}) {
    CurlChatModelOptions bad;
    bad.base_url = url;
    CHECK(absl::IsInvalidArgument(CurlChatModel::Create(bad).status()));
  }
  CurlChatModelOptions bad;
  bad.base_url = "http://x";
  bad.attempts = 0;
  CHECK(absl::IsInvalidArgument(CurlChatModel::Create(bad).status()));
}

}  // namespace mpo::judge
