// Small tokenizer files of every kind, for tests and fuzzers.
#pragma once

#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/fixtures.h"

namespace cria::test {

inline std::string varint(std::uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  return out + static_cast<char>(value);
}
inline std::string number_field(unsigned field, std::uint64_t value) {
  return varint(field << 3) + varint(value);
}
inline std::string bytes_field(unsigned field, std::string_view bytes) {
  return varint(field << 3 | 2) + varint(bytes.size()) + std::string(bytes);
}
inline std::string float_field(unsigned field, float value) {
  std::string bytes(4, '\0');
  std::memcpy(bytes.data(), &value, 4);
  return varint(field << 3 | 5) + bytes;
}
inline std::string piece_field(std::string_view piece, float score, unsigned type) {
  return bytes_field(1, bytes_field(1, piece) + float_field(2, score) + number_field(3, type));
}

/// Of model type BPE with the identity normalizer, unless `trainer` or `normalizer` say otherwise.
inline std::string sentencepiece_file(const VocabularySource& source, std::string_view trainer = {},
                                      std::string_view normalizer = {}) {
  std::string out;
  for (std::size_t i = 0; i < source.tokens.size(); ++i)
    out += piece_field(source.tokens[i], source.scores[i], static_cast<unsigned>(source.types[i]));
  out += bytes_field(2, trainer.empty() ? number_field(3, 2) : std::string(trainer));
  out += bytes_field(
      3, normalizer.empty() ? bytes_field(1, "identity") + number_field(4, 0) : std::string(normalizer));
  return out;
}

inline std::string base64(std::string_view bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const auto at = [&](std::size_t k) {
      return i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0u;
    };
    const unsigned group = at(0) << 16 | at(1) << 8 | at(2);
    for (unsigned k = 0; k < 4; ++k) out += k <= bytes.size() - i ? kDigits[group >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

/// The 256 bytes, then `tokens`.
inline std::string rank_file(const std::vector<std::string>& tokens) {
  std::string out;
  std::size_t rank = 0;
  for (unsigned byte = 0; byte < 256; ++byte)
    out += base64(std::string(1, static_cast<char>(byte))) + ' ' + std::to_string(rank++) + '\n';
  for (const std::string& token : tokens) out += base64(token) + ' ' + std::to_string(rank++) + '\n';
  return out;
}

inline std::string json_string(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", c);
      out += escape;
    } else {
      out += c;
    }
  }
  return out + '"';
}

inline constexpr std::string_view kTekkenExpression =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

/// Three special tokens, the 256 bytes, then `tokens`.
inline std::string tekken_file(const std::vector<std::string>& tokens) {
  std::string vocab;
  std::size_t rank = 0;
  const auto add = [&](std::string_view token) {
    vocab += (rank ? ",{" : "{") + ("\"rank\":" + std::to_string(rank)) + ",\"token_bytes\":\"" +
             base64(token) + "\",\"token_str\":null}";
    ++rank;
  };
  for (unsigned byte = 0; byte < 256; ++byte) add(std::string(1, static_cast<char>(byte)));
  for (const std::string& token : tokens) add(token);
  return "{\"config\":{\"pattern\":" + json_string(kTekkenExpression) +
         ",\"num_vocab_tokens\":" + std::to_string(rank) +
         ",\"default_vocab_size\":" + std::to_string(rank + 3) +
         ",\"default_num_special_tokens\":3,\"version\":\"v3\"},\"vocab\":[" + vocab + "]}";
}

/// The members of a tokenizer.json as JSON texts; "" leaves a member out.
struct TokenizerJson {
  std::string normalizer = "null";
  std::string pre_tokenizer = R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":true})";
  std::string post_processor = "null";
  std::string decoder = R"({"type":"ByteLevel"})";
  std::string added_tokens = "[]";
  std::string model_type = "\"BPE\"";
  std::string vocab;
  std::string merges = "[]";
  std::string model_rest;  // further members, each with a comma before it

  std::string text() const {
    return "{\"version\":\"1.0\",\"added_tokens\":" + added_tokens + ",\"normalizer\":" + normalizer +
           ",\"pre_tokenizer\":" + pre_tokenizer + ",\"post_processor\":" + post_processor +
           ",\"decoder\":" + decoder + ",\"model\":{\"type\":" + model_type + ",\"vocab\":" + vocab +
           ",\"merges\":" + merges + model_rest + "}}";
  }
};

inline std::string json_vocab(const std::vector<std::string>& tokens) {
  std::string out = "{";
  for (std::size_t i = 0; i < tokens.size(); ++i)
    out += (i ? "," : "") + json_string(tokens[i]) + ":" + std::to_string(i);
  return out + "}";
}

/// Byte-level: the 256 bytes, "ab", "abc" and <|end|>.
inline TokenizerJson byte_level_json() {
  TokenizerJson json;
  json.vocab = json_vocab(bpe_source({"ab", "abc"}).tokens);
  json.merges = R"(["a b",["ab","c"]])";
  json.added_tokens = R"([{"id":258,"content":"<|end|>","special":true,"lstrip":false}])";
  json.post_processor =
      R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<|end|>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}]})";
  return json;
}

/// Over characters, as Llama 2's: <unk>, <s>, </s>, the bytes, "_", "a", "b", "_a", "ab".
inline TokenizerJson characters_json() {
  TokenizerJson json;
  json.vocab = json_vocab(spm_source({"_", "a", "b", "_a", "ab"}).tokens);
  json.merges = "[\"\xE2\x96\x81 a\",\"a b\"]";
  json.normalizer =
      "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"\xE2\x96\x81\"},"
      "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\xE2\x96\x81\"}]}";
  json.pre_tokenizer = "null";
  json.decoder = R"({"type":"Sequence","decoders":[{"type":"ByteFallback"},{"type":"Fuse"}]})";
  json.added_tokens =
      R"([{"id":0,"content":"<unk>","special":true},{"id":1,"content":"<s>","special":true},{"id":2,"content":"</s>","special":true}])";
  json.model_rest = R"(,"unk_token":"<unk>","fuse_unk":true,"byte_fallback":true)";
  return json;
}

}  // namespace cria::test
