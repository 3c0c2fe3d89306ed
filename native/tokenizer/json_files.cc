// Hugging Face's tokenizer.json and tokenizer_config.json, and the choice among all tokenizer files.
#include <algorithm>
#include <unordered_map>
#include <utility>

#include "core/error.h"
#include "core/json.h"
#include "tokenizer/json_pipeline.h"
#include "tokenizer/rank_files.h"
#include "tokenizer/unicode.h"
#include "tokenizer/vocabulary_files.h"

namespace cria {
namespace {

constexpr std::size_t kMaxId = std::size_t{1} << 24;

std::optional<TokenId> find_token(const VocabularySource& source, std::string_view spelling) {
  // From the end, where added tokens stand.
  const auto found = std::find(source.tokens.rbegin(), source.tokens.rend(), spelling);
  if (found == source.tokens.rend()) return std::nullopt;
  return static_cast<TokenId>(source.tokens.rend() - found - 1);
}

void check_steps(const std::string& name, std::optional<JsonValue> value, std::string_view list,
                 std::initializer_list<std::string_view> known) {
  if (!value) return;
  const std::string_view type = value->get("type").as_string();
  if (type == "Sequence") {
    for (const JsonValue& step : value->get(list).elements()) {
      const std::string_view inner = step.get("type").as_string();
      if (std::find(known.begin(), known.end(), inner) == known.end())
        refuse_tokenizer(name, step.path(), *known.begin(), inner);
    }
  } else if (std::find(known.begin(), known.end(), type) == known.end()) {
    refuse_tokenizer(name, value->path(), *known.begin(), type);
  }
}

class TokenizerJsonReader {
 public:
  TokenizerJsonReader(const JsonDocument& document)
      : name_(document.name()), document_(document), root_(document.root()), model_(root_.get("model")) {}

  VocabularySource read() {
    check_model();
    const auto ignore = model_.find("ignore_merges");
    source_.whole_pieces = ignore && ignore->as_bool();
    read_pipeline(document_, source_);
    if (source_.kind == TokenizerKind::sentencepiece) source_.whole_pieces.reset();
    check_steps(name_, root_.find("decoder"), "decoders",
                {"ByteLevel", "Metaspace", "Replace", "ByteFallback", "Fuse", "Strip"});
    read_vocabulary();
    read_merges();
    read_added_tokens();
    set_unknown();
    read_post_processor();
    guess_end();
    for (const char* key : {"truncation", "padding"}) {
      if (root_.find(key)) source_.warnings.push_back(std::string(key) + " of tokenizer.json is ignored");
    }
    return std::move(source_);
  }

 private:
  void check_model() const {
    const auto type = model_.find("type");
    if (type && type->as_string() != "BPE")
      refuse_tokenizer(name_, "model.type", "BPE", to_well_formed(type->as_string().substr(0, 40)));
    if (!type && !model_.find("merges")) refuse_tokenizer(name_, "model", "BPE", "no merges");
    if (const auto dropout = model_.find("dropout"); dropout && dropout->as_number() != 0)
      refuse_tokenizer(name_, "model.dropout", "none", std::to_string(dropout->as_number()));
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      const auto affix = model_.find(key);
      if (affix && !affix->as_string().empty())
        refuse_tokenizer(name_, "model." + std::string(key), "none", affix->as_string());
    }
  }

  void read_vocabulary() {
    const JsonValue vocab = model_.get("vocab");
    const auto added = root_.find("added_tokens");
    limit_ = 2 * (vocab.size() + (added ? added->size() : 0)) + 1024;
    for (const JsonMember& member : vocab.members()) {
      const std::size_t id = checked_id(member.value);
      reach(id);
      if (!source_.tokens[id].empty() || (id == empty_id_))
        member.value.fail("an id of its own", std::to_string(id) + " a second time");
      if (member.key.empty()) empty_id_ = id;
      source_.tokens[id] = member.key;
      source_.types[id] = TokenType::normal;
    }
    const auto fallback = model_.find("byte_fallback");
    byte_fallback_ = fallback && fallback->as_bool();
    if (source_.kind != TokenizerKind::sentencepiece || !byte_fallback_) return;
    for (std::size_t id = 0; id < source_.tokens.size(); ++id) {
      if (is_byte_piece(source_.tokens[id])) source_.types[id] = TokenType::byte;
    }
  }

