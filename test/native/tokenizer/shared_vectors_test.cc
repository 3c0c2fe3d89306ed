// The two real vocabularies against the ids of the reference tokenizers (see ../shared/data/README.md).
#include <doctest/doctest.h>

#include <chrono>
#include <fstream>
#include <iterator>
#include <string>

#include "engine/vocabulary_gguf.h"
#include "io/gguf.h"
#include "tokenizer/json.h"
#include "tokenizer/stream_decoder.h"
#include "tokenizer/tokenizer.h"

using namespace cria;
using cria::test::Json;

namespace {

const std::string kFolder = CRIA_SHARED_DATA "/tokenizer/";

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::shared_ptr<const Tokenizer> load(const std::string& name) {
  return Tokenizer::build(read_vocabulary(GgufFile::open(kFolder + name)));
}

std::string with_spaces(std::string_view text) {
  std::string out;
  for (std::size_t i; (i = text.find("\xE2\x96\x81")) != text.npos; text.remove_prefix(i + 3)) {
    out.append(text.substr(0, i)).append(" ");
  }
  return out.append(text);
}

std::string stream(const std::shared_ptr<const Tokenizer>& tokenizer, const std::vector<TokenId>& ids) {
  StreamDecoder decoder(tokenizer, false, true);
  std::string text;
  for (TokenId id : ids) text += decoder.push(id);
  return text + decoder.finish();
}

void check_vectors(const std::string& file, const std::string& column) {
  const std::string json = read_file(kFolder + "vectors.json");
  if (json.empty()) {
    MESSAGE("skipped: no " << kFolder);
    return;
  }
  const auto tokenizer = load(file);
  const Json vectors = Json::parse(json);
  const auto& cases = vectors.object.at("cases").array;
  CHECK(cases.size() == 2234);
  std::size_t wrong_ids = 0, wrong_texts = 0;
  for (const Json& c : cases) {
    const std::string& text = c.object.at("text").string;
    std::vector<TokenId> expected;
    for (const Json& id : c.object.at(column).array) expected.push_back(static_cast<TokenId>(id.number));
    const std::vector<TokenId> ids = tokenizer->encode(text, {.bos = false});
    if (ids != expected && ++wrong_ids <= 5) FAIL_CHECK("wrong ids for: " << text);
    // SentencePiece treats U+2581 and space as one symbol, and decodes both as a space.
    const std::string back = tokenizer->kind() == TokenizerKind::sentencepiece ? with_spaces(text) : text;
    if (tokenizer->decode(ids, false) != back || stream(tokenizer, ids) != back) {
      if (++wrong_texts <= 5) FAIL_CHECK("wrong text back for: " << text);
    }
    // The same ids with another state of the cache.
    CHECK(tokenizer->encode(text, {.bos = false}) == ids);
  }
  CHECK(wrong_ids == 0);
  CHECK(wrong_texts == 0);
}

}  // namespace

TEST_CASE("every reference vector of Llama 2") { check_vectors("llama2-vocab.gguf", "llama2"); }

TEST_CASE("every reference vector of Llama 3") { check_vectors("llama3-vocab.gguf", "llama3"); }
