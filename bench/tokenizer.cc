// Speed of the tokenizers on generated text.
//
//   cmake --build build/native-tests --target bench_tokenizer
//   bench_tokenizer llama2-vocab.gguf llama3-vocab.gguf tekken.json
//
// For each vocabulary: the time to build it once it is read; MB/s for about 2 MB of each kind of text, cold
// (the first call of a new tokenizer) and warm (best of five); the time for 1 MB of each kind of text that
// makes some tokenizers quadratic. `mixed` contains a part of each kind. Sizes are bytes of UTF-8, 1 MB =
// 10^6 bytes; times are CPU times of one thread, so that other work on the machine disturbs them less.
//
// Results on an AMD EPYC (Zen 4), 2 cores, both busy with other work (up to 1.6 times as fast on an idle
// machine), MB/s cold and warm. They are older than the splitters of other vocabularies than Llama 3's, and
// have not been measured again:
//
//                Llama 2      Llama 3
//   build        19 ms        82 to 126 ms
//   mixed        36    38     31    35
//   english      54    63     61    78
//   code         29    33     47    49
//   chinese      124   142    17    18    random characters: long words that hardly ever repeat
//   cyrillic     40    40     15    16    random letters: the worst case of ordinary text
//   numbers      48    49     160   169
//   whitespace   75    76     80    81
//
// 100 KB of one letter, spaces, newlines, one CJK character, an emoji, digits or random printable characters
// take 0.4 to 17 ms, of random letters 6 and 29 ms. Two changes mattered most: one tag byte per slot of the
// pair table, since most look-ups find nothing (Llama 3, mixed: from 20 to 28 MB/s, code: from 29 to 71), and
// heap entries of 8 bytes instead of 24.

#include "tokenizer/tokenizer.h"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "engine/vocabulary_folder.h"

namespace {

using cria::Tokenizer;

double seconds(const std::function<void()>& work) {
  const std::clock_t start = std::clock();
  work();
  return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

/// splitmix64, for the same text on every machine.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return z ^ z >> 31;
  }
  std::size_t below(std::size_t n) { return next() % n; }
  /// Small numbers often and large ones rarely, like the frequencies of words.
  std::size_t skewed(std::size_t n) { return std::min(below(n), std::min(below(n), below(n))); }
  template <class T>
  const T& pick(const std::vector<T>& from) {
    return from[below(from.size())];
  }

 private:
  std::uint64_t state_;
};

void append_character(std::string& out, std::uint32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += {static_cast<char>(0xc0 | c >> 6), static_cast<char>(0x80 | (c & 63))};
  } else if (c < 0x10000) {
    out += {static_cast<char>(0xe0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 63)),
            static_cast<char>(0x80 | (c & 63))};
  } else {
    out += {static_cast<char>(0xf0 | c >> 18), static_cast<char>(0x80 | (c >> 12 & 63)),
            static_cast<char>(0x80 | (c >> 6 & 63)), static_cast<char>(0x80 | (c & 63))};
  }
}

/// The most common English words, then made-up words of syllables: 20,000 in all, more than the piece cache
/// holds.
std::vector<std::string> make_words(Random& random) {
  std::vector<std::string> words = {
      "the",    "of",    "and",   "to",    "a",     "in",    "is",    "that",   "it",   "was",   "for",
      "on",     "are",   "as",    "with",  "his",   "they",  "I",     "at",     "be",   "this",  "have",
      "from",   "or",    "one",   "had",   "by",    "word",  "but",   "not",    "what", "all",   "were",
      "we",     "when",  "your",  "can",   "said",  "there", "use",   "an",     "each", "which", "she",
      "do",     "how",   "their", "if",    "will",  "up",    "other", "about",  "out",  "many",  "then",
      "them",   "these", "so",    "some",  "her",   "would", "make",  "like",   "him",  "into",  "time",
      "has",    "look",  "two",   "more",  "write", "go",    "see",   "number", "no",   "way",   "could",
      "people", "my",    "than",  "first", "water", "been",  "call",  "who",    "its",  "now",   "find",
      "long",   "down",  "day",   "did",   "get",   "come",  "made",  "may"};
  const std::vector<std::string> syllables = {
      "an", "ber", "con", "de", "er",  "fo", "gra", "ing", "ka",   "lo", "ment", "ni", "or", "pre", "qui",
      "re", "sta", "ter", "un", "ver", "wi", "ly",  "ex",  "tion", "im", "ab",   "el", "is", "out", "ous"};
  while (words.size() < 20000) {
    std::string word;
    for (std::size_t n = 1 + random.below(4); n > 0; --n) word += random.pick(syllables);
    words.push_back(word);
  }
  return words;
}

struct Text {
  std::string name, text;
};

