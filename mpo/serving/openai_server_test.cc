// SPDX-License-Identifier: Apache-2.0
#include "mpo/serving/openai_server.h"

#include <httplib.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "mpo/serving/serving_fixture.h"

namespace mpo::serving {
namespace {

using Json = nlohmann::json;

struct ServerFixture : ServingFixture {
  FakeClock clock{absl::FromUnixSeconds(1000)};
  std::unique_ptr<OpenAiServer> server;
  std::unique_ptr<httplib::Client> client;

  explicit ServerFixture(OpenAiServerOptions options = {}, int max_rows = 4,
                         int max_waiting = 8)
      : ServingFixture(max_rows, max_waiting) {
    options.model_name = "tiny";
    auto started =
        OpenAiServer::Start(options, *worker, *tokenizer, chat, clock);
    REQUIRE(started.ok());
    server = *std::move(started);
    client = std::make_unique<httplib::Client>("127.0.0.1", server->port());
    client->set_read_timeout(60);
  }

  std::pair<int, Json> Post(const std::string& path, const Json& body) const {
    return PostText(path, body.dump());
  }
  std::pair<int, Json> PostText(const std::string& path,
                                const std::string& body) const {
    const auto result = client->Post(path.c_str(), body, "application/json");
    REQUIRE(result);
    return {result->status, Json::parse(result->body)};
  }
  // Payloads of the events of a stream.
  std::vector<std::string> Events(const std::string& path, Json body) const {
    body["stream"] = true;
    const auto result =
        client->Post(path.c_str(), body.dump(), "application/json");
    REQUIRE(result);
    CHECK(result->status == 200);
    CHECK(result->get_header_value("Content-Type") == "text/event-stream");
    std::vector<std::string> events;
    for (const auto part : absl::StrSplit(result->body, "\n\n")) {
      if (part.empty()) continue;
      REQUIRE(absl::StartsWith(part, "data: "));
      events.emplace_back(part.substr(6));
    }
    return events;
  }
};

Json Chat(int max_tokens = 12) {
  return {{"model", "tiny"},
          {"seed", 3},
          {"max_tokens", max_tokens},
          {"messages", {{{"role", "user"}, {"content", "Hi"}}}}};
}

TEST_CASE("a chat completion has the API's shape and repeats with its seed",
          "[serving]") {
  const ServerFixture f;
  Json body = Chat();
  body["n"] = 2;
  body["logprobs"] = true;
  body["top_logprobs"] = 3;
  const auto [status, answer] = f.Post("/v1/chat/completions", body);
  REQUIRE(status == 200);
  CHECK(answer["object"] == "chat.completion");
  CHECK(answer["model"] == "tiny");
  CHECK(answer["created"] == 1000);
  REQUIRE(answer["choices"].size() == 2);
  const Json& choice = answer["choices"][1];
  CHECK(choice["index"] == 1);
  CHECK(choice["finish_reason"] == "length");
  CHECK(choice["message"]["role"] == "assistant");
  REQUIRE(choice["logprobs"]["content"].size() == 12);
  CHECK(choice["logprobs"]["content"][0]["top_logprobs"].size() == 3);
  CHECK(answer["usage"]["completion_tokens"] == 24);
  CHECK(answer["usage"]["total_tokens"] ==
        24 + answer["usage"]["prompt_tokens"].get<int>());
  CHECK(answer["choices"][0]["message"] != choice["message"]);
  const auto again = f.Post("/v1/chat/completions", body).second;
  CHECK(again["choices"] == answer["choices"]);
  body["seed"] = 4;
  CHECK(f.Post("/v1/chat/completions", body).second["choices"] !=
        answer["choices"]);
}

TEST_CASE("streamed pieces add up to the whole answer", "[serving]") {
  const ServerFixture f;
  const Json whole = f.Post("/v1/chat/completions", Chat(30)).second;
  Json body = Chat(30);
  body["stream_options"] = {{"include_usage", true}};
  const auto events = f.Events("/v1/chat/completions", body);
  REQUIRE(events.size() >= 3);
  CHECK(events.back() == "[DONE]");
  const Json usage = Json::parse(events[events.size() - 2]);
  CHECK(usage["choices"].empty());
  CHECK(usage["usage"] == whole["usage"]);
  std::string text;
  for (size_t i = 0; i + 2 < events.size(); ++i) {
    const Json chunk = Json::parse(events[i]);
    CHECK(chunk["object"] == "chat.completion.chunk");
    const Json& choice = chunk["choices"][0];
    CHECK(choice["delta"].contains("role") == (i == 0));
    text += choice["delta"].value("content", "");
    CHECK(choice["finish_reason"].is_null() == (i + 3 < events.size()));
  }
  CHECK(text == whole["choices"][0]["message"]["content"]);
}

TEST_CASE("completions take texts and tokens, several at once", "[serving]") {
  const ServerFixture f;
  const Json common{{"model", "tiny"}, {"seed", 1}, {"max_tokens", 8}};
  Json body = common;
  body["prompt"] = {"ab", "cd"};
  body["logprobs"] = 2;
  const auto [status, answer] = f.Post("/v1/completions", body);
  REQUIRE(status == 200);
  CHECK(answer["object"] == "text_completion");
  REQUIRE(answer["choices"].size() == 2);
  CHECK(answer["choices"][0]["logprobs"]["tokens"].size() == 8);
  CHECK(answer["choices"][0]["logprobs"]["token_logprobs"].size() == 8);
  CHECK(answer["usage"]["prompt_tokens"] == 4);
  body = common;
  body["prompt"] = {'a', 'b'};
  CHECK(f.Post("/v1/completions", body).second["choices"][0]["text"] ==
        answer["choices"][0]["text"]);
  const auto events = f.Events("/v1/completions", body);
  std::string text;
  for (size_t i = 0; i + 1 < events.size(); ++i)
    text += Json::parse(events[i])["choices"][0]["text"];
  CHECK(text == answer["choices"][0]["text"]);
}

TEST_CASE("an echo tells the log-probs of a given text", "[serving]") {
  const ServerFixture f;
  const Json common{{"model", "tiny"}, {"seed", 1}, {"logprobs", 2}};
  Json body = common;
  body["prompt"] = "ab";
  body["max_tokens"] = 6;
  const Json drawn = f.Post("/v1/completions", body).second["choices"][0];
  // What was drawn, given as a prompt, has the log-probs it was drawn with.
  const auto tokens = f.tokenizer->Encode("ab");
  REQUIRE(tokens.ok());
  body["prompt"] = absl::StrCat("ab", drawn["text"].get<std::string>());
  body["max_tokens"] = 0;
  body["echo"] = true;
  const auto [status, answer] = f.Post("/v1/completions", body);
  REQUIRE(status == 200);
  const Json& echo = answer["choices"][0];
  CHECK(echo["text"] == body["prompt"]);
  CHECK(echo["finish_reason"] == "length");
  CHECK(answer["usage"]["completion_tokens"] == 0);
  const Json& logprobs = echo["logprobs"];
  CHECK(answer["usage"]["prompt_tokens"] == logprobs["tokens"].size());
  CHECK(logprobs["token_logprobs"][0].is_null());
  CHECK(logprobs["top_logprobs"][0].is_null());
  REQUIRE(logprobs["token_logprobs"].size() == logprobs["top_logprobs"].size());
  for (size_t i = 1; i < logprobs["tokens"].size(); ++i) {
    const double own = logprobs["token_logprobs"][i];
    CHECK(own < 0);
    // The two likeliest and the one that stands there.
    const Json& top = logprobs["top_logprobs"][i];
    CHECK((top.size() == 2 || top.size() == 3));
    for (const auto& [text, logprob] : top.items()) CHECK(logprob <= 0);
    CHECK(top.contains(logprobs["tokens"][i].get<std::string>()));
  }

  SECTION("before a response, whole and streamed") {
    body["max_tokens"] = 4;
    const Json both = f.Post("/v1/completions", body).second;
    const Json& more = both["choices"][0]["logprobs"];
    CHECK(both["usage"]["completion_tokens"] == 4);
    CHECK(more["tokens"].size() == logprobs["tokens"].size() + 4);
    const auto events = f.Events("/v1/completions", body);
    std::string text;
    Json pieces = Json::array();
    for (size_t i = 0; i + 1 < events.size(); ++i) {
      const Json choice = Json::parse(events[i])["choices"][0];
      text += choice["text"];
      for (const Json& one : choice["logprobs"]["token_logprobs"])
        pieces.push_back(one);
    }
    CHECK(text == both["choices"][0]["text"]);
    CHECK(pieces == more["token_logprobs"]);
  }
  SECTION("without log-probs, of token ids") {
    body.erase("logprobs");
    body["prompt"] = {'a', 'b'};
    const Json plain = f.Post("/v1/completions", body).second["choices"][0];
    CHECK(plain["text"] == "ab");
    CHECK(plain["logprobs"].is_null());
  }
}

TEST_CASE("errors have the API's shape and say what is wrong", "[serving]") {
  const ServerFixture f;
  const auto check = [](const std::pair<int, Json>& answer, int status,
                        const Json& param) {
    INFO(answer.second.dump());
    CHECK(answer.first == status);
    CHECK(answer.second["error"]["message"].is_string());
    CHECK(answer.second["error"]["param"] == param);
  };
  check(f.PostText("/v1/chat/completions", "{"), 400, "body");
  Json body = Chat();
  body["tools"] = {{{"type", "function"}}};
  check(f.Post("/v1/chat/completions", body), 400, "tools");
  body = Chat();
  body["model"] = "large";
  check(f.Post("/v1/chat/completions", body), 404, "model");
  body = Chat();
  body["messages"][0]["content"] = std::string(300, 'x');
  check(f.Post("/v1/chat/completions", body), 400, nullptr);
  check(f.PostText("/v1/nothing", "{}"), 404, nullptr);
  const auto models = f.client->Get("/v1/models");
  REQUIRE(models);
  CHECK(Json::parse(models->body)["data"][0]["id"] == "tiny");
  const auto model = f.client->Get("/v1/models/tiny");
  REQUIRE(model);
  CHECK(Json::parse(model->body) == Json::parse(models->body)["data"][0]);
  const auto unknown = f.client->Get("/v1/models/huge");
  REQUIRE(unknown);
  CHECK(unknown->status == 404);
  CHECK(Json::parse(unknown->body)["error"]["code"] == "model_not_found");
}

TEST_CASE("a wrong key, a large body and a full queue are told apart",
          "[serving]") {
  ServerFixture f({.api_key = "secret", .max_body_bytes = 2000},
                  /*max_rows=*/1, /*max_waiting=*/2);
  CHECK(f.Post("/v1/chat/completions", Chat()).first == 401);
  f.client->set_default_headers({{"Authorization", "Bearer secret"}});
  CHECK(f.Post("/v1/chat/completions", Chat()).first == 200);
  CHECK(f.PostText("/v1/chat/completions", std::string(3000, ' ')).first ==
        413);
  Json body = Chat();
  body["n"] = 3;
  CHECK(f.Post("/v1/chat/completions", body).first == 400);
  // One runs, two wait: no room for two more.
  SampleOrder order;
  order.request.id = "long";
  order.request.prompt_tokens = {'a'};
  order.request.sampling =
      SamplingOptions{.temperature = 1.0, .max_new_tokens = 250};
  std::vector<std::unique_ptr<SampleStream>> streams;
  const auto take = [&](int count) {
    auto taken = f.worker->Submit(std::vector<SampleOrder>(count, order));
    REQUIRE(taken.ok());
    for (auto& stream : *taken) streams.push_back(std::move(stream));
  };
  take(1);
  // Its second token comes after the pass that took it out of the queue.
  Next(*streams[0]);
  Next(*streams[0]);
  take(2);
  body["n"] = 2;
  const auto full =
      f.client->Post("/v1/chat/completions", body.dump(), "application/json");
  REQUIRE(full);
  CHECK(full->status == 429);
  CHECK(full->get_header_value("Retry-After") == "1");
  CHECK(Json::parse(full->body)["error"]["code"] == "queue_full");
}

TEST_CASE("a client that hangs up frees its place", "[serving]") {
  ServerFixture f({}, /*max_rows=*/1);
  Json body = Chat(200);
  body["stream"] = true;
  httplib::Client leaving("127.0.0.1", f.server->port());
  leaving.set_read_timeout(60);
  httplib::Request request;
  request.method = "POST";
  request.path = "/v1/chat/completions";
  request.body = body.dump();
  request.set_header("Content-Type", "application/json");
  request.content_receiver = [](const char*, size_t, uint64_t, uint64_t) {
    return false;  // Enough after the first piece.
  };
  CHECK(!leaving.send(request));
  CHECK(f.Post("/v1/chat/completions", Chat()).first == 200);
  CHECK(f.worker->Drain(absl::Seconds(60)));
}

TEST_CASE("stopping lets what runs finish and refuses what comes",
          "[serving]") {
  ServerFixture f;
  Json body = Chat(150);
  int status = 0;
  std::thread running([&] {
    httplib::Client other("127.0.0.1", f.server->port());
    other.set_read_timeout(60);
    const auto result =
        other.Post("/v1/chat/completions", body.dump(), "application/json");
    if (result) status = result->status;
  });
  while (f.worker->in_hand() == 0 && status == 0) std::this_thread::yield();
  CHECK(f.server->Stop(absl::Seconds(60)));
  running.join();
  CHECK(status == 200);
  CHECK(!f.client->Get("/health"));
}

TEST_CASE("stopping waits until a stream is written to its end", "[serving]") {
  ServerFixture f;
  Json body = Chat(60);
  body["stream"] = true;
  body["n"] = 3;
  std::string whole;
  std::thread running([&] {
    httplib::Client other("127.0.0.1", f.server->port());
    other.set_read_timeout(60);
    const auto result =
        other.Post("/v1/chat/completions", body.dump(), "application/json");
    if (result) whole = result->body;
  });
  while (f.worker->in_hand() == 0) std::this_thread::yield();
  CHECK(f.server->Stop(absl::Seconds(60)));
  running.join();
  CHECK(absl::EndsWith(whole, "data: [DONE]\n\n"));
}

TEST_CASE("stopping ends what is not done in time or is cut", "[serving]") {
  const bool cut = GENERATE(false, true);
  ServerFixture f;
  std::atomic<bool> over = false;
  std::thread running([&] {
    // One request after the other, so that one is always in hand.
    httplib::Client other("127.0.0.1", f.server->port());
    other.set_read_timeout(60);
    while (!over) {
      const auto result = other.Post("/v1/chat/completions", Chat(200).dump(),
                                     "application/json");
      if (!result || result->status != 200) break;
    }
  });
  while (f.worker->in_hand() == 0) std::this_thread::yield();
  if (cut) f.server->Cut();
  const absl::Time began = Clock::Real().Steady();
  f.server->Stop(cut ? absl::Seconds(60) : absl::ZeroDuration());
  CHECK(Clock::Real().Steady() - began < absl::Seconds(30));
  over = true;
  running.join();
  CHECK(f.worker->in_hand() == 0);
}

TEST_CASE("a port in use is named", "[serving]") {
  const ServerFixture f;
  const auto second =
      OpenAiServer::Start({.port = f.server->port(), .model_name = "tiny"},
                          *f.worker, *f.tokenizer, f.chat, Clock::Real());
  CHECK(absl::IsUnavailable(second.status()));
  CHECK(absl::StrContains(second.status().message(),
                          std::to_string(f.server->port())));
}

}  // namespace
}  // namespace mpo::serving
