// SPDX-License-Identifier: Apache-2.0
#include "services/meta_reward_server/meta_judge.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <optional>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "mpo/base/mutex.h"
#include "mpo/base/status_macros.h"
#include "services/meta_reward_server/proposal_check.h"
#include "services/meta_reward_server/rubric_json.h"

namespace mpo::meta_reward_server {
namespace {

// A caller sees UNAVAILABLE whenever there was no usable answer from the wire.
absl::Status FromModel(const absl::Status& status, const std::string& phase) {
  absl::StatusCode code = status.code();
  if (code == absl::StatusCode::kDeadlineExceeded ||
      code == absl::StatusCode::kResourceExhausted ||
      code == absl::StatusCode::kDataLoss) {
    code = absl::StatusCode::kUnavailable;
  }
  return absl::Status(code, absl::StrCat("meta-judge, phase ", phase, ": ",
                                         std::string(status.message())));
}

// Scored recent responses, spread evenly over their order by score.
std::vector<const EvidenceItem*> Spread(const RefinementRequest& request,
                                        int most) {
  std::vector<const EvidenceItem*> scored;
  for (const EvidenceItem& item : request.recent) {
    if (item.verdict.scored) scored.push_back(&item);
  }
  std::sort(scored.begin(), scored.end(),
            [](const EvidenceItem* a, const EvidenceItem* b) {
              return std::pair(a->verdict.reward, a->sample_key) <
                     std::pair(b->verdict.reward, b->sample_key);
            });
  const size_t n = static_cast<size_t>(std::max(1, most));
  if (scored.size() <= n) return scored;
  std::vector<const EvidenceItem*> chosen;
  for (size_t i = 0; i < n; ++i) {
    chosen.push_back(
        scored[n == 1 ? scored.size() / 2 : i * (scored.size() - 1) / (n - 1)]);
  }
  return chosen;
}

// What became of one sampled response.
struct SampleRefinement {
  std::string analysis;
  std::optional<Rubric> rubric;
  std::string problem;  // Where `rubric` is empty: why.
  int truncated = 0;
};

// One refinement from start to end.
class MetaSession {
 public:
  MetaSession(judge::ChatModel& model, const MetaJudgeOptions& options,
              const RefinementRequest& request, const ProgressSink& progress,
              std::stop_token stop)
      : model_(model),
        options_(options),
        request_(request),
        progress_(progress),
        stop_(std::move(stop)),
        chosen_(Spread(request, options.max_samples)),
        samples_(chosen_.size()) {}

