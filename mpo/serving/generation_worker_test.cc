// SPDX-License-Identifier: Apache-2.0
#include "mpo/serving/generation_worker.h"

#include "mpo/serving/serving_fixture.h"

namespace mpo::serving {
namespace {

SampleOrder Order(int tokens, uint64_t seed = 1, int prompt = 5) {
  SampleOrder order;
  order.request.id = "order";
  order.request.prompt_tokens.assign(prompt, 'a');
  order.request.seed = seed;
  order.request.sampling =
      SamplingOptions{.temperature = 1.0, .max_new_tokens = tokens};
  return order;
}

SampleNews ReadAll(SampleStream& stream) {
  SampleNews all;
  while (!all.over) {
    SampleNews news = Next(stream);
    all.text += news.text;
    all.tokens.insert(all.tokens.end(), news.tokens.begin(), news.tokens.end());
    all.echoed += news.echoed;
    all.over = news.over;
    all.finish_reason = news.finish_reason;
    all.status = news.status;
  }
  return all;
}

std::vector<std::unique_ptr<SampleStream>> Submit(
    GenerationWorker& worker, std::vector<SampleOrder> orders) {
  auto streams = worker.Submit(std::move(orders));
  REQUIRE(streams.ok());
  return *std::move(streams);
}

TEST_CASE("samples are told piece by piece and whole in the end", "[serving]") {
  ServingFixture f;
  std::vector<SampleOrder> orders;
  for (uint64_t seed = 0; seed < 6; ++seed) orders.push_back(Order(20, seed));
  auto streams = Submit(*f.worker, orders);
  std::vector<std::string> texts;
  for (auto& stream : streams) {
    const SampleNews all = ReadAll(*stream);
    CHECK(all.status.ok());
    CHECK(all.finish_reason == FinishReason::kLength);
    REQUIRE(all.tokens.size() == 20);
    std::vector<int32_t> tokens;
    for (const ServedToken& token : all.tokens) {
      tokens.push_back(token.token);
      CHECK(*token.logprob <= 0);
    }
    CHECK(all.text == *f.tokenizer->Decode(tokens));
    texts.push_back(all.text);
  }
  CHECK(texts[0] != texts[1]);
  CHECK(f.worker->in_hand() == 0);
}

TEST_CASE("a stop string ends a sample and is left out", "[serving]") {
  ServingFixture f;
  const SampleNews whole = ReadAll(*Submit(*f.worker, {Order(40)})[0]);
  const size_t at = whole.text.size() / 2;
  SampleOrder order = Order(40);
  order.stop = {whole.text.substr(at, 3)};
  const SampleNews cut = ReadAll(*Submit(*f.worker, {order})[0]);
  CHECK(cut.finish_reason == FinishReason::kStop);
  CHECK(cut.text == whole.text.substr(0, whole.text.find(order.stop[0])));
  CHECK(cut.tokens.size() < whole.tokens.size());
}

TEST_CASE("a full queue takes nothing of a request", "[serving]") {
  ServingFixture f(/*max_rows=*/1, /*max_waiting=*/4);
  CHECK(
      f.worker->Submit(std::vector<SampleOrder>(5, Order(4))).status().code() ==
      absl::StatusCode::kInvalidArgument);
  auto streams = Submit(*f.worker, {Order(200), Order(200), Order(200)});
  const absl::Status full =
      f.worker->Submit(std::vector<SampleOrder>(4, Order(4))).status();
  CHECK(absl::IsResourceExhausted(full));
  CHECK(f.worker->in_hand() <= 3);
  for (auto& stream : streams) CHECK(ReadAll(*stream).status.ok());
}

TEST_CASE("a bad prompt is refused before anything is taken", "[serving]") {
  ServingFixture f;
  for (const int length : {0, 256, 300}) {
    const auto streams = f.worker->Submit({Order(4), Order(4, 1, length)});
    CHECK(streams.status().code() == absl::StatusCode::kInvalidArgument);
  }
  SampleOrder bad = Order(4);
  bad.request.prompt_tokens[0] = text::kTinyVocabSize;
  CHECK(f.worker->Submit({bad}).status().code() ==
        absl::StatusCode::kInvalidArgument);
  SampleOrder hot = Order(4);
  hot.request.sampling->temperature = 99;
  const SampleNews news = ReadAll(*Submit(*f.worker, {hot})[0]);
  CHECK(news.status.code() == absl::StatusCode::kInvalidArgument);
  CHECK(news.status.message().find("'") == std::string::npos);
  CHECK(f.worker->in_hand() == 0);
}

TEST_CASE("a reader that goes away cancels its sample and no other",
          "[serving]") {
  ServingFixture f;
  auto streams = Submit(*f.worker, {Order(200, 1), Order(200, 2)});
  streams[0].reset();
  CHECK(ReadAll(*streams[1]).tokens.size() == 200);
  CHECK(f.worker->Drain(absl::Seconds(60)));
}

TEST_CASE("a sample whose reader goes away while it waits frees its place",
          "[serving]") {
  ServingFixture f(/*max_rows=*/1, /*max_waiting=*/2);
  auto running = Submit(*f.worker, {Order(240)});
  // Its second token comes after the pass that took it out of the queue.
  Next(*running[0]);
  Next(*running[0]);
  auto waiting = Submit(*f.worker, {Order(240), Order(240)});
  waiting.clear();
  // The one that runs goes on: places are freed before it is over.
  bool over = false;
  while (f.worker->in_hand() > 1 && !over) over = Next(*running[0]).over;
  CHECK((over ? f.worker->Drain(absl::Seconds(60)) : f.worker->in_hand() <= 1));
}

SampleOrder EchoOrder(int tokens, int prompt, int top = 0) {
  SampleOrder order = Order(tokens, 1, prompt);
  order.request.top_logprobs = top;
  order.echo = Echo{"text", /*logprobs=*/true};
  return order;
}

TEST_CASE("an echoed prompt has the log-probs its tokens were drawn with",
          "[serving]") {
  ServingFixture f;
  SampleOrder order = Order(20);
  order.request.top_logprobs = 3;
  const SampleNews drawn = ReadAll(*Submit(*f.worker, {order})[0]);
  SampleOrder again = EchoOrder(0, 5, 3);
  for (const ServedToken& token : drawn.tokens)
    again.request.prompt_tokens.push_back(token.token);
  const SampleNews echo = ReadAll(*Submit(*f.worker, {again})[0]);
  CHECK(echo.status.ok());
  CHECK(echo.finish_reason == FinishReason::kLength);
  CHECK(echo.text == "text");
  REQUIRE(echo.tokens.size() == 25);
  CHECK(!echo.tokens[0].logprob.has_value());
  CHECK(echo.tokens[0].top.empty());
  for (size_t i = 0; i < 20; ++i) {
    const ServedToken& told = echo.tokens[5 + i];
    CHECK(*told.logprob == Approx(*drawn.tokens[i].logprob).margin(1e-4));
    REQUIRE(told.top.size() == 3);
    CHECK(told.top[0].token == drawn.tokens[i].top[0].token);
    // To the bit, so that a reader finds out what is likeliest.
    if (told.top[0].token == told.token)
      CHECK(told.top[0].logprob == *told.logprob);
  }
}

TEST_CASE("many prompts are measured in turn with samples in hand",
          "[serving]") {
  ServingFixture f(/*max_rows=*/4, /*max_waiting=*/64);
  std::vector<SampleOrder> orders(30, EchoOrder(0, 200));
  orders.push_back(EchoOrder(3, 256 - 3));
  orders.push_back(EchoOrder(0, 256));  // All of the context.
  orders.push_back(Order(40));
  auto streams = Submit(*f.worker, orders);
  streams[7].reset();
  for (size_t i = 0; i < streams.size(); ++i) {
    if (streams[i] == nullptr) continue;
    const SampleNews all = ReadAll(*streams[i]);
    INFO(i);
    CHECK(all.status.ok());
    CHECK(all.tokens.size() == (i < 30 ? 200 : i < 32 ? 256 : 40));
  }
  CHECK(f.worker->Drain(absl::Seconds(60)));
  CHECK(absl::IsUnavailable(f.worker->Submit({EchoOrder(0, 9)}).status()));
}

TEST_CASE("an echo that context or cache cannot hold is refused", "[serving]") {
  ServingFixture f(/*max_rows=*/2, /*max_waiting=*/8, /*cache_pages=*/5);
  for (const int tokens : {257, 200, 65}) {
    CHECK(absl::IsInvalidArgument(
        f.worker->Submit({EchoOrder(0, tokens)}).status()));
  }
  auto streams =
      Submit(*f.worker, {EchoOrder(0, 64), EchoOrder(0, 20), Order(4)});
  CHECK(ReadAll(*streams[0]).tokens.size() == 64);
  CHECK(ReadAll(*streams[1]).tokens.size() == 20);
  CHECK(ReadAll(*streams[2]).tokens.size() == 4);
}

TEST_CASE("an echo waits until samples in hand leave it room", "[serving]") {
  ServingFixture f(/*max_rows=*/2, /*max_waiting=*/8, /*cache_pages=*/5);
  auto running = Submit(*f.worker, {Order(60)});
  // Has a page of the five that the echo needs, unless it is done already.
  const bool over = Next(*running[0]).over;
  auto streams = Submit(*f.worker, {EchoOrder(0, 64), Order(4)});
  const SampleNews echo = ReadAll(*streams[0]);
  CHECK(echo.status.ok());
  CHECK(echo.tokens.size() == 64);
  CHECK(ReadAll(*streams[1]).tokens.size() == 4);
  if (!over) CHECK(ReadAll(*running[0]).status.ok());
}

TEST_CASE("the samples of a prompt share what was measured", "[serving]") {
  ServingFixture f(/*max_rows=*/4, /*max_waiting=*/64);
  std::vector<SampleOrder> orders(40, EchoOrder(2, 250));
  orders.push_back(EchoOrder(2, 250, /*top=*/1));
  auto streams = Submit(*f.worker, orders);
  const SampleNews first = ReadAll(*streams[0]);
  for (size_t i = 1; i < streams.size(); ++i) {
    const SampleNews all = ReadAll(*streams[i]);
    REQUIRE(all.tokens.size() == 252);
    CHECK(all.echoed == 250);
    CHECK(all.tokens[249].logprob == first.tokens[249].logprob);
    CHECK(all.tokens[249].top.size() == (i < 40 ? 0 : 1));
  }
}

TEST_CASE("what waits to be measured ends when it is cancelled", "[serving]") {
  ServingFixture f(/*max_rows=*/4, /*max_waiting=*/64);
  std::vector<SampleOrder> orders;
  for (int i = 0; i < 60; ++i) orders.push_back(EchoOrder(0, 197 + i));
  SECTION("by the server") {
    auto streams = Submit(*f.worker, orders);
    f.worker->CancelAll();
    for (auto& stream : streams) {
      const SampleNews all = ReadAll(*stream);
      CHECK(all.status.ok());
      CHECK((all.finish_reason == FinishReason::kCancelled ||
             all.tokens.size() >= 197));
    }
  }
  SECTION("by its readers") { Submit(*f.worker, orders).clear(); }
  CHECK(f.worker->Drain(absl::Seconds(60)));
}

TEST_CASE("a look at a sample ends with its timeout", "[serving]") {
  ServingFixture f;
  auto streams = Submit(*f.worker, {Order(20)});
  ReadAll(*streams[0]);
  CHECK(!streams[0]->Next(absl::Milliseconds(1)).has_value());
}

TEST_CASE("cancelling ends all that run and wait", "[serving]") {
  ServingFixture f(/*max_rows=*/1);
  auto streams = Submit(*f.worker, {Order(250), Order(250), Order(250)});
  f.worker->CancelAll();
  for (auto& stream : streams) {
    const SampleNews news = ReadAll(*stream);
    CHECK(news.status.ok());
    CHECK(news.finish_reason == FinishReason::kCancelled);
  }
  CHECK(f.worker->in_hand() == 0);
  CHECK(absl::IsUnavailable(f.worker->Submit({Order(4)}).status()));
}

TEST_CASE("what the cache cannot hold is refused, what is open is cut to it",
          "[serving]") {
  ServingFixture f(/*max_rows=*/2, /*max_waiting=*/8, /*cache_pages=*/5);
  for (const SampleOrder& order : {Order(200), Order(1, 1, 100)}) {
    const absl::Status status = f.worker->Submit({order}).status();
    CHECK(absl::IsInvalidArgument(status));
    CHECK(status.message().find("cache") != std::string::npos);
    CHECK(status.message().find("'") == std::string::npos);
  }
  SampleOrder open = Order(1);
  open.to_the_end = true;
  const SampleNews news = ReadAll(*Submit(*f.worker, {open})[0]);
  CHECK(news.status.ok());
  CHECK(news.finish_reason == FinishReason::kLength);
  CHECK(news.tokens.size() > 16);
  CHECK(news.tokens.size() < 5 * 16);
}

TEST_CASE("tokens that the tokenizer does not have are no text", "[serving]") {
  ServingFixture f(4, 8, /*cache_pages=*/0, /*padding=*/400);
  const SampleNews all = ReadAll(*Submit(*f.worker, {Order(100)})[0]);
  CHECK(all.status.ok());
  REQUIRE(all.tokens.size() == 100);
  std::vector<int32_t> known;
  for (const ServedToken& token : all.tokens) {
    if (token.token < text::kTinyVocabSize) known.push_back(token.token);
  }
  CHECK(known.size() < all.tokens.size());
  CHECK(all.text == *f.tokenizer->Decode(known));
}

TEST_CASE("draining finishes what is in hand and takes nothing new",
          "[serving]") {
  ServingFixture f;
  auto streams = Submit(*f.worker, {Order(100)});
  CHECK(f.worker->Drain(absl::Seconds(60)));
  CHECK(absl::IsUnavailable(f.worker->Submit({Order(4)}).status()));
  CHECK(ReadAll(*streams[0]).tokens.size() == 100);
}

TEST_CASE("a worker that ends tells its readers", "[serving]") {
  ServingFixture f(/*max_rows=*/1);
  auto streams = Submit(*f.worker, {Order(240), Order(240)});
  f.worker.reset();
  for (auto& stream : streams)
    CHECK(ReadAll(*stream).finish_reason == FinishReason::kCancelled);
}

}  // namespace
}  // namespace mpo::serving
