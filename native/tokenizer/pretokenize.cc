#include "tokenizer/pretokenize.h"

#include <algorithm>
#include <iterator>

#include "core/error.h"
#include "tokenizer/split_runs.h"
#include "tokenizer/split_words.h"
#include "tokenizer/unicode.h"

namespace cria {
namespace {

/// Letters with case of an older Unicode, as DeepSeek's first expression lists them.
constexpr CodePointRange kCasedLetters[] = {
    {0x41, 0x5a},       {0x61, 0x7a},       {0xb5, 0xb5},       {0xc0, 0xd6},       {0xd8, 0xf6},
    {0xf8, 0x1ba},      {0x1bc, 0x1bf},     {0x1c4, 0x293},     {0x295, 0x2af},     {0x370, 0x373},
    {0x376, 0x377},     {0x37b, 0x37d},     {0x37f, 0x37f},     {0x386, 0x386},     {0x388, 0x38a},
    {0x38c, 0x38c},     {0x38e, 0x3a1},     {0x3a3, 0x3f5},     {0x3f7, 0x481},     {0x48a, 0x52f},
    {0x531, 0x556},     {0x10a0, 0x10c5},   {0x13a0, 0x13f5},   {0x13f8, 0x13fd},   {0x1c90, 0x1cba},
    {0x1cbd, 0x1cbf},   {0x1d00, 0x1d2b},   {0x1d6b, 0x1d77},   {0x1d79, 0x1d9a},   {0x1e00, 0x1f15},
    {0x1f18, 0x1f1d},   {0x1f20, 0x1f45},   {0x1f48, 0x1f4d},   {0x1f50, 0x1f57},   {0x1f59, 0x1f59},
    {0x1f5b, 0x1f5b},   {0x1f5d, 0x1f5d},   {0x1f5f, 0x1f7d},   {0x1f80, 0x1fb4},   {0x1fb6, 0x1fbc},
    {0x1fbe, 0x1fbe},   {0x1fc2, 0x1fc4},   {0x1fc6, 0x1fcc},   {0x1fd0, 0x1fd3},   {0x1fd6, 0x1fdb},
    {0x1fe0, 0x1fec},   {0x1ff2, 0x1ff4},   {0x1ff6, 0x1ffc},   {0x2102, 0x2102},   {0x2107, 0x2107},
    {0x210a, 0x2113},   {0x2115, 0x2115},   {0x2119, 0x211d},   {0x2124, 0x2124},   {0x2126, 0x2126},
    {0x2128, 0x2128},   {0x212a, 0x212d},   {0x212f, 0x2134},   {0x2139, 0x2139},   {0x213c, 0x213f},
    {0x2145, 0x2149},   {0x214e, 0x214e},   {0x2183, 0x2184},   {0x2c00, 0x2c7b},   {0x2c7e, 0x2ce4},
    {0x2ceb, 0x2cee},   {0x2cf2, 0x2cf3},   {0xa640, 0xa66d},   {0xa680, 0xa69b},   {0xa722, 0xa76f},
    {0xa771, 0xa787},   {0xa78b, 0xa78e},   {0xab70, 0xabbf},   {0xfb00, 0xfb06},   {0xfb13, 0xfb17},
    {0xff21, 0xff3a},   {0xff41, 0xff5a},   {0x10400, 0x1044f}, {0x104b0, 0x104d3}, {0x104d8, 0x104fb},
    {0x10c80, 0x10cb2}, {0x10cc0, 0x10cf2}, {0x118a0, 0x118df}, {0x1e900, 0x1e943}};
/// [!-/:-~！-／：-～‘-‟　-。]
constexpr CodePointRange kWidePunctuation[] = {{0x21, 0x2f},     {0x3a, 0x7e},     {0x2018, 0x201f},
                                               {0x3000, 0x3002}, {0xff01, 0xff0f}, {0xff1a, 0xff5e}};
/// [一-龥ࠀ-一가-퟿]
constexpr CodePointRange kEastAsian[] = {{0x800, 0x9fa5}, {0xac00, 0xd7ff}};
/// [一-龥぀-ゟ゠-ヿ]
constexpr CodePointRange kHanAndKana[] = {{0x3040, 0x30ff}, {0x4e00, 0x9fa5}};
constexpr CodePointRange kNewlines[] = {{'\n', '\n'}, {'\r', '\r'}};

template <class Words>
void split_each(const char* p, const char* end, const PieceSink& sink) {
  while (p < end) {
    const char* piece_end = Words::next(p, end);
    sink.take(sink.context, p, piece_end);
    p = piece_end;
  }
}
template <class Splitter>
void split_all(const char* p, const char* end, const PieceSink& sink) {
  Splitter::split(
      p, end, [&](const char* begin, const char* piece_end) { sink.take(sink.context, begin, piece_end); });
}

template <class Words>
constexpr SplitStep each = {.split = split_each<Words>, .next = Words::next};
template <class Matcher>
constexpr SplitStep matches = each<Isolated<Matcher>>;
template <class Splitter>
constexpr SplitStep pieces = {.split = split_all<Splitter>};

using Numbers = ClassSet<kNumbers>;

// The expressions, as their makers published them; variants that match the same share a step.
constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kCl100k =
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kBailing =
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kUfakzeka =
    R"([^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kMiniCpm =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kSeedCoder =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kGpt4o =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kDeepSeekV3 =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kDeepSeekLetters =
    R"(\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝ)"
    "\xE1\xBD\x9F-\xE1\xBD\xBD"
    R"(ᾀ-ᾴᾶ-ᾼ)"
    "\xE1\xBE\xBE"
    R"(ῂ-ῄῆ-ῌ)"
    "\xE1\xBF\x90-\xE1\xBF\x93\xE1\xBF\x96-\xE1\xBF\x9B\xE1\xBF\xA0-\xE1\xBF\xAC"
    R"(ῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ)"
    "\xE2\x84\xA6"
    R"(ℨ)"
    "\xE2\x84\xAA-"
    R"(ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+)";
constexpr std::string_view kDeepSeekPunctuation = R"(\s?[!-/:-~！-／：-～‘-‟　-。]+)";
constexpr std::string_view kTrailingSpace = R"(\s+$)";
constexpr std::string_view kEastAsianRun = "[一-龥ࠀ-一가-\xED\x9F\xBF]+";
constexpr std::string_view kHanAndKanaRun = "[一-龥\xE3\x81\x80-ゟ゠-ヿ]+";
constexpr std::string_view kNewline = R"([\r\n])";
constexpr std::string_view kSpacedLetters = R"(\s?\p{L}+)";
constexpr std::string_view kSpacedPunctuation = R"(\s?\p{P}+)";
constexpr std::string_view kNumber = R"(\p{N})";
constexpr std::string_view kNumberRun = R"(\p{N}+)";
constexpr std::string_view kNumberGroup = R"(\p{N}{1,3})";
constexpr std::string_view kTriple = "[0-9][0-9][0-9]";
constexpr std::string_view kFalconSymbols = R"([\p{P}\$\+<=>\^~\|`]+)";
constexpr std::string_view kDefaultSymbols = R"([\p{P}\$\+<=>\^~\|]+)";
constexpr std::string_view kBloom = " ?[^(\\s|.,!?…。，、।۔،)]+";
constexpr std::string_view kGroupedDigits = R"((?=(\d{3})+(?!\d)))";

struct NamedStep {
  std::string_view expression;
  SplitStep step;
};
constexpr NamedStep kSteps[] = {
    {kLlama3, each<Words<WordOptions{}>>},
    {kCl100k, each<Words<WordOptions{}>>},
    {kQwen2, each<Words<WordOptions{.max_numbers = 1}>>},
    {kBailing, each<Words<WordOptions{.max_numbers = 1}>>},
    {kQwen35, each<Words<WordOptions{.max_numbers = 1, .letters = kLetters | kMarks}>>},
    {kUfakzeka, each<Words<WordOptions{.max_numbers = 1, .contractions = false}>>},
    {kMiniCpm, each<Words<WordOptions{.max_numbers = SIZE_MAX}>>},
    {kSeedCoder, each<Words<WordOptions{.max_numbers = 1, .newlines_end_symbols = false}>>},
    {kTekken, each<CasedWords<CasedWordOptions{.max_numbers = 1, .contractions = false}>>},
    {kGpt4o, each<CasedWords<CasedWordOptions{}>>},
    {kGpt2, each<Gpt2Words>},
    {kDeepSeekV3, matches<DeepSeekWords>},
    {kDeepSeekLetters, matches<SpacedRun<RangeSet<kCasedLetters>>>},
    {kDeepSeekPunctuation, matches<SpacedRun<RangeSet<kWidePunctuation>>>},
    {kTrailingSpace, pieces<TrailingSpace>},
    {kEastAsianRun, matches<Run<RangeSet<kEastAsian>>>},
    {kHanAndKanaRun, matches<Run<RangeSet<kHanAndKana>>>},
    {kNewline, matches<Run<RangeSet<kNewlines>, 1>>},
    {kSpacedLetters, matches<SpacedRun<ClassSet<kLetters>>>},
    {kSpacedPunctuation, matches<SpacedRun<ClassSet<kPunctuation>>>},
    {kNumber, matches<Run<Numbers, 1>>},
    {kNumberRun, matches<Run<Numbers>>},
    {kNumberGroup, matches<Run<Numbers, 3>>},
    {kTriple, matches<DigitTriple>},
    {kFalconSymbols, matches<Run<FalconSymbols<true>>>},
    {kDefaultSymbols, matches<Run<FalconSymbols<false>>>},
    {kBloom, matches<BloomWord>},
    {kGroupedDigits, pieces<GroupedDigits>},
    {kByteAlphabetDigits, each<ByteAlphabetDigits>},
    {kByteAlphabetTriples, each<ByteAlphabetTriples>},
};

constexpr std::string_view kLlama3Names[] = {"llama-bpe", "llama3",   "llama-v3", "falcon3",     "falcon-h1",
                                             "pixtral",   "midm-2.0", "lfm2",     "jina-v5-nano"};
constexpr std::string_view kLlama3Merging[] = {"smaug-bpe", "dbrx", "chatglm-bpe", "glm4"};
constexpr std::string_view kMiniCpmNames[] = {"minicpm5"};
constexpr std::string_view kQwen2Names[] = {"qwen2",  "deepseek-r1-qwen", "kormo",       "f2llmv2",
                                            "megrez", "stablelm2",        "hunyuan",     "solar-open",
                                            "grok-2", "bailingmoe",       "bailingmoe2", "llada-moe"};
constexpr std::string_view kQwen35Names[] = {"qwen35"};
constexpr std::string_view kUfakzekaNames[] = {"ufakzeka"};
constexpr std::string_view kSeedCoderNames[] = {"seed-coder"};
constexpr std::string_view kTekkenNames[] = {"tekken"};
constexpr std::string_view kGpt4oNames[] = {"gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"};
constexpr std::string_view kGpt2Names[] = {
    "gpt-2",      "phi-2",        "jina-es",  "jina-de", "jina-v1-en", "jina-v2-en",     "jina-v2-es",
    "jina-v2-de", "jina-v2-code", "gigachat", "a.x-4.0", "mellum",     "modern-bert",    "roberta-bpe",
    "exaone4",    "mpt",          "olmo",     "jais",    "trillion",   "granite-docling"};
constexpr std::string_view kStarcoderNames[] = {"starcoder", "refact",    "smollm", "minerva-7b",
                                                "command-r", "codeshell", "exaone", "mellum2"};
constexpr std::string_view kFalconNames[] = {"falcon"};
constexpr std::string_view kDefaultNames[] = {kDefaultPreTokenizer};
constexpr std::string_view kDeepSeekLlmNames[] = {"deepseek-llm"};
constexpr std::string_view kDeepSeekCoderNames[] = {"deepseek-coder"};
constexpr std::string_view kDeepSeekV3Names[] = {"deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"};
constexpr std::string_view kVikingNames[] = {"viking"};
constexpr std::string_view kBloomNames[] = {"poro-chat", "bloom", "gpt3-finnish"};
constexpr std::string_view kSuperBpeNames[] = {"superbpe"};

constexpr std::string_view kMiniCpmSteps[] = {kNumberGroup, kMiniCpm};
constexpr std::string_view kStarcoderSteps[] = {kNumber, kGpt2};
/// Falcon's own pipeline; llama.cpp knows neither the digits of the byte alphabet nor the numbers before
/// them.
constexpr std::string_view kFalconSteps[] = {kFalconSymbols, kGpt2, kByteAlphabetDigits,
                                             kByteAlphabetTriples};
constexpr std::string_view kDefaultSteps[] = {kDefaultSymbols, kGpt2, kNumberRun, kTriple};
constexpr std::string_view kDeepSeekLlmSteps[] = {kNewline,       kDeepSeekLetters, kDeepSeekPunctuation,
                                                  kTrailingSpace, kEastAsianRun,    kNumberRun};
constexpr std::string_view kDeepSeekCoderSteps[] = {kNewline, kSpacedLetters, kSpacedPunctuation,
                                                    kEastAsianRun, kNumber};
constexpr std::string_view kDeepSeekV3Steps[] = {kNumberGroup, kHanAndKanaRun, kDeepSeekV3};
constexpr std::string_view kVikingSteps[] = {kBloom, kNumber};
constexpr std::string_view kSuperBpeSteps[] = {kNumberRun, kGroupedDigits};

constexpr std::span<const std::string_view> one(const std::string_view& expression) {
  return {&expression, 1};
}
constexpr PreTokenizerTraits kPreTokenizers[] = {
    {.names = kLlama3Names, .expressions = one(kLlama3), .whole_pieces = true, .adds_bos = true},
    {.names = kLlama3Merging, .expressions = one(kLlama3)},
    {.names = kMiniCpmNames, .expressions = kMiniCpmSteps, .whole_pieces = true},
    {.names = kQwen2Names, .expressions = one(kQwen2)},
    {.names = kQwen35Names, .expressions = one(kQwen35)},
    {.names = kUfakzekaNames, .expressions = one(kUfakzeka)},
    {.names = kSeedCoderNames, .expressions = one(kSeedCoder)},
    {.names = kTekkenNames, .expressions = one(kTekken), .whole_pieces = true, .adds_bos = true},
    {.names = kGpt4oNames, .expressions = one(kGpt4o)},
    {.names = kGpt2Names, .expressions = one(kGpt2)},
    {.names = kStarcoderNames, .expressions = kStarcoderSteps},
    {.names = kFalconNames, .expressions = kFalconSteps},
    {.names = kDefaultNames, .expressions = kDefaultSteps},
    {.names = kDeepSeekLlmNames, .expressions = kDeepSeekLlmSteps},
    {.names = kDeepSeekCoderNames, .expressions = kDeepSeekCoderSteps},
    {.names = kDeepSeekV3Names, .expressions = kDeepSeekV3Steps},
    {.names = kVikingNames, .expressions = kVikingSteps},
    {.names = kBloomNames, .expressions = one(kBloom)},
    {.names = kSuperBpeNames, .expressions = kSuperBpeSteps},
};

/// Names that llama.cpp knows, with expressions of their own, of which no file of architecture `llama` is
/// known.
constexpr std::string_view kForeign[] = {"jais-2",
                                         "gemma4",
                                         "granite-embed-multi-311m",
                                         "granite-embed-multi-97m",
                                         "sarvam-moe",
                                         "whitespace",
                                         "exaone-moe",
                                         "chameleon",
                                         "tiny_aya",
                                         "cohere2moe",
                                         "kimi-k2",
                                         "afmoe",
                                         "laguna",
                                         "youtu",
                                         "spark2_5"};

}  // namespace

std::span<const PreTokenizerTraits> known_pre_tokenizers() noexcept { return kPreTokenizers; }

const PreTokenizerTraits* find_pre_tokenizer(std::string_view name) noexcept {
  for (const PreTokenizerTraits& traits : kPreTokenizers) {
    if (std::find(traits.names.begin(), traits.names.end(), name) != traits.names.end()) return &traits;
  }
  return nullptr;
}

bool is_foreign_pre_tokenizer(std::string_view name) noexcept {
  return std::find(std::begin(kForeign), std::end(kForeign), name) != std::end(kForeign);
}

SplitStep find_split_step(std::string_view expression) noexcept {
  for (const NamedStep& named : kSteps) {
    if (named.expression == expression) return named.step;
  }
  return {};
}

PreTokenizer::PreTokenizer(std::span<const std::string_view> expressions) {
  for (const std::string_view expression : expressions) {
    const SplitStep step = find_split_step(expression);
    if (!step) {
      constexpr std::size_t kShown = 400;
      const std::string shown = to_well_formed(expression.substr(0, kShown));
      throw Error(ErrorCode::unsupported_model, "tokenizer: unknown expression of a pre-tokenizer: " + shown,
                  {{"expected", "an expression of a known tokenizer"}, {"found", shown}});
    }
    steps_.push_back(step);
  }
}

void PreTokenizer::run(std::size_t step, const char* begin, const char* end, const PieceSink& sink) const {
  if (step == steps_.size()) return sink.take(sink.context, begin, end);
  if (step + 1 == steps_.size()) return steps_[step].split(begin, end, sink);
  struct Rest {
    const PreTokenizer& self;
    std::size_t step;
    const PieceSink& sink;
  } rest{*this, step + 1, sink};
  const PieceSink next{.context = &rest, .take = [](void* context, const char* piece, const char* piece_end) {
                         const Rest& then = *static_cast<Rest*>(context);
                         then.self.run(then.step, piece, piece_end, then.sink);
                       }};
  steps_[step].split(begin, end, next);
}

}  // namespace cria
