// Splits text into the pieces within which byte-level BPE merges.
#pragma once

#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cria {

/// Receives the pieces of a text, in order.
struct PieceSink {
  void* context;
  void (*take)(void* context, const char* begin, const char* end);
};

/// One expression, applied to a text: every match is a piece, and so is what lies between two matches.
struct SplitStep {
  /// Passes the pieces of a text on.
  void (*split)(const char* begin, const char* end, const PieceSink& sink) = nullptr;
  /// The end of the piece at `begin`; null where a piece depends on what comes before it.
  const char* (*next)(const char* begin, const char* end) = nullptr;

  explicit operator bool() const noexcept { return split != nullptr; }
  bool operator==(const SplitStep&) const = default;
};

/// What GGUF's `tokenizer.ggml.pre` stands for.
struct PreTokenizerTraits {
  /// Names with the same traits, e.g. "llama-bpe".
  std::span<const std::string_view> names;
  /// Applied in order, each to the pieces of the one before. In the notation of Oniguruma.
  std::span<const std::string_view> expressions;
  /// Whether a piece that is a token becomes that token without merging (tokenizer.json's ignore_merges).
  bool whole_pieces = false;
  /// Whether BOS is added unless the file says otherwise.
  bool adds_bos = false;
};

/// The name of the pre-tokenizer that GGUF files without one get.
inline constexpr std::string_view kDefaultPreTokenizer = "default";

/// The traits of all the names that cria knows (those of llama.cpp, llama-vocab.cpp, whose expressions occur
/// in files of architecture `llama`).
std::span<const PreTokenizerTraits> known_pre_tokenizers() noexcept;
/// Those of one name, or null.
const PreTokenizerTraits* find_pre_tokenizer(std::string_view name) noexcept;
/// Whether llama.cpp knows the name, and cria does not.
bool is_foreign_pre_tokenizer(std::string_view name) noexcept;

/// The step of an expression in the exact spelling of a published tokenizer, or none.
SplitStep find_split_step(std::string_view expression) noexcept;

/// Expressions that are not regular expressions of the text: steps of pipelines that go on in GPT-2's byte
/// alphabet.
inline constexpr std::string_view kByteAlphabetDigits = "bytes:\\p{N}+";
inline constexpr std::string_view kByteAlphabetTriples = "bytes:[0-9][0-9][0-9]";

/// A sequence of steps.
class PreTokenizer {
 public:
  /// Throws ERR_UNSUPPORTED_MODEL that quotes an unknown expression. No expressions: the text is one piece.
  explicit PreTokenizer(std::span<const std::string_view> expressions);

  /// Calls `take(std::string_view)` for each piece of `text`, which is well-formed UTF-8 and not empty.
  template <class Take>
  void split(std::string_view text, Take& take) const {
    if (steps_.size() == 1 && steps_[0].next) {  // the usual case, without a call per piece to `take`
      const char* const end = text.data() + text.size();
      for (const char* p = text.data(); p < end;) {
        const char* const piece_end = steps_[0].next(p, end);
        take(std::string_view(p, static_cast<std::size_t>(piece_end - p)));
        p = piece_end;
      }
      return;
    }
    const PieceSink sink{.context = const_cast<void*>(static_cast<const void*>(&take)),
                         .take = [](void* context, const char* begin, const char* end) {
                           (*static_cast<Take*>(context))({begin, static_cast<std::size_t>(end - begin)});
                         }};
    run(0, text.data(), text.data() + text.size(), sink);
  }

 private:
  void run(std::size_t step, const char* begin, const char* end, const PieceSink& sink) const;

  std::vector<SplitStep> steps_;
};

}  // namespace cria
