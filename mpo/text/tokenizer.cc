// SPDX-License-Identifier: Apache-2.0
#include "mpo/text/tokenizer.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"
#include "mpo/text/json_file.h"
#include "mpo/text/utf8.h"

namespace mpo::text {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxConfigBytes = uint64_t{1} << 20;

absl::Status WithFile(const std::filesystem::path& path,
                      const absl::Status& status) {
  return absl::Status(
      status.code(),
      absl::StrCat(path.string(), ": ", std::string(status.message())));
}

absl::StatusOr<std::vector<int32_t>> ReadEosIds(const json& value) {
  std::vector<int32_t> ids;
  const std::vector<json> list =
      value.is_array() ? value.get<std::vector<json>>() : std::vector{value};
  for (const json& id : list) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= Bpe::kMaxVocabulary) {
      return absl::InvalidArgumentError(absl::StrCat(
          "eos_token_id is ", value.dump().substr(0, 64),
          ", expected an id or a list of ids below ", Bpe::kMaxVocabulary));
    }
    ids.push_back(static_cast<int32_t>(id.get<uint64_t>()));
  }
  return ids;
}

// generation_config.json decides, config.json where it does not say.
absl::StatusOr<std::vector<int32_t>> LoadEosIds(
    const std::filesystem::path& dir) {
  for (const char* name : {"generation_config.json", "config.json"}) {
    const std::filesystem::path path = dir / name;
    auto root = ReadJsonObject(path, kMaxConfigBytes);
    if (absl::IsNotFound(root.status())) continue;
    MPO_RETURN_IF_ERROR(root.status());
    const auto found = root->find("eos_token_id");
    if (found == root->end() || found->is_null()) continue;
    auto ids = ReadEosIds(*found);
    if (!ids.ok()) return WithFile(path, ids.status());
    if (!ids->empty()) return ids;
  }
  return absl::InvalidArgumentError(
      absl::StrCat(dir.string(),
                   ": eos_token_id is neither in generation_config.json nor in "
                   "config.json"));
}

std::string TypeOf(const json& spec) {
  const auto type = spec.is_object() ? spec.find("type") : spec.end();
  if (!spec.is_object() || type == spec.end() || !type->is_string()) return "";
  return type->get<std::string>();
}

}  // namespace

absl::StatusOr<Tokenizer> Tokenizer::Load(const std::filesystem::path& dir) {
  MPO_RETURN_IF_ERROR(CheckDirectory(dir, "a Hugging Face model directory"));
  const std::filesystem::path path = dir / "tokenizer.json";
  MPO_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path, kMaxFileBytes));
  MPO_ASSIGN_OR_RETURN(std::vector<int32_t> eos_ids, LoadEosIds(dir));
  auto tokenizer = Parse(bytes, std::move(eos_ids));
  if (!tokenizer.ok()) return WithFile(path, tokenizer.status());
  return tokenizer;
}

absl::StatusOr<Tokenizer> Tokenizer::Parse(std::string_view tokenizer_json,
                                           std::vector<int32_t> eos_ids) {
  if (tokenizer_json.size() > kMaxFileBytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("tokenizer of ", tokenizer_json.size(), " bytes, at most ",
                     kMaxFileBytes));
  }
  MPO_ASSIGN_OR_RETURN(const json root,
                       ParseJsonObject(tokenizer_json, "tokenizer"));
  Tokenizer result;
  const auto model = root.find("model");
  if (model == root.end()) return absl::InvalidArgumentError("no model");
  MPO_ASSIGN_OR_RETURN(result.bpe_, Bpe::Parse(*model));
  MPO_ASSIGN_OR_RETURN(result.normalizer_,
                       Normalizer::Parse(root.value("normalizer", json())));
  MPO_RETURN_IF_ERROR(result.ReadDecoder(root));
  MPO_RETURN_IF_ERROR(result.ReadTokens(root));
  MPO_RETURN_IF_ERROR(
      result.ReadPostProcessor(root.value("post_processor", json())));
  if (eos_ids.empty()) return absl::InvalidArgumentError("no end token");
  for (const int32_t id : eos_ids) {
    if (id < 0 || id >= result.vocab_size()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "end token ", id, " is not one of ", result.vocab_size(), " tokens"));
    }
  }
  result.eos_ids_ = std::move(eos_ids);
  return result;
}

