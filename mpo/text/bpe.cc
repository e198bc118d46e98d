// SPDX-License-Identifier: Apache-2.0
#include "mpo/text/bpe.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <queue>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "mpo/base/status_macros.h"
#include "mpo/text/utf8.h"

namespace mpo::text {
namespace {

using nlohmann::json;

constexpr size_t kMaxTokenBytes = 16 * 1024;

uint64_t PairKey(int32_t left, int32_t right) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) |
         static_cast<uint32_t>(right);
}

// What byte-level models leave at its neutral value.
absl::Status CheckPlain(const json& spec) {
  for (const char* key :
       {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
    const auto found = spec.find(key);
    if (found == spec.end() || found->is_null() || *found == json(false) ||
        *found == json("") || *found == json(0.0)) {
      continue;
    }
    return absl::UnimplementedError(
        absl::StrCat("model: ", key, " is set, which is not supported"));
  }
  return absl::OkStatus();
}

// The two halves of a merge, written "a b" or ["a", "b"].
absl::StatusOr<std::pair<std::string, std::string>> Halves(const json& merge,
                                                           size_t index) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
      merge[1].is_string()) {
    return std::pair(merge[0].get<std::string>(), merge[1].get<std::string>());
  }
  if (merge.is_string()) {
    const auto& both = merge.get_ref<const std::string&>();
    const size_t space = both.find(' ');
    if (space != std::string::npos &&
        both.find(' ', space + 1) == std::string::npos) {
      return std::pair(both.substr(0, space), both.substr(space + 1));
    }
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "model: merge ", index, " is neither \"a b\" nor [\"a\", \"b\"]"));
}

}  // namespace

absl::StatusOr<Bpe> Bpe::Parse(const json& spec) {
  if (!spec.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat("model: expected an object, got ", spec.type_name()));
  }
  const auto type = spec.find("type");
  if (type != spec.end() && *type != "BPE") {
    return absl::UnimplementedError(
        absl::StrCat("model: type ", type->dump(), ", only BPE is known"));
  }
  MPO_RETURN_IF_ERROR(CheckPlain(spec));
  Bpe bpe;
  for (const auto& [key, target] :
       {std::pair("ignore_merges", &bpe.ignore_merges_),
        std::pair("byte_fallback", &bpe.byte_fallback_)}) {
    const auto found = spec.find(key);
    if (found == spec.end() || found->is_null()) continue;
    if (!found->is_boolean()) {
      return absl::InvalidArgumentError(
          absl::StrCat("model: ", key, " must be a boolean"));
    }
    *target = found->get<bool>();
  }
  MPO_RETURN_IF_ERROR(bpe.ReadVocabulary(spec.value("vocab", json())));
  MPO_RETURN_IF_ERROR(bpe.ReadMerges(spec.value("merges", json())));
  MPO_RETURN_IF_ERROR(bpe.ReadByteIds(spec));
  return bpe;
}

absl::Status Bpe::ReadByteIds(const json& spec) {
  const auto unknown = spec.find("unk_token");
  for (int b = 0; b < 256; ++b) {
    const std::string token =
        byte_fallback_ ? absl::StrFormat("<0x%02X>", b) : AlphabetOf(b);
    const auto found = vocabulary_.find(token);
    byte_ids_[b] = found == vocabulary_.end() ? -1 : found->second;
    if (byte_ids_[b] >= 0) continue;
    if (byte_fallback_) {
      return absl::InvalidArgumentError(absl::StrCat(
          "model: byte_fallback, but vocab lacks \"", token, "\""));
    }
    if (unknown != spec.end() && !unknown->is_null()) {
      return absl::UnimplementedError(absl::StrCat(
          "model: unk_token with a vocabulary that lacks byte ", b));
    }
  }
  return absl::OkStatus();
}

std::optional<uint8_t> Bpe::ByteOf(int32_t id) const {
  if (!byte_fallback_) return std::nullopt;
  const auto found = std::find(byte_ids_.begin(), byte_ids_.end(), id);
  if (found == byte_ids_.end()) return std::nullopt;
  return static_cast<uint8_t>(found - byte_ids_.begin());
}

std::vector<int32_t> Bpe::Symbols(std::string_view word) const {
  std::vector<int32_t> ids;
  ids.reserve(word.size());
  for (size_t at = 0; at < word.size();) {
    size_t length = 1;
    if (byte_fallback_) {
      DecodedChar c;
      DecodeChar(word.substr(at), c);
      length = static_cast<size_t>(c.length);
      const auto found = vocabulary_.find(std::string(word.substr(at, length)));
      if (found != vocabulary_.end()) {
        ids.push_back(found->second);
        at += length;
        continue;
      }
    }
    for (const char byte : word.substr(at, length)) {
      const int32_t id = byte_ids_[static_cast<uint8_t>(byte)];
      if (id >= 0) ids.push_back(id);
    }
    at += length;
  }
  return ids;
}