std::vector<Text> make_texts(std::size_t bytes) {
  Random random(1);
  const std::vector<std::string> words = make_words(random);
  const auto word = [&] { return words[random.skewed(words.size())]; };
  const auto fill = [&](std::string_view name, const std::function<void(std::string&)>& add) {
    Text t{std::string(name), {}};
    while (t.text.size() < bytes) add(t.text);
    return t;
  };
  std::vector<Text> texts;
  texts.push_back(fill("english", [&](std::string& out) {
    for (std::size_t n = 5 + random.below(15), i = 0; i < n; ++i) {
      std::string w = word();
      if (i == 0 && w[0] >= 'a') w[0] = static_cast<char>(w[0] - 32);
      out += w;
      if (random.below(12) == 0) out += ',';
      if (random.below(40) == 0) out += "'s";
      out += i + 1 < n ? " " : random.below(8) ? ". " : ".\n\n";
    }
  }));
  texts.push_back(fill("code", [&](std::string& out) {
    const std::size_t depth = random.below(5) * 2;
    out += std::string(depth, ' ') + (random.below(3) ? "const " : "if (") + word() + "_" + word() + " = " +
           word() + "[" + std::to_string(random.below(100)) + "](" + word() + ", '" + word() + "');  // " +
           word() + "\n";
  }));
  texts.push_back(fill("chinese", [&](std::string& out) {
    for (std::size_t n = 4 + random.below(20); n > 0; --n) {
      append_character(out, 0x4e00 + static_cast<std::uint32_t>(random.skewed(6000)));
    }
    out += random.below(2) ? "\xEF\xBC\x8C" : "\xE3\x80\x82";
  }));
  texts.push_back(fill("cyrillic", [&](std::string& out) {
    for (std::size_t n = 1 + random.below(10); n > 0; --n) {
      append_character(out, 0x430 + static_cast<std::uint32_t>(random.skewed(32)));
    }
    out += ' ';
  }));
  texts.push_back(fill("numbers", [&](std::string& out) {
    out +=
        std::to_string(random.next() % (random.below(2) ? 1000 : 10000000)) + (random.below(4) ? ", " : ".");
  }));
  texts.push_back(fill("whitespace", [&](std::string& out) {
    out += std::string(random.below(30), ' ') + (random.below(2) ? "\n" : "\t") +
           std::string(random.below(3), '\n') + "x";
  }));
  Text mixed{"mixed", {}};
  for (std::size_t at = 0; mixed.text.size() < bytes; at += 2000) {
    for (const Text& t : texts) {
      const std::size_t share = t.name == "english" ? 2000 : t.name == "code" ? 1000 : 300;
      for (std::size_t i = at; i < at + share; ++i) mixed.text += t.text[i % t.text.size()];
    }
  }
  texts.push_back(std::move(mixed));
  return texts;
}

std::vector<Text> make_pathological(std::size_t bytes) {
  const auto repeat = [&](std::string_view name, std::string_view unit) {
    Text t{std::string(name), {}};
    while (t.text.size() < bytes) t.text += unit;
    return t;
  };
  std::vector<Text> texts = {
      repeat("one letter", "a"),
      repeat("spaces", " "),
      repeat("one CJK character", "\xE4\xB8\xAD"),
      repeat("digits", "7"),
      repeat("newlines", "\n"),
      repeat("emoji", "\xF0\x9F\x91\xA8\xE2\x80\x8D\xF0\x9F\x91\xA9"),
      repeat("two letters", "ab"),
      repeat("zero bytes", std::string_view("\0", 1)),
      repeat("combining marks", "\xCC\x81"),
  };
  Random random(2);
  Text printable{"random printable", {}}, letters{"random letters", {}};
  while (printable.text.size() < bytes) printable.text += static_cast<char>('!' + random.below(94));
  while (letters.text.size() < bytes) letters.text += static_cast<char>('a' + random.below(26));
  texts.push_back(std::move(printable));
  texts.push_back(std::move(letters));
  return texts;
}

double measure(const Tokenizer& tokenizer, const std::string& text, std::size_t* tokens = nullptr) {
  return seconds([&] {
    const auto ids = tokenizer.encode(text, {.bos = false});
    if (tokens) *tokens = ids.size();
  });
}

void run(const char* path, const std::vector<Text>& texts, const std::vector<Text>& pathological) {
  std::shared_ptr<const Tokenizer> tokenizer;
  const cria::VocabularySource source = cria::load_vocabulary(path);
  const auto build = [&] { tokenizer = Tokenizer::build(source); };
  double best_build = 1e9;
  for (int i = 0; i < 3; ++i) best_build = std::min(best_build, seconds(build));
  std::printf("%s\n  build %.0f ms\n", path, best_build * 1e3);
  for (const Text& t : texts) {
    double cold = 1e9, warm = 1e9, decode = 1e9;
    std::size_t tokens = 0;
    for (int i = 0; i < 3; ++i) {
      build();
      cold = std::min(cold, measure(*tokenizer, t.text, &tokens));
    }
    for (int i = 0; i < 5; ++i) warm = std::min(warm, measure(*tokenizer, t.text));
    const auto ids = tokenizer->encode(t.text, {.bos = false});
    for (int i = 0; i < 3; ++i) decode = std::min(decode, seconds([&] { tokenizer->decode(ids, false); }));
    const double mb = static_cast<double>(t.text.size()) / 1e6;
    std::printf("  %-18s %5.2f bytes/token   cold %6.1f   warm %6.1f   decode %6.1f MB/s\n", t.name.c_str(),
                static_cast<double>(t.text.size()) / static_cast<double>(tokens), mb / cold, mb / warm,
                mb / decode);
  }
  for (const Text& t : pathological) {
    build();
    const double cold = measure(*tokenizer, t.text);
    std::printf("  %-18s %zu KB in %.1f ms\n", t.name.c_str(), t.text.size() / 1000, cold * 1e3);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: bench_tokenizer vocabulary...\n");
    return 2;
  }
  const std::vector<Text> texts = make_texts(2000000), pathological = make_pathological(1000000);
  try {
    for (int i = 1; i < argc; ++i) run(argv[i], texts, pathological);
  } catch (const cria::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