  std::size_t checked_id(const JsonValue& value) const {
    const std::uint64_t id = value.as_size();
    const std::size_t limit = std::min(limit_, kMaxId);
    // Ids with few gaps: an array of them cannot take much more memory than the file.
    if (id >= limit) value.fail("an id below " + std::to_string(limit), std::to_string(id));
    return static_cast<std::size_t>(id);
  }
  void reach(std::size_t id) {
    if (id < source_.tokens.size()) return;
    source_.tokens.resize(id + 1);
    source_.types.resize(id + 1, TokenType::unused);
  }

  static bool is_byte_piece(std::string_view s) {
    const auto hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'); };
    return s.size() == 6 && s.starts_with("<0x") && hex(s[3]) && hex(s[4]) && s[5] == '>';
  }

  void read_merges() {
    const auto merges = model_.find("merges");
    if (!merges) return;
    source_.merges.reserve(merges->size());
    for (const JsonValue& merge : merges->elements()) {
      std::string& pair = source_.merges.emplace_back();
      if (merge.is(JsonType::string)) {
        pair = merge.as_string();
        continue;
      }
      if (merge.size() != 2) merge.fail("a pair of pieces", "an array of " + std::to_string(merge.size()));
      for (const JsonValue& half : merge.elements()) {
        if (half.as_string().find(' ') != std::string_view::npos)
          half.fail("a piece without spaces", "a space");
        pair.append(pair.empty() ? "" : " ").append(half.as_string());
      }
    }
    if (source_.merges.empty() && source_.kind == TokenizerKind::bpe)
      merges->fail("merges", "an empty array");
    if (source_.kind == TokenizerKind::sentencepiece) score_by_merges();
  }

  /// Scores that order the pieces as their first merges do, for files that hold scores alone.
  void score_by_merges() {
    source_.scores.assign(source_.tokens.size(), 0);
    std::unordered_map<std::string_view, std::size_t> ids;
    for (std::size_t id = 0; id < source_.tokens.size(); ++id) ids.emplace(source_.tokens[id], id);
    std::string piece;
    for (std::size_t i = source_.merges.size(); i-- > 0;) {
      const std::string& merge = source_.merges[i];
      const std::size_t space = merge.find(' ', 1);
      if (space == merge.npos) continue;  // the encoder refuses it
      piece.assign(merge, 0, space).append(merge, space + 1);
      if (const auto found = ids.find(piece); found != ids.end())
        source_.scores[found->second] = -static_cast<float>(i);
    }
  }

  void read_added_tokens() {
    const auto added = root_.find("added_tokens");
    if (!added) return;
    bool trims = false;
    for (const JsonValue& token : added->elements()) {
      const JsonValue content = token.get("content");
      const std::size_t id = checked_id(token.get("id"));
      if (content.as_string().empty()) content.fail("a spelling", "an empty string");
      reach(id);
      if (!source_.tokens[id].empty() && source_.tokens[id] != content.as_string())
        content.fail("the spelling of id " + std::to_string(id) + " in the vocabulary", "another one");
      source_.tokens[id] = content.as_string();
      const auto special = token.find("special");
      source_.types[id] = special && special->as_bool() ? TokenType::control : TokenType::user_defined;
      for (const char* key : {"lstrip", "rstrip", "single_word"}) {
        const auto value = token.find(key);
        if (value && value->as_bool()) trims = true;
      }
    }
    if (trims) {
      source_.warnings.emplace_back(
          "added tokens with lstrip, rstrip or single_word are matched as if they had none of these");
    }
    for (std::size_t id = 0; id < source_.tokens.size(); ++id) {
      if (source_.types[id] == TokenType::unused && source_.tokens[id].empty())
        source_.tokens[id] = "[PAD" + std::to_string(id) + "]";
    }
    source_.scores.resize(source_.kind == TokenizerKind::sentencepiece ? source_.tokens.size() : 0);
  }