  absl::StatusOr<RefinementProposal> Run() {
    if (chosen_.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("refinement ", request_.id, ": none of the ",
                       request_.recent.size(), " recent responses was scored"));
    }
    MPO_RETURN_IF_ERROR(RefineAll());
    std::vector<Rubric> refinements;
    RefinementProposal proposal;
    Collect(refinements, proposal.analyses);
    if (refinements.empty()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "refinement ", request_.id, ": none of the ", samples_.size(),
          " refinements was a rubric; the last said: ",
          samples_.back().problem));
    }
    MPO_ASSIGN_OR_RETURN(Rubric merged, Merge(refinements, proposal.analyses));
    MPO_RETURN_IF_ERROR(Check(merged, proposal.analyses));
    proposal.changes = ChangesBetween(request_.rubric, merged, refinements);
    proposal.rubric =
        proposal.changes.empty() ? request_.rubric : std::move(merged);
    proposal.memory = request_.memory;
    return proposal;
  }

 private:
  judge::ChatOptions Ask(bool rubric) const {
    judge::ChatOptions ask;
    ask.temperature = options_.temperature;
    ask.max_tokens = options_.max_tokens;
    ask.accept_truncated = !rubric;
    ask.stop = stop_;
    if (rubric) {
      ask.response_schema = RubricJsonSchema();
      ask.accept = [this](const std::string& answer) {
        return ReadRubricJson(answer, request_.rubric).status();
      };
    }
    return ask;
  }

  void Report(const char* phase, int done, int total) {
    if (progress_) progress_({phase, done, total});
  }

  // Analysis and refinement of one response, as one chat.
  absl::Status RefineOne(size_t index) {
    SampleRefinement& sample = samples_[index];
    std::vector<ChatMessage> chat = AnalysisPrompt(
        request_, *chosen_[index], options_.limits, &sample.truncated);
    auto analysis = model_.Complete(chat, Ask(/*rubric=*/false));
    if (!analysis.ok()) return FromModel(analysis.status(), "analyse");
    sample.analysis = *std::move(analysis);
    Report("analyse", ++analysed_, static_cast<int>(samples_.size()));
    auto answer = model_.Complete(
        RefinementPrompt(std::move(chat), sample.analysis, options_.limits),
        Ask(/*rubric=*/true));
    Report("refine", ++refined_, static_cast<int>(samples_.size()));
    // INVALID_ARGUMENT can only come from `accept`: an answer, but no rubric.
    if (absl::IsInvalidArgument(answer.status())) {
      sample.problem = std::string(answer.status().message());
      return absl::OkStatus();
    }
    if (!answer.ok()) return FromModel(answer.status(), "refine");
    MPO_ASSIGN_OR_RETURN(sample.rubric,
                         ReadRubricJson(*answer, request_.rubric));
    return absl::OkStatus();
  }

  // The first error ends the others early.
  absl::Status RefineAll() {
    std::atomic<size_t> next = 0;
    Mutex mu;
    absl::Status first;
    const auto work = [&] {
      for (size_t i = next++; i < samples_.size(); i = next++) {
        absl::Status status = stop_.stop_requested()
                                  ? absl::CancelledError("refinement stopped")
                                  : RefineOne(i);
        if (status.ok()) continue;
        MutexLock lock(mu);
        first.Update(status);
        next = samples_.size();
      }
    };
    {
      std::vector<std::jthread> threads;
      for (int i = 1; i < options_.concurrency; ++i) threads.emplace_back(work);
      work();
    }
    return first;
  }

  void Collect(std::vector<Rubric>& refinements,
               std::vector<std::string>& notes) const {
    for (size_t i = 0; i < samples_.size(); ++i) {
      const SampleRefinement& sample = samples_[i];
      std::string note =
          absl::StrCat(chosen_[i]->sample_key, ": ", sample.analysis);
      if (sample.truncated > 0) {
        absl::StrAppend(&note, "\n[", sample.truncated,
                        " texts of this response were cut]");
      }
      if (sample.rubric.has_value()) {
        refinements.push_back(*sample.rubric);
      } else {
        absl::StrAppend(&note, "\n[refinement left out: ", sample.problem, "]");
      }
      notes.push_back(std::move(note));
    }
  }

  absl::StatusOr<Rubric> Merge(std::vector<Rubric>& refinements,
                               std::vector<std::string>& notes) {
    std::vector<std::string> texts;
    size_t chars = 0;
    for (const Rubric& rubric : refinements) {
      std::string text = WriteRubricJson(rubric);
      if (!texts.empty() &&
          chars + text.size() > static_cast<size_t>(options_.max_merge_chars)) {
        break;
      }
      chars += text.size();
      texts.push_back(std::move(text));
    }
    if (texts.size() < refinements.size()) {
      notes.push_back(absl::StrCat("merge: ", refinements.size() - texts.size(),
                                   " of ", refinements.size(),
                                   " refinements left out, over ",
                                   options_.max_merge_chars, " characters"));
      refinements.resize(texts.size());
    }
    Report("merge", 0, 1);
    auto answer = model_.Complete(MergePrompt(request_, texts, options_.limits),
                                  Ask(/*rubric=*/true));
    if (absl::IsInvalidArgument(answer.status())) {
      return absl::FailedPreconditionError(absl::StrCat(
          "refinement ", request_.id, ": the merged rubric cannot be read: ",
          std::string(answer.status().message())));
    }
    if (!answer.ok()) return FromModel(answer.status(), "merge");
    Report("merge", 1, 1);
    return ReadRubricJson(*answer, request_.rubric);
  }

  absl::Status Check(Rubric& merged, std::vector<std::string>& notes) {
    Report("validate", 0, 1);
    const std::vector<std::string> dropped = DropNearDuplicates(merged);
    if (!dropped.empty()) {
      notes.push_back(absl::StrCat("merge: near-duplicate criteria dropped: ",
                                   absl::StrJoin(dropped, ", ")));
    }
    const std::vector<std::string> problems =
        ProposalProblems(merged, options_.limits);
    if (!problems.empty()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "refinement ", request_.id, ": the proposed rubric is not valid: ",
          absl::StrJoin(problems, "; ")));
    }
    Report("validate", 1, 1);
    return absl::OkStatus();
  }

  judge::ChatModel& model_;
  const MetaJudgeOptions& options_;
  const RefinementRequest& request_;
  const ProgressSink& progress_;
  const std::stop_token stop_;
  const std::vector<const EvidenceItem*> chosen_;
  std::vector<SampleRefinement> samples_;  // One thread writes each.
  std::atomic<int> analysed_ = 0;
  std::atomic<int> refined_ = 0;
};

}  // namespace

MetaJudge::MetaJudge(judge::ChatModel& model, MetaJudgeOptions options)
    : model_(model), options_(std::move(options)) {}

absl::StatusOr<RefinementProposal> MetaJudge::Refine(
    const RefinementRequest& request, const ProgressSink& progress,
    std::stop_token stop) {
  return MetaSession(model_, options_, request, progress, std::move(stop))
      .Run();
}

}  // namespace mpo::meta_reward_server
