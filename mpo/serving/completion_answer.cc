// SPDX-License-Identifier: Apache-2.0
#include "mpo/serving/completion_answer.h"

#include <httplib.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "mpo/base/status_macros.h"

namespace mpo::serving {
namespace {

using Json = nlohmann::ordered_json;

// Between two looks whether the client of a whole answer is still there.
constexpr absl::Duration kLook = absl::Milliseconds(100);
// Waited for the one choice while the others had nothing new either; the longer
// nothing comes, the longer, up to kLook.
constexpr absl::Duration kPatience = absl::Milliseconds(5);

// The choices of one answer as far as they are told.
class Teller {
 public:
  Teller(std::shared_ptr<CompletionWork> work,
         std::shared_ptr<ResponseWriter> writer)
      : work_(std::move(work)),
        writer_(std::move(writer)),
        told_(work_->streams.size()),
        over_(work_->streams.size(), false),
        left_(work_->streams.size()) {}

  // Sends what is new of one choice, or the end of all; false when the client
  // is gone.
  bool Tell(httplib::DataSink& sink) {
    if (left_ == 0) return End(sink);
    const std::optional<SampleNews> news = Next();
    if (!news.has_value()) return true;
    tokens_ += static_cast<int64_t>(news->tokens.size()) - news->echoed;
    if (news->over && (!news->status.ok() ||
                       news->finish_reason == FinishReason::kCancelled)) {
      Send(sink,
           absl::StrCat("data: ",
                        ErrorOf(news->status.ok() ? absl::CancelledError("")
                                                  : news->status)
                            .body,
                        "\n\n"));
      sink.done();
      return true;
    }
    if (news->over) {
      over_[at_] = true;
      --left_;
    }
    return Send(sink, writer_->Chunk(static_cast<int>(at_), *news, told_[at_]));
  }

 private:
  static bool Send(httplib::DataSink& sink, const std::string& text) {
    return sink.write(text.data(), text.size());
  }

  bool End(httplib::DataSink& sink) {
    if (work_->request.include_usage)
      Send(sink, writer_->UsageChunk(work_->prompt_tokens, tokens_));
    Send(sink, ResponseWriter::LastEvent());
    sink.done();
    return true;
  }

  // News of the next choice that has some, which `at_` then is.
  std::optional<SampleNews> Next() {
    for (size_t i = 0; i < left_; ++i) {
      Advance();
      auto news = work_->streams[at_]->Next(absl::ZeroDuration());
      if (news.has_value()) {
        patience_ = kPatience;
        return news;
      }
    }
    // Of one choice all news end the wait.
    auto news = work_->streams[at_]->Next(left_ == 1 ? kLook : patience_);
    patience_ = news.has_value() ? kPatience : std::min(2 * patience_, kLook);
    return news;
  }

  void Advance() {
    do {
      at_ = (at_ + 1) % over_.size();
    } while (over_[at_]);
  }

  const std::shared_ptr<CompletionWork> work_;
  const std::shared_ptr<ResponseWriter> writer_;
  std::vector<ToldChoice> told_;
  std::vector<bool> over_;
  size_t left_;
  size_t at_ = 0;
  absl::Duration patience_ = kPatience;
  int64_t tokens_ = 0;
};

absl::StatusOr<SampleNews> AllNews(SampleStream& stream,
                                   const ClientConnection& client) {
  SampleNews all;
  while (!all.over) {
    if (client.HungUp()) return absl::CancelledError("the client hung up");
    std::optional<SampleNews> news = stream.Next(kLook);
    if (!news.has_value()) continue;
    news->echoed += all.echoed;
    news->text.insert(0, all.text);
    news->tokens.insert(news->tokens.begin(),
                        std::make_move_iterator(all.tokens.begin()),
                        std::make_move_iterator(all.tokens.end()));
    all = *std::move(news);
  }
  MPO_RETURN_IF_ERROR(all.status);
  if (all.finish_reason == FinishReason::kCancelled)
    return absl::CancelledError("");
  return all;
}

}  // namespace

absl::StatusOr<std::string> WholeAnswer(CompletionWork& work,
                                        const ResponseWriter& writer,
                                        const ClientConnection& client) {
  std::vector<Json> choices;
  int64_t tokens = 0;
  for (size_t i = 0; i < work.streams.size(); ++i) {
    MPO_ASSIGN_OR_RETURN(const SampleNews all,
                         AllNews(*work.streams[i], client));
    tokens += static_cast<int64_t>(all.tokens.size()) - all.echoed;
    choices.push_back(writer.Choice(static_cast<int>(i), all));
  }
  return writer.Whole(std::move(choices), work.prompt_tokens, tokens)
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

void StreamAnswer(std::shared_ptr<CompletionWork> work,
                  std::shared_ptr<ResponseWriter> writer,
                  std::shared_ptr<void> alive, httplib::Response& response) {
  auto teller = std::make_shared<Teller>(std::move(work), std::move(writer));
  response.set_chunked_content_provider(
      "text/event-stream", [teller, alive](size_t, httplib::DataSink& sink) {
        return teller->Tell(sink);
      });
}

}  // namespace mpo::serving