  void set_unknown() {
    const auto unknown = model_.find("unk_token");
    if (!unknown) return;
    source_.unk = find_token(source_, unknown->as_string());
    if (!source_.unk) unknown->fail("a token", to_well_formed(unknown->as_string().substr(0, 40)));
    if (source_.kind != TokenizerKind::sentencepiece) return check_bytes(*unknown);
    source_.types[*source_.unk] = TokenType::unknown;
    const auto fuse = model_.find("fuse_unk");
    if (!byte_fallback_ && !(fuse && fuse->as_bool()))
      refuse_tokenizer(name_, "model.fuse_unk", "true without byte_fallback", "false");
  }

  /// With an unknown token, a byte-level vocabulary must have a token for every byte: none is then unknown.
  void check_bytes(const JsonValue& unknown) const {
    for (unsigned byte = 0; byte < 256; ++byte) {
      std::string spelled;
      append_byte_alphabet(std::string(1, static_cast<char>(byte)), spelled);
      if (!model_.get("vocab").find(spelled) && is_utf8_byte(byte))
        refuse_tokenizer(name_, unknown.path(), "none, or a token for every byte",
                         "none for byte " + std::to_string(byte));
    }
  }
  static bool is_utf8_byte(unsigned byte) { return byte != 0xc0 && byte != 0xc1 && byte < 0xf5; }

  void read_post_processor() {
    const auto processor = root_.find("post_processor");
    check_steps(name_, processor, "processors", {"TemplateProcessing", "ByteLevel"});
    if (!processor) return;
    const bool sequence = processor->get("type").as_string() == "Sequence";
    if (!sequence) return read_template(*processor);
    for (const JsonValue& step : processor->get("processors").elements()) read_template(step);
  }

  void read_template(const JsonValue& step) {
    if (step.get("type").as_string() != "TemplateProcessing") return;
    std::vector<JsonValue> before, after;
    bool text = false;
    for (const JsonValue& part : step.get("single").elements()) {
      if (part.find("Sequence")) {
        text = true;
      } else {
        (text ? after : before).push_back(part.get("SpecialToken").get("id"));
      }
    }
    if (before.size() > 1 || after.size() > 1)
      refuse_tokenizer(name_, step.path(), "at most one token before and after the text", "more");
    source_.add_bos = !before.empty();
    source_.add_eos = !after.empty();
    const auto id_of = [&](const JsonValue& spelling) {
      const auto id = find_token(source_, spelling.as_string());
      if (!id) spelling.fail("a token", to_well_formed(spelling.as_string().substr(0, 40)));
      return *id;
    };
    if (!before.empty()) source_.bos = id_of(before[0]);
    if (!after.empty()) source_.eos = id_of(after[0]);
  }

  /// tokenizer.json names no EOS; tokenizer_config.json does.
  void guess_end() {
    if (source_.eos) return;
    for (const char* spelling : {"</s>", "<|end_of_text|>", "<|endoftext|>", "<|im_end|>"}) {
      const auto id = find_token(source_, spelling);
      if (!id || source_.types[*id] != TokenType::control) continue;
      source_.eos = id;
      return;
    }
  }

  const std::string& name_;
  const JsonDocument& document_;
  const JsonValue root_, model_;
  VocabularySource source_;
  std::size_t limit_ = kMaxId;
  std::size_t empty_id_ = kMaxId;
  bool byte_fallback_ = false;
};

bool is_json(std::string_view text) noexcept {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  return first != text.npos && text[first] == '{';
}

/// Base64, a space and a digit.
bool is_rank_file(std::string_view text) noexcept {
  constexpr std::string_view kBase64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";
  const std::size_t end = text.find_first_not_of(kBase64);
  return end != text.npos && end > 0 && end + 1 < text.size() && text[end] == ' ' && text[end + 1] >= '0' &&
         text[end + 1] <= '9';
}

/// The tag and the size of the first piece, then the tag and the size of its spelling, which is smaller.
bool is_sentencepiece(std::string_view bytes) noexcept {
  if (bytes.size() < 5 || bytes[0] != '\n') return false;
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  return at(1) < 0x80 ? bytes[2] == '\n' && at(3) < at(1) - 1 : bytes[3] == '\n';
}

/// A token in tokenizer_config.json: a string, or an object with `content`.
std::optional<std::string_view> config_token(const JsonValue& root, std::string_view key) {
  const auto value = root.find(key);
  if (!value) return std::nullopt;
  return value->is(JsonType::object) ? value->get("content").as_string() : value->as_string();
}

std::string config_template(const JsonValue& root) {
  const auto value = root.find("chat_template");
  if (!value) return {};
  if (value->is(JsonType::string)) return std::string(value->as_string());
  std::optional<JsonValue> chosen;
  for (const JsonValue& entry : value->elements()) {
    if (!chosen || entry.get("name").as_string() == "default") chosen = entry.get("template");
  }
  return chosen ? std::string(chosen->as_string()) : std::string();
}

}  // namespace