absl::Status Tokenizer::ReadTokens(const json& root) {
  MPO_ASSIGN_OR_RETURN(const std::vector<AddedToken> added,
                       ParseAddedTokens(root.value("added_tokens", json())));
  std::unordered_map<int32_t, std::string> texts;
  for (const auto& [token, id] : bpe_.vocabulary()) {
    if (!texts.emplace(id, token).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("model: id ", id, " stands for two tokens"));
    }
  }
  for (const AddedToken& token : added) {
    const auto in_vocab = bpe_.vocabulary().find(token.content);
    const auto by_id = texts.find(token.id);
    if ((in_vocab != bpe_.vocabulary().end() && in_vocab->second != token.id) ||
        (by_id != texts.end() && by_id->second != token.content)) {
      return absl::InvalidArgumentError(
          absl::StrCat("added token \"", token.content, "\" with id ", token.id,
                       " contradicts the vocabulary"));
    }
    texts[token.id] = token.content;
  }
  bytes_.resize(texts.size());
  special_.resize(texts.size());
  is_byte_.resize(texts.size());
  for (const auto& [id, token] : texts) {
    if (static_cast<size_t>(id) >= texts.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("token ids must be 0 to ", texts.size() - 1,
                       ", each once; there is id ", id));
    }
    const auto byte = bpe_.ByteOf(id);
    is_byte_[id] = byte.has_value();
    if (byte.has_value()) {
      bytes_[id] = std::string(1, static_cast<char>(*byte));
    } else if (!decoder_.byte_level) {
      bytes_[id] =
          decoder_.replaced.empty()
              ? token
              : absl::StrReplaceAll(
                    token, {{decoder_.replaced, decoder_.replacement}});
    } else {
      bytes_[id] = BytesOfAlphabet(token).value_or(token);
    }
  }
  for (const AddedToken& token : added) {
    special_[token.id] = token.special;
    added_ids_[token.content] = token.id;
    std::string content = token.content;
    if (token.normalized) {
      MPO_ASSIGN_OR_RETURN(content, normalizer_.Apply(content));
      if (content.empty()) {
        return absl::InvalidArgumentError(absl::StrCat(
            "added token ", token.id, " is normalised to nothing"));
      }
    }
    (token.normalized ? normalized_tokens_ : raw_tokens_).Add(content, token);
  }
  return absl::OkStatus();
}

absl::Status Tokenizer::ReadDecoder(const json& root) {
  const bool fallback = bpe_.byte_fallback();
  const json pre_tokenizer = root.value("pre_tokenizer", json());
  if (!fallback || !pre_tokenizer.is_null()) {
    MPO_ASSIGN_OR_RETURN(pre_tokenizer_, PreTokenizer::Parse(pre_tokenizer));
  }
  MPO_ASSIGN_OR_RETURN(decoder_,
                       TokenDecoder::Parse(root.value("decoder", json())));
  if (fallback != decoder_.byte_level &&
      (!fallback || pre_tokenizer.is_null())) {
    return absl::OkStatus();
  }
  return absl::UnimplementedError(
      "decoder, pre_tokenizer and model: known are ByteLevel, ByteLevel and "
      "byte_fallback false, or ByteFallback, null and byte_fallback true");
}

absl::Status Tokenizer::ReadPostProcessor(const json& spec) {
  if (spec.is_null()) return absl::OkStatus();
  const std::string type = TypeOf(spec);
  if (type == "ByteLevel") return absl::OkStatus();  // Offsets only.
  if (type == "TemplateProcessing") return ReadTemplate(spec);
  if (type == "Sequence" && spec.contains("processors") &&
      spec["processors"].is_array()) {
    for (const json& step : spec["processors"]) {
      MPO_RETURN_IF_ERROR(ReadPostProcessor(step));
    }
    return absl::OkStatus();
  }
  return absl::UnimplementedError(
      absl::StrCat("post_processor: type \"", type,
                   "\", known are ByteLevel, TemplateProcessing, Sequence"));
}

