// SPDX-License-Identifier: Apache-2.0
#include "mpo/serving/completion_answer.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "mpo/serving/serving_fixture.h"

namespace mpo::serving {
namespace {

// Both ends of a connection over loopback.
class Connected {
 public:
  Connected() {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* const raw = reinterpret_cast<sockaddr*>(&address);
    const int listening = ::socket(AF_INET, SOCK_STREAM, 0);
    REQUIRE(::bind(listening, raw, size) == 0);
    REQUIRE(::listen(listening, 1) == 0);
    REQUIRE(::getsockname(listening, raw, &size) == 0);
    REQUIRE(::connect(client_, raw, size) == 0);
    REQUIRE(::getsockname(client_, raw, &size) == 0);
    port_ = ntohs(address.sin_port);
    server_ = ::accept(listening, nullptr, nullptr);
    REQUIRE(server_ >= 0);
    ::close(listening);
  }
  ~Connected() {
    HangUp();
    ::close(server_);
  }
  Connected(const Connected&) = delete;
  Connected& operator=(const Connected&) = delete;

  ClientConnection Client() const { return {"127.0.0.1", port_}; }
  int client() const { return client_; }
  void HangUp() {
    if (client_ >= 0) ::close(client_);
    client_ = -1;
  }

 private:
  int client_ = ::socket(AF_INET, SOCK_STREAM, 0);
  int server_ = -1;
  int port_ = 0;
};

CompletionWork OneSample(ServingFixture& f, int tokens) {
  CompletionWork work;
  SampleOrder order;
  order.request.id = "prompt 0";
  order.request.prompt_tokens = {1, 2, 3};
  order.request.sampling =
      SamplingOptions{.temperature = 1.0, .max_new_tokens = tokens};
  auto streams = f.worker->Submit({std::move(order)});
  REQUIRE(streams.ok());
  work.streams = *std::move(streams);
  work.prompt_tokens = 3;
  return work;
}

TEST_CASE("a client has hung up once it closed its end", "[serving]") {
  CHECK_FALSE(ClientConnection("no address", 1).HungUp());
  CHECK_FALSE(ClientConnection("127.0.0.1", 1).HungUp());
  Connected connected;
  const ClientConnection client = connected.Client();
  CHECK_FALSE(client.HungUp());
  SECTION("idle") {}
  SECTION("with more sent, which nobody has read") {
    REQUIRE(::send(connected.client(), "x", 1, 0) == 1);
    CHECK_FALSE(client.HungUp());
  }
  connected.HangUp();
  CHECK(client.HungUp());
}

TEST_CASE("a whole answer ends when its client hangs up", "[serving]") {
  ServingFixture f;
  Connected connected;
  const ResponseWriter writer(*f.tokenizer, /*is_chat=*/false, "cmpl-1", "tiny",
                              1000, /*logprobs=*/false);
  {
    CompletionWork work = OneSample(f, 5);
    const auto body = WholeAnswer(work, writer, connected.Client());
    REQUIRE(body.ok());
    const auto json = nlohmann::json::parse(*body);
    CHECK(json["usage"]["completion_tokens"] == 5);
  }
  connected.HangUp();
  {
    CompletionWork work = OneSample(f, 200);
    CHECK(absl::IsCancelled(
        WholeAnswer(work, writer, connected.Client()).status()));
  }
  CHECK(f.worker->Drain(absl::Seconds(60)));
}

}  // namespace
}  // namespace mpo::serving
