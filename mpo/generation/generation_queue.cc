// SPDX-License-Identifier: Apache-2.0
// Which samples wait, which run, and when they leave.
#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "mpo/generation/generation_loop.h"
#include "mpo/model/decoder.h"

namespace mpo::generation {

void GenerationLoop::Add(GenerationRequest request, Done done) {
  if (idle()) {
    keep_trunk_ = request.keep_trunk;
    began_ = std::chrono::steady_clock::now();
  }
  auto job = std::make_unique<Job>();
  job->request = std::move(request);
  job->done = std::move(done);
  job->result.id = job->request.id;
  const std::vector<int32_t>& prompt = job->request.prompt_tokens;
  absl::Status status = model::CheckTokens(config_, prompt, job->request.id);
  const auto length = static_cast<int64_t>(prompt.size());
  if (status.ok() && length >= config_.context) {
    status = absl::InvalidArgumentError(absl::StrCat(
        "prompt '", job->request.id, "' has ", length,
        " tokens, which leaves no room for a response in the context of ",
        config_.context));
  }
  if (!status.ok()) return Finish(*job, FinishReason::kFailed, status);
  job->length = length;
  job->limit = std::min<int64_t>(job->request.sampling->max_new_tokens,
                                 config_.context - length);
  // The last token drawn is never run, so it needs no place.
  job->pages_needed = PagesFor(length + job->limit - 1) - length / kPageTokens;
  if (job->request.sampling->repetition_penalty != 1) {
    job->seen = prompt;
    std::sort(job->seen.begin(), job->seen.end());
    job->seen.erase(std::unique(job->seen.begin(), job->seen.end()),
                    job->seen.end());
  }
  const auto same = std::find_if(
      waiting_.begin(), waiting_.end(),
      [&](const auto& other) { return other->group->prompt == prompt; });
  if (same != waiting_.end()) {
    job->group = (*same)->group;
  } else {
    job->group = std::make_shared<Group>();
    job->group->prompt = prompt;
  }
  ++job->group->waiting;
  waiting_.push_back(std::move(job));
}

void GenerationLoop::Group::Forget() {
  prefilled = 0;
  pages.reset();
  logits = {};
  trunk = {};
}

void GenerationLoop::ChangePolicy(PolicyVersion version) {
  version_ = version;
  for (const auto& job : waiting_) {
    // Running samples go on with the pages they share with it.
    if (job->group->ready()) job->group->Forget();
    job->group->prefilled = 0;
  }
  for (const auto& job : active_) {
    // Not ready, else the sample would have been forked: no one shares its
    // pages, which are filled once more.
    if (job->group != nullptr) job->group->prefilled = 0;
  }
}

bool GenerationLoop::ForgetPrompt(const Group& needed) {
  for (const auto& job : waiting_) {
    Group* group = job->group.get();
    if (group == &needed || group->pages == nullptr) continue;
    const bool admitted = std::any_of(
        active_.begin(), active_.end(),
        [&](const auto& active) { return active->group.get() == group; });
    if (admitted) continue;
    group->Forget();
    return true;
  }
  return false;
}

void GenerationLoop::Admit() {
  int64_t missing = 0;
  for (const auto& job : active_) missing += job->pages_missing();
  while (!waiting_.empty() &&
         static_cast<int>(active_.size()) < options_.max_rows) {
    Job& job = *waiting_.front();
    Group& group = *job.group;
    const auto prompt = static_cast<int64_t>(group.prompt.size());
    const int64_t needed =
        job.pages_needed + (group.pages == nullptr ? PagesFor(prompt) : 0);
    if (needed > state_.cache.free_pages() - missing) {
      if (ForgetPrompt(group)) continue;
      if (!active_.empty()) return;  // Room comes when a sample finishes.
      --group.waiting;
      Finish(job, FinishReason::kFailed,
             absl::ResourceExhaustedError(
                 absl::StrCat("sample '", job.request.id, "' needs ", needed,
                              " pages of key-value cache, ",
                              state_.cache.free_pages(), " are free")));
      waiting_.pop_front();
      continue;
    }
    if (group.pages == nullptr) {
      group.pages = std::make_unique<PageTable>(state_.cache);
      if (!group.pages->Reserve(prompt)) return;
      if (keep_trunk_ > 0) group.trunk.resize(prompt * config_.hidden_size);
    }
    missing += job.pages_needed;
    active_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
}

void GenerationLoop::Leave(Job& job, FinishReason reason,
                           const absl::Status& status) {
  if (job.group != nullptr && --job.group->waiting == 0) job.group->Forget();
  Finish(job, reason, status);
}

void GenerationLoop::Cancel(std::string_view id) {
  for (const auto& job : active_) {
    if (!job->finished && job->request.id == id)
      Leave(*job, FinishReason::kCancelled);
  }
  DropFinished();
  for (const auto& job : waiting_) {
    if (job->request.id == id) Leave(*job, FinishReason::kCancelled);
  }
  std::erase_if(waiting_, [](const auto& job) { return job->finished; });
}

void GenerationLoop::LeaveAll(FinishReason reason, const absl::Status& status) {
  for (const auto& job : active_) {
    if (!job->finished) Leave(*job, reason, status);
  }
  active_.clear();
  for (const auto& job : waiting_) Leave(*job, reason, status);
  waiting_.clear();
}

void GenerationLoop::CancelAll() {
  LeaveAll(FinishReason::kCancelled, absl::OkStatus());
}

void GenerationLoop::FailAll(const absl::Status& status) {
  LeaveAll(FinishReason::kFailed, status);
}

}  // namespace mpo::generation
