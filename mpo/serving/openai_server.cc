// SPDX-License-Identifier: Apache-2.0
#include "mpo/serving/openai_server.h"

#include <httplib.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "mpo/base/mutex.h"
#include "mpo/base/status_macros.h"
#include "mpo/serving/client_connection.h"
#include "mpo/serving/completion_answer.h"
#include "mpo/serving/openai_request.h"
#include "mpo/serving/openai_response.h"

namespace mpo::serving {
namespace {

using Json = nlohmann::ordered_json;

// What a request whose samples were cancelled has left to be answered.
constexpr absl::Duration kLastAnswers = absl::Seconds(2);

// A text beyond the tokenizer's limits is the request's fault, not a matter of
// coming later.
absl::StatusOr<std::vector<int32_t>> Refused(
    absl::StatusOr<std::vector<int32_t>> tokens) {
  if (!absl::IsResourceExhausted(tokens.status())) return tokens;
  return absl::InvalidArgumentError(tokens.status().message());
}

HttpError ModelError(const absl::Status& unknown) {
  return MakeError(404, std::string(unknown.message()), "model",
                   "model_not_found");
}

// The HTTP library reads no long forms, which curl sends unless told otherwise.
std::string TooLarge(const httplib::Request& request, int64_t most) {
  const std::string type = request.get_header_value("Content-Type");
  if (type.find("application/x-www-form-urlencoded") == std::string::npos) {
    return absl::StrCat("the body is larger than ", most, " bytes");
  }
  return absl::StrCat(
      "expected the header Content-Type: application/json, got ", type,
      ", in which a body may have 8192 bytes");
}

}  // namespace

class OpenAiServer::State {
 public:
  State(const OpenAiServerOptions& options, GenerationWorker& worker,
        const text::Tokenizer& tokenizer,
        const absl::StatusOr<text::ChatTemplate>& chat, Clock& clock)
      : options_(options),
        worker_(worker),
        tokenizer_(tokenizer),
        chat_(chat),
        clock_(clock) {}
  ~State() { Close(); }

  absl::Status Listen();
  bool Stop(absl::Duration patience);
  void Cut();
  int port() const { return port_; }

 private:
  class Open;
  void Routes();
  bool Admitted(const httplib::Request& request, httplib::Response& response);
  void Complete(const httplib::Request& request, httplib::Response& response,
                bool is_chat);
  absl::StatusOr<CompletionWork> Begin(const std::string& body, bool is_chat);
  absl::StatusOr<std::vector<std::vector<int32_t>>> Prompts(
      const CompletionRequest& request, bool is_chat) const;
  Json Model() const;
  absl::Status UnknownModel(const std::string& asked) const;
  void Fail(const HttpError& error, httplib::Response& response) const;
  bool AwaitAnswers(absl::Duration patience) ABSL_LOCKS_EXCLUDED(mu_);
  void Close();

  const OpenAiServerOptions options_;
  GenerationWorker& worker_;
  const text::Tokenizer& tokenizer_;
  const absl::StatusOr<text::ChatTemplate>& chat_;
  Clock& clock_;
  httplib::Server server_;
  std::atomic<bool> draining_{false};
  std::atomic<uint64_t> requests_{0};
  Mutex mu_;
  CondVar changed_;
  int64_t open_ ABSL_GUARDED_BY(mu_) = 0;  // Requests not yet answered.
  bool cut_ ABSL_GUARDED_BY(mu_) = false;
  int port_ = 0;
  std::thread thread_;
};

absl::Status OpenAiServer::State::Listen() {
  server_.new_task_queue = [this] {
    return new httplib::ThreadPool(
        static_cast<size_t>(std::max(1, options_.connections)));
  };
  server_.set_payload_max_length(static_cast<size_t>(options_.max_body_bytes));
  server_.set_keep_alive_timeout(2);
  // The library's default would let two servers share a port.
  server_.set_socket_options([](int socket) {
    const int yes = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  });
  Routes();
  if (options_.port == 0) {
    port_ = server_.bind_to_any_port(options_.host.c_str());
  } else if (server_.bind_to_port(options_.host.c_str(), options_.port)) {
    port_ = options_.port;
  }
  if (port_ <= 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen at ", options_.host, ":", options_.port,
                     ": the port is in use or the host is none of this "
                     "machine's addresses"));
  }
  thread_ = std::thread([this] { server_.listen_after_bind(); });
  // Its stop() does nothing before it runs.
  while (!server_.is_running()) std::this_thread::yield();
  return absl::OkStatus();
}