absl::Status Tokenizer::ReadTemplate(const json& spec) {
  const json single = spec.value("single", json());
  if (!single.is_array() || !prefix_.empty() || !suffix_.empty()) {
    return absl::InvalidArgumentError(
        "post_processor: expected one TemplateProcessing with a list single");
  }
  bool after = false;
  for (const json& item : single) {
    if (item.is_object() && item.contains("Sequence")) {
      if (after) {
        return absl::InvalidArgumentError(
            "post_processor: single names the sequence twice");
      }
      after = true;
      continue;
    }
    const json token =
        item.is_object() ? item.value("SpecialToken", json()) : json();
    const json name = token.is_object() ? token.value("id", json()) : json();
    const auto id = name.is_string() ? IdOf(name.get<std::string>())
                                     : std::optional<int32_t>();
    if (!id.has_value()) {
      return absl::InvalidArgumentError(
          absl::StrCat("post_processor: ", item.dump().substr(0, 128),
                       " names no token of this tokenizer"));
    }
    (after ? suffix_ : prefix_).push_back(*id);
  }
  if (!after) {
    return absl::InvalidArgumentError(
        "post_processor: single does not hold the sequence");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int32_t>> Tokenizer::Encode(
    std::string_view text, bool add_special_tokens) const {
  if (text.size() > kMaxTextBytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "text of ", text.size(), " bytes, at most ", kMaxTextBytes));
  }
  if (const auto at = FirstInvalidUtf8(text)) {
    return absl::InvalidArgumentError(
        absl::StrCat("text is not utf-8 at byte ", *at));
  }
  std::vector<int32_t> ids;
  if (add_special_tokens) ids = prefix_;
  absl::Status status;
  const auto keep = [&](int32_t id) { ids.push_back(id); };
  const auto words = [&](std::string_view piece) {
    auto split = pre_tokenizer_.Split(piece);
    if (!split.ok()) {
      status.Update(split.status());
      return;
    }
    for (const std::string& word : *split) bpe_.Encode(word, ids);
  };
  raw_tokens_.Walk(
      text,
      [&](std::string_view piece) {
        if (normalizer_.empty())
          return normalized_tokens_.Walk(piece, words, keep);
        const auto normal = normalizer_.Apply(piece);
        if (!normal.ok()) return status.Update(normal.status());
        normalized_tokens_.Walk(*normal, words, keep);
      },
      keep);
  MPO_RETURN_IF_ERROR(status);
  if (add_special_tokens) ids.insert(ids.end(), suffix_.begin(), suffix_.end());
  return ids;
}

absl::StatusOr<std::string> Tokenizer::BytesOf(int32_t id) const {
  if (id < 0 || id >= vocab_size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("token id ", id, " is outside 0 to ", vocab_size() - 1));
  }
  return bytes_[id];
}

absl::StatusOr<std::string> Tokenizer::Decode(absl::Span<const int32_t> ids,
                                              bool skip_special) const {
  IncrementalDecoder decoder(*this, skip_special);
  std::string text;
  for (const int32_t id : ids) {
    MPO_ASSIGN_OR_RETURN(const std::string more, decoder.Push(id));
    text += more;
  }
  return text + decoder.Finish();
}

std::optional<int32_t> Tokenizer::IdOf(const std::string& token) const {
  for (const auto* map : {&added_ids_, &bpe_.vocabulary()}) {
    const auto found = map->find(token);
    if (found != map->end()) return found->second;
  }
  return std::nullopt;
}

bool Tokenizer::IsSpecial(int32_t id) const {
  return id >= 0 && id < vocab_size() && special_[id];
}

bool Tokenizer::IsByte(int32_t id) const {
  return id >= 0 && id < vocab_size() && is_byte_[id];
}

absl::StatusOr<std::string> IncrementalDecoder::Push(int32_t id) {
  std::string text;
  if (id >= tokenizer_.vocab_size()) return text;
  MPO_ASSIGN_OR_RETURN(const std::string bytes, tokenizer_.BytesOf(id));
  if (skip_special_ && tokenizer_.IsSpecial(id)) return text;
  if (!tokenizer_.decoder().byte_level) return PushFallback(id, bytes);
  pending_ += bytes;
  DrainUtf8(pending_, /*final=*/false, text);
  return text;
}

std::string IncrementalDecoder::PushFallback(int32_t id,
                                             const std::string& bytes) {
  if (tokenizer_.IsByte(id)) {
    pending_ += bytes;
    return "";
  }
  std::string text = EndOfRun() + bytes;
  if (at_start_ && !text.empty()) {
    at_start_ = false;
    if (tokenizer_.decoder().strip_space && text[0] == ' ') text.erase(0, 1);
  }
  return text;
}

std::string IncrementalDecoder::EndOfRun() {
  std::string run = std::move(pending_);
  pending_.clear();
  if (!FirstInvalidUtf8(run).has_value()) return run;
  std::string text;
  for (size_t i = 0; i < run.size(); ++i) text += "\uFFFD";
  return text;
}

std::string IncrementalDecoder::Finish() {
  std::string text;
  if (tokenizer_.decoder().byte_level) {
    DrainUtf8(pending_, /*final=*/true, text);
    return text;
  }
  text = EndOfRun();
  if (at_start_ && tokenizer_.decoder().strip_space && !text.empty() &&
      text[0] == ' ') {
    text.erase(0, 1);
  }
  at_start_ = true;
  return text;
}

}  // namespace mpo::text
