// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/ScalarType.h>

#include <filesystem>
#include <memory>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "mpo/base/mutex.h"
#include "mpo/model/language_model.h"
#include "mpo/weights/published_weights.h"

namespace mpo::policy_learner {

// Versions of the policy as Hugging Face directories `step_<N>` below one
// directory, whole or not there: written aside, synced, renamed. An adapter is
// merged into the base. `mpo.json` in each names version and weights digest.
// Thread-safe; one version is written at a time.
class ModelDirectories {
 public:
  struct Options {
    std::filesystem::path directory = {};
    int kept = 2;  // Newest ones that stay, >= 1.
    at::ScalarType dtype = at::kFloat;
    std::filesystem::path model = {};  // Its tokenizer files go along.
  };
  using Published = std::shared_ptr<const weights::PublishedWeights>;

  // Makes the directory and takes what a killed process left half-written
  // away. UNAVAILABLE when it cannot be written to.
  static absl::StatusOr<std::unique_ptr<ModelDirectories>> Create(
      Options options, std::shared_ptr<const model::LanguageModel> base);

  // The absolute path of the version's directory, which stays until Release is
  // called as often as Write was. A directory that has the same weights already
  // is left as it is, one of a former run is replaced. Then older ones beyond
  // `kept` that nobody holds are deleted; newer ones of a former run are left
  // alone. RESOURCE_EXHAUSTED, before anything is written, when the disk lacks
  // room; UNAVAILABLE, INVALID_ARGUMENT (weights that do not fit the base).
  absl::StatusOr<std::filesystem::path> Write(const Published& published)
      ABSL_LOCKS_EXCLUDED(mu_);
  void Release(PolicyVersion version) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  ModelDirectories(Options options,
                   std::shared_ptr<const model::LanguageModel> base)
      : options_(std::move(options)), base_(std::move(base)) {}
  std::filesystem::path PathOf(PolicyVersion version) const;
  absl::StatusOr<std::shared_ptr<const model::LanguageModel>> Merged(
      const Published& published) const;
  absl::Status Fill(const Published& published,
                    const std::filesystem::path& directory) const;
  absl::Status WriteAside(const Published& published,
                          const std::filesystem::path& path)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status Prune(PolicyVersion newest) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Options options_;
  const std::shared_ptr<const model::LanguageModel> base_;
  Mutex mu_;
  std::multiset<PolicyVersion> held_ ABSL_GUARDED_BY(mu_);
};

}  // namespace mpo::policy_learner
