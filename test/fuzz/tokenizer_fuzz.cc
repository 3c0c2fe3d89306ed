// libFuzzer target: builds small vocabularies and texts from the input. A broken vocabulary gives a
// cria::Error; with a sound one the ids equal those of the slow reference encoder and decode to the text. A
// crash, a leak, a sanitizer report or a slow input is a failure.
//
//   cmake -S . -B build-fuzz -G Ninja -DCMAKE_CXX_COMPILER=clang++-19 -DCRIA_ADDON=OFF -DCRIA_FUZZ=ON \
//         -DCRIA_SANITIZE=address,undefined
//   ninja -C build-fuzz fuzz_tokenizer
//   build-fuzz/test/native/fuzz_tokenizer -max_total_time=180 -timeout=5 -max_len=600

#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "../native/tokenizer/fixtures.h"
#include "core/error.h"
#include "tokenizer/pretokenize.h"
#include "tokenizer/stream_decoder.h"

namespace {

using namespace cria;
using namespace cria::test;

/// Reads the input from front to back; returns zeros and empty strings after its end.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : data_(data), end_(data + size) {}
  std::uint8_t byte() { return data_ < end_ ? *data_++ : 0; }
  bool empty() const { return data_ == end_; }
  /// Half of the strings are built from a few units, so that pieces occur in texts.
  std::string text(std::size_t limit) {
    static const char* const kUnits[16] = {"a",
                                           "b",
                                           "ab",
                                           "c",
                                           " ",
                                           "  ",
                                           "1",
                                           "\xC3\xA9",
                                           "\xE4\xB8\xAD",
                                           "'s",
                                           "\n",
                                           "<x>",
                                           "\xF0\x9F\x99\x82",
                                           "\xE2\x96\x81",
                                           "\xE4\xB8",
                                           "<s>"};
    const std::uint8_t head = byte();
    std::string out;
    for (std::size_t n = std::min<std::size_t>(head >> 1, limit); n > 0 && !empty(); --n) {
      if (head & 1) {
        out += static_cast<char>(byte());
      } else {
        out += kUnits[byte() & 15];
      }
    }
    return out;
  }

 private:
  const std::uint8_t* data_;
  const std::uint8_t* end_;
};

void require(bool condition) {
  if (!condition) std::abort();
}

VocabularySource make_source(Input& in, std::uint8_t flags) {
  VocabularySource source = flags & 1 ? bpe_source({}) : spm_source({"_"});
  const bool spm = source.kind == TokenizerKind::sentencepiece;
  if (!spm) {
    const auto known = known_pre_tokenizers();
    source.pre_tokenizer = known[in.byte() % known.size()].names[0];
    // The reference knows the expressions of texts alone.
    if (source.pre_tokenizer == "falcon") source.pre_tokenizer = "llama-bpe";
  }
  source.add_space_prefix = (flags & 2) != 0;
  for (std::size_t n = in.byte() % 24; n > 0; --n) {
    const std::uint8_t kind = in.byte();
    auto type = TokenType::normal;
    if (kind % 8 == 1) type = TokenType::control;
    if (kind % 8 == 2) type = TokenType::user_defined;
    if (kind % 8 == 3) type = TokenType::unused;
    std::string token = in.text(8);
    if (spm) {
      // A piece that contains a space is invalid in another way; see the tests of the vocabulary.
      if (!(flags & 4)) token = replace_all(token, " ", kSpaceSymbol);
    } else if (type == TokenType::normal && !(flags & 4)) {
      token = byte_alphabet(token);
    }
    if (!(flags & 4) && std::find(source.tokens.begin(), source.tokens.end(), token) != source.tokens.end())
      continue;
    add_token(source, token, -static_cast<float>(kind >> 4), type);
  }
  if (!spm) source.scores.clear();
  if (flags & 4) {  // and break it
    if (flags & 8) source.types.resize(in.byte());
    if (flags & 16) source.scores.resize(in.byte());
    if (flags & 32) source.tokens[in.byte()] = in.text(8);
    if (flags & 64)
      source.types[in.byte() % std::max<std::size_t>(source.types.size(), 1)] = TokenType{in.byte()};
    if (flags & 128) {
      source.bos = in.byte() * 2u;
      source.merges.push_back(in.text(8) + " " + in.text(8));
    }
  }
  return source;
}

void check(const Tokenizer& tokenizer, const VocabularySource& source, const std::string& text, bool sound) {
  const std::string repaired = to_well_formed(text);
  const std::vector<TokenId> ids = encode(tokenizer, text);
  require(ids == encode(tokenizer, text));  // from the cache
  require(ids == encode(tokenizer, repaired));
  for (TokenId id : ids) {
    require(id < tokenizer.vocab_size());
    require(tokenizer.type(id) != TokenType::control);
    // A broken vocabulary may lack bytes.
    require(!sound || tokenizer.type(id) != TokenType::unknown);
    require(tokenizer.find(tokenizer.spelling(id)).has_value());
  }
  if (!sound) return;
  const bool spm = tokenizer.kind() == TokenizerKind::sentencepiece;
  require(ids == (spm ? reference_spm(source, repaired) : reference_bpe(source, repaired)));
  if (spm && repaired.find(kSpaceSymbol) != repaired.npos) return;
  require(tokenizer.decode(ids, false) == repaired);
  const std::vector<TokenId> special = encode(tokenizer, text, true);
  // A user-defined piece may contain U+2581 where a control token contains a space; decoding is then
  // ambiguous.
  require(tokenizer.decode(special, true) == repaired);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input in(data, size);
  const std::uint8_t flags = in.byte();
  const VocabularySource source = make_source(in, flags);
  const bool sound = !(flags & 4);
  std::shared_ptr<const Tokenizer> tokenizer;
  try {
    tokenizer = Tokenizer::build(source);
  } catch (const Error&) {
    require(!sound);
    return 0;
  }
  for (int i = 0; i < 4 && !in.empty(); ++i) check(*tokenizer, source, in.text(120), sound);

  StreamDecoder decoder(tokenizer, flags & 8, true);
  std::vector<TokenId> ids;
  std::string streamed;
  while (!in.empty()) {
    ids.push_back((in.byte() | in.byte() << 8) % tokenizer->vocab_size());
    streamed += decoder.push(ids.back());
    require(is_well_formed_utf8(streamed));
  }
  streamed += decoder.finish();
  require(streamed == tokenizer->decode(ids, flags & 8));
  return 0;
}