absl::Status Bpe::ReadVocabulary(const json& vocab) {
  if (!vocab.is_object() || vocab.empty()) {
    return absl::InvalidArgumentError(
        "model: vocab must be an object with at least one token");
  }
  if (vocab.size() > kMaxVocabulary) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "model: ", vocab.size(), " tokens, at most ", kMaxVocabulary));
  }
  vocabulary_.reserve(vocab.size());
  for (const auto& [token, id] : vocab.items()) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= kMaxVocabulary) {
      return absl::InvalidArgumentError(absl::StrCat(
          "model: vocab \"", token.substr(0, 64), "\" has id ",
          id.dump().substr(0, 32), ", expected 0 to ", kMaxVocabulary - 1));
    }
    if (token.empty() || token.size() > kMaxTokenBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("model: token of id ", id.get<uint64_t>(), " has ",
                       token.size(), " bytes, expected 1 to ", kMaxTokenBytes));
    }
    vocabulary_.emplace(token, static_cast<int32_t>(id.get<uint64_t>()));
  }
  return absl::OkStatus();
}

absl::Status Bpe::ReadMerges(const json& merges) {
  if (!merges.is_array()) {
    return absl::InvalidArgumentError(
        absl::StrCat("model: merges must be a list, got ", merges.type_name()));
  }
  if (merges.size() > kMaxMerges) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "model: ", merges.size(), " merges, at most ", kMaxMerges));
  }
  merges_.reserve(merges.size());
  for (size_t i = 0; i < merges.size(); ++i) {
    MPO_ASSIGN_OR_RETURN(const auto halves, Halves(merges[i], i));
    const auto left = vocabulary_.find(halves.first);
    const auto right = vocabulary_.find(halves.second);
    const auto whole = vocabulary_.find(halves.first + halves.second);
    if (left == vocabulary_.end() || right == vocabulary_.end() ||
        whole == vocabulary_.end()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "model: merge ", i, " (\"", halves.first.substr(0, 64), "\", \"",
          halves.second.substr(0, 64), "\") uses a token not in vocab"));
    }
    // As in the reference implementation, a repeated merge takes the last rank.
    merges_[PairKey(left->second, right->second)] = {static_cast<uint32_t>(i),
                                                     whole->second};
  }
  return absl::OkStatus();
}

void Bpe::Encode(std::string_view word, std::vector<int32_t>& ids) const {
  if (ignore_merges_) {
    std::string key(byte_fallback_ ? word : std::string_view());
    if (!byte_fallback_) {
      for (const char c : word) key += AlphabetOf(static_cast<uint8_t>(c));
    }
    const auto found = vocabulary_.find(key);
    if (found != vocabulary_.end()) {
      ids.push_back(found->second);
      return;
    }
  }
  struct Symbol {
    int32_t id;
    int previous;
    int next;
  };
  std::vector<Symbol> symbols;
  symbols.reserve(word.size());
  for (const int32_t id : Symbols(word)) {
    const int at = static_cast<int>(symbols.size());
    symbols.push_back({id, at - 1, at + 1});
  }
  if (symbols.empty()) return;
  symbols.back().next = -1;

  struct Candidate {
    uint32_t rank;
    int at;  // Left symbol.
    int32_t merged;
    bool operator>(const Candidate& other) const {
      return std::pair(rank, at) > std::pair(other.rank, other.at);
    }
  };
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto consider = [&](int at) {
    if (at < 0 || symbols[at].next < 0) return;
    const auto found =
        merges_.find(PairKey(symbols[at].id, symbols[symbols[at].next].id));
    if (found == merges_.end()) return;
    queue.push({found->second.rank, at, found->second.id});
  };
  for (size_t i = 0; i < symbols.size(); ++i) consider(static_cast<int>(i));
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    Symbol& left = symbols[best.at];
    if (left.id < 0 || left.next < 0) continue;  // Merged away.
    Symbol& right = symbols[left.next];
    const auto found = merges_.find(PairKey(left.id, right.id));
    if (found == merges_.end() || found->second.id != best.merged) continue;
    left.id = best.merged;
    right.id = -1;
    left.next = right.next;
    if (left.next >= 0) symbols[left.next].previous = best.at;
    consider(left.previous);
    consider(best.at);
  }
  for (int at = 0; at >= 0; at = symbols[at].next) {
    ids.push_back(symbols[at].id);
  }
}

}  // namespace mpo::text