void OpenAiServer::State::Routes() {
  server_.Get("/health", [this](const auto&, httplib::Response& response) {
    response.status = draining_ ? 503 : 200;
    response.set_content(draining_ ? "draining\n" : "ok\n", "text/plain");
  });
  server_.Get("/v1/models", [this](const auto& request, auto& response) {
    if (!Admitted(request, response)) return;
    const Json list{{"object", "list"}, {"data", Json::array({Model()})}};
    response.set_content(list.dump(), "application/json");
  });
  server_.Get("/v1/models/(.+)", [this](const auto& request, auto& response) {
    if (!Admitted(request, response)) return;
    const std::string asked = request.matches[1];
    if (asked != options_.model_name) {
      return Fail(ModelError(UnknownModel(asked)), response);
    }
    response.set_content(Model().dump(), "application/json");
  });
  for (const bool is_chat : {false, true}) {
    server_.Post(is_chat ? "/v1/chat/completions" : "/v1/completions",
                 [this, is_chat](const auto& request, auto& response) {
                   if (Admitted(request, response))
                     Complete(request, response, is_chat);
                 });
  }
  server_.set_error_handler([this](const auto& request, auto& response) {
    if (!response.body.empty()) return;
    Fail(MakeError(response.status,
                   response.status == 413
                       ? TooLarge(request, options_.max_body_bytes)
                       : absl::StrCat(request.method, " ", request.path,
                                      " is not served"),
                   "", ""),
         response);
  });
}

bool OpenAiServer::State::Admitted(const httplib::Request& request,
                                   httplib::Response& response) {
  if (!options_.api_key.empty() && request.get_header_value("Authorization") !=
                                       "Bearer " + options_.api_key) {
    Fail(MakeError(401, "expected the header Authorization: Bearer <key>", "",
                   "invalid_api_key"),
         response);
    return false;
  }
  if (draining_) {
    Fail(ErrorOf(absl::UnavailableError("")), response);
    return false;
  }
  return true;
}

Json OpenAiServer::State::Model() const {
  return {{"id", options_.model_name},
          {"object", "model"},
          {"created", 0},
          {"owned_by", "mpo"}};
}

absl::Status OpenAiServer::State::UnknownModel(const std::string& asked) const {
  return absl::NotFoundError(absl::StrCat("the model \"", asked,
                                          "\" is not served here, \"",
                                          options_.model_name, "\" is"));
}

void OpenAiServer::State::Fail(const HttpError& error,
                               httplib::Response& response) const {
  response.status = error.status;
  if (error.status == 429) {
    response.set_header("Retry-After",
                        std::to_string(options_.retry_after_seconds));
  }
  response.set_content(error.body, "application/json");
}

absl::StatusOr<std::vector<std::vector<int32_t>>> OpenAiServer::State::Prompts(
    const CompletionRequest& request, bool is_chat) const {
  std::vector<std::vector<int32_t>> prompts;
  if (is_chat) {
    if (!chat_.ok()) return chat_.status();
    MPO_ASSIGN_OR_RETURN(
        const std::string text,
        chat_->Render(request.messages, {.default_system_prompt =
                                             options_.default_system_prompt}));
    MPO_ASSIGN_OR_RETURN(prompts.emplace_back(),
                         Refused(tokenizer_.Encode(text)));
    return prompts;
  }
  for (const auto& prompt : request.prompts) {
    if (const auto* tokens = std::get_if<std::vector<int32_t>>(&prompt)) {
      prompts.push_back(*tokens);
      continue;
    }
    MPO_ASSIGN_OR_RETURN(
        prompts.emplace_back(),
        Refused(tokenizer_.Encode(std::get<std::string>(prompt),
                                  /*add_special_tokens=*/true)));
  }
  return prompts;
}

absl::StatusOr<CompletionWork> OpenAiServer::State::Begin(
    const std::string& body, bool is_chat) {
  CompletionWork work;
  MPO_ASSIGN_OR_RETURN(work.request, is_chat ? ParseChatRequest(body)
                                             : ParseCompletionRequest(body));
  CompletionRequest& request = work.request;
  if (request.model != options_.model_name) {
    return UnknownModel(request.model);
  }
  MPO_ASSIGN_OR_RETURN(const auto prompts, Prompts(request, is_chat));
  // Without a seed every request gets fresh draws.
  const uint64_t seed =
      request.seed.has_value()
          ? *request.seed
          : (uint64_t{std::random_device()()} << 32) ^ ++requests_;
  std::vector<SampleOrder> orders;
  for (size_t p = 0; p < prompts.size(); ++p) {
    work.prompt_tokens += static_cast<int64_t>(prompts[p].size());
    std::optional<Echo> echo;
    if (request.echo) {
      const auto* text = std::get_if<std::string>(&request.prompts[p]);
      MPO_ASSIGN_OR_RETURN(
          std::string shown,
          text != nullptr
              ? *text
              : tokenizer_.Decode(prompts[p], /*skip_special=*/false));
      echo = Echo{std::move(shown), request.logprobs};
    }
    for (int i = 0; i < request.n; ++i) {
      SampleOrder order;
      order.request.id = absl::StrCat("prompt ", p);
      order.request.prompt_tokens = prompts[p];
      order.request.seed = seed + p * request.n + i;
      order.request.sampling = request.sampling;
      order.request.top_logprobs = request.top_logprobs;
      order.to_the_end = !request.max_tokens_set;
      order.stop = request.stop;
      order.echo = echo;
      orders.push_back(std::move(order));
    }
  }
  MPO_ASSIGN_OR_RETURN(work.streams, worker_.Submit(std::move(orders)));
  return work;
}