VocabularySource read_tokenizer_json(std::string json, const std::string& name) {
  const JsonDocument document = JsonDocument::parse(std::move(json), name);
  return TokenizerJsonReader(document).read();
}

void apply_tokenizer_config(std::string json, const std::string& name, VocabularySource& source) {
  const JsonDocument document = JsonDocument::parse(std::move(json), name);
  const JsonValue root = document.root();
  const auto set = [&](std::string_view key, std::optional<TokenId>& id) {
    const auto spelling = config_token(root, key);
    if (!spelling) return;
    if (const auto found = find_token(source, *spelling)) {
      id = found;
    } else {
      source.warnings.push_back(name + ": " + std::string(key) + " \"" +
                                to_well_formed(spelling->substr(0, 40)) + "\" is not a token; it is ignored");
    }
  };
  set("bos_token", source.bos);
  set("eos_token", source.eos);
  set("pad_token", source.pad);
  if (source.kind == TokenizerKind::sentencepiece) set("unk_token", source.unk);
  // Llama's own class writes the post-processor anew from these flags; for others the file's one counts.
  const auto tokenizer_class = root.find("tokenizer_class");
  const bool llama = tokenizer_class && (tokenizer_class->as_string() == "LlamaTokenizer" ||
                                         tokenizer_class->as_string() == "LlamaTokenizerFast" ||
                                         tokenizer_class->as_string() == "CodeLlamaTokenizer" ||
                                         tokenizer_class->as_string() == "CodeLlamaTokenizerFast");
  const auto set_flag = [&](std::string_view key, std::optional<bool>& flag) {
    const auto value = root.find(key);
    if (!value) return;
    const bool wanted = value->as_bool();
    if (llama || !flag) flag = wanted;
  };
  set_flag("add_bos_token", source.add_bos);
  set_flag("add_eos_token", source.add_eos);
  if (!source.add_bos) source.add_bos = llama || source.kind == TokenizerKind::sentencepiece;
  if (std::string chat_template = config_template(root); !chat_template.empty())
    source.chat_template = std::move(chat_template);
}

bool looks_like_tokenizer(std::string_view head) noexcept {
  return is_json(head) || is_rank_file(head) || is_sentencepiece(head);
}

VocabularySource read_vocabulary_file(std::string bytes, const std::string& name,
                                      std::optional<std::uint32_t> vocab_size) {
  if (is_rank_file(bytes)) return read_tiktoken_ranks(bytes, name, vocab_size);
  if (is_sentencepiece(bytes)) return read_sentencepiece_model(bytes, name);
  if (!is_json(bytes)) {
    throw Error(
        ErrorCode::unsupported_file,
        name + ": expected tokenizer.json, tekken.json, a SentencePiece model or a rank file of tiktoken",
        {{"path", name}});
  }
  const JsonDocument document = JsonDocument::parse(std::move(bytes), name);
  if (document.root().find("model")) return TokenizerJsonReader(document).read();
  if (document.root().find("config") && document.root().find("vocab")) return read_tekken(document);
  throw Error(
      ErrorCode::unsupported_file,
      name +
          ": expected tokenizer.json (with \"model\") or tekken.json (with \"config\" and \"vocab\"), "
          "found other JSON",
      {{"path", name}});
}

}  // namespace cria
