// SPDX-License-Identifier: Apache-2.0
#include "mpo/text/added_tokens.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"
#include "mpo/text/bpe.h"
#include "mpo/text/unicode_classes.h"

namespace mpo::text {
namespace {

using nlohmann::json;

constexpr size_t kMaxAddedTokens = 65'536;
constexpr size_t kMaxContentBytes = 1024;

absl::StatusOr<bool> Flag(const json& entry, const char* key, size_t index) {
  const auto found = entry.find(key);
  if (found == entry.end()) return false;
  if (!found->is_boolean()) {
    return absl::InvalidArgumentError(
        absl::StrCat("added_tokens[", index, "].", key,
                     " must be a boolean, got ", found->type_name()));
  }
  return found->get<bool>();
}

absl::StatusOr<AddedToken> ParseOne(const json& entry, size_t index) {
  const std::string where = absl::StrCat("added_tokens[", index, "]");
  if (!entry.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": expected an object, got ", entry.type_name()));
  }
  const json id = entry.value("id", json());
  if (!id.is_number_unsigned() || id.get<uint64_t>() >= Bpe::kMaxVocabulary) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ".id is ", id.dump().substr(0, 32),
                     ", expected 0 to ", Bpe::kMaxVocabulary - 1));
  }
  const json content = entry.value("content", json());
  if (!content.is_string() || content.get_ref<const std::string&>().empty() ||
      content.get_ref<const std::string&>().size() > kMaxContentBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ".content must be a string of 1 to ",
                     kMaxContentBytes, " bytes"));
  }
  AddedToken token;
  token.id = static_cast<int32_t>(id.get<uint64_t>());
  token.content = content.get<std::string>();
  MPO_ASSIGN_OR_RETURN(token.special, Flag(entry, "special", index));
  MPO_ASSIGN_OR_RETURN(token.normalized, Flag(entry, "normalized", index));
  MPO_ASSIGN_OR_RETURN(token.lstrip, Flag(entry, "lstrip", index));
  MPO_ASSIGN_OR_RETURN(token.rstrip, Flag(entry, "rstrip", index));
  MPO_ASSIGN_OR_RETURN(token.single_word, Flag(entry, "single_word", index));
  return token;
}

}  // namespace

absl::StatusOr<std::vector<AddedToken>> ParseAddedTokens(const json& list) {
  std::vector<AddedToken> tokens;
  if (list.is_null()) return tokens;
  if (!list.is_array() || list.size() > kMaxAddedTokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("added_tokens: expected a list of at most ",
                     kMaxAddedTokens, " tokens"));
  }
  std::unordered_set<int32_t> ids;
  std::unordered_set<std::string> contents;
  for (size_t i = 0; i < list.size(); ++i) {
    MPO_ASSIGN_OR_RETURN(AddedToken token, ParseOne(list[i], i));
    if (!ids.insert(token.id).second ||
        !contents.insert(token.content).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("added_tokens[", i, "]: id ", token.id, " or \"",
                       token.content, "\" stands there twice"));
    }
    tokens.push_back(std::move(token));
  }
  return tokens;
}

void TokenFinder::Add(const std::string& content, const AddedToken& token) {
  tokens_[content] = token;
  auto& lengths = lengths_[static_cast<uint8_t>(content[0])];
  if (std::find(lengths.begin(), lengths.end(), content.size()) ==
      lengths.end()) {
    lengths.push_back(content.size());
    std::sort(lengths.rbegin(), lengths.rend());
  }
}

const AddedToken* TokenFinder::Longest(std::string_view whole, size_t at,
                                       size_t& length) const {
  for (const size_t size : lengths_[static_cast<uint8_t>(whole[at])]) {
    if (size > whole.size() - at) continue;
    const auto found = tokens_.find(std::string(whole.substr(at, size)));
    if (found == tokens_.end()) continue;
    length = size;
    return &found->second;
  }
  return nullptr;
}

void TokenFinder::Walk(std::string_view whole,
                       const std::function<void(std::string_view)>& text,
                       const std::function<void(int32_t)>& token) const {
  size_t done = 0;
  for (size_t at = 0; at < whole.size();) {
    size_t length = 0;
    const AddedToken* found = Longest(whole, at, length);
    if (found == nullptr) {
      ++at;
      continue;
    }
    size_t begin = at;
    size_t end = at + length;
    at = end;
    if (found->single_word && (EndsWithWord(whole.substr(0, begin)) ||
                               StartsWithWord(whole.substr(end)))) {
      continue;
    }
    // An earlier token may have taken the spaces already.
    if (found->lstrip)
      begin = std::max(done, begin - SpacesAtEnd(whole.substr(0, begin)));
    if (found->rstrip) end += SpacesAtStart(whole.substr(end));
    if (begin > done) text(whole.substr(done, begin - done));
    token(found->id);
    done = end;
  }
  if (done < whole.size()) text(whole.substr(done));
}

}  // namespace mpo::text