// Counts a request in until it goes.
class OpenAiServer::State::Open {
 public:
  explicit Open(State& state) : state_(state) {
    MutexLock lock(state_.mu_);
    ++state_.open_;
  }
  ~Open() {
    MutexLock lock(state_.mu_);
    --state_.open_;
    state_.changed_.NotifyAll();
  }
  Open(const Open&) = delete;
  Open& operator=(const Open&) = delete;

 private:
  State& state_;
};

void OpenAiServer::State::Complete(const httplib::Request& request,
                                   httplib::Response& response, bool is_chat) {
  auto open = std::make_shared<Open>(*this);
  absl::StatusOr<CompletionWork> begun = Begin(request.body, is_chat);
  if (!begun.ok()) {
    return Fail(absl::IsNotFound(begun.status()) ? ModelError(begun.status())
                                                 : ErrorOf(begun.status()),
                response);
  }
  auto work = std::make_shared<CompletionWork>(*std::move(begun));
  auto writer = std::make_shared<ResponseWriter>(
      tokenizer_, is_chat,
      absl::StrCat(is_chat ? "chatcmpl-" : "cmpl-", ++requests_),
      options_.model_name, absl::ToUnixSeconds(clock_.Wall()),
      work->request.logprobs);
  if (work->request.stream) {
    // `open` goes with the response, when all of it is written.
    return StreamAnswer(std::move(work), std::move(writer), std::move(open),
                        response);
  }
  const absl::StatusOr<std::string> body =
      WholeAnswer(*work, *writer,
                  ClientConnection(request.remote_addr, request.remote_port));
  if (!body.ok()) return Fail(ErrorOf(body.status()), response);
  response.set_content(*body, "application/json");
}

bool OpenAiServer::State::Stop(absl::Duration patience) {
  draining_ = true;
  const bool drained = AwaitAnswers(patience);
  if (!drained) {
    // Each reader is told of the end of its samples.
    worker_.CancelAll();
    AwaitAnswers(kLastAnswers);
  }
  Close();
  return drained;
}

void OpenAiServer::State::Cut() {
  MutexLock lock(mu_);
  cut_ = true;
  changed_.NotifyAll();
}

bool OpenAiServer::State::AwaitAnswers(absl::Duration patience) {
  const absl::Time deadline = Clock::Real().Steady() + patience;
  MutexLock lock(mu_);
  while (open_ > 0) {
    const absl::Duration left = deadline - Clock::Real().Steady();
    if (left <= absl::ZeroDuration() || std::exchange(cut_, false)) {
      return false;
    }
    changed_.WaitFor(mu_, left);
  }
  return true;
}

void OpenAiServer::State::Close() {
  if (!thread_.joinable()) return;
  server_.stop();
  thread_.join();
}

absl::StatusOr<std::unique_ptr<OpenAiServer>> OpenAiServer::Start(
    const OpenAiServerOptions& options, GenerationWorker& worker,
    const text::Tokenizer& tokenizer,
    const absl::StatusOr<text::ChatTemplate>& chat, Clock& clock) {
  auto state = std::make_unique<State>(options, worker, tokenizer, chat, clock);
  MPO_RETURN_IF_ERROR(state->Listen());
  return std::unique_ptr<OpenAiServer>(new OpenAiServer(std::move(state)));
}

OpenAiServer::OpenAiServer(std::unique_ptr<State> state)
    : state_(std::move(state)) {}
OpenAiServer::~OpenAiServer() = default;
int OpenAiServer::port() const { return state_->port(); }
bool OpenAiServer::Stop(absl::Duration patience) {
  return state_->Stop(patience);
}
void OpenAiServer::Cut() { state_->Cut(); }

}  // namespace mpo::serving
