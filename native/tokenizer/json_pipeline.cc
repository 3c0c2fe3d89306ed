#include "tokenizer/json_pipeline.h"

#include <algorithm>

#include "core/error.h"
#include "tokenizer/pretokenize.h"
#include "tokenizer/unicode.h"

namespace cria {
namespace {

constexpr std::string_view kNumber = R"(\p{N})";
constexpr std::string_view kNumberRun = R"(\p{N}+)";
constexpr std::string_view kTriple = "[0-9][0-9][0-9]";
/// Runs of punctuation, of Unicode's categories or of ASCII.
constexpr std::string_view kPunctuationRun = R"([\p{P}\$\+<=>\^~\|`]+)";

/// Appends the steps of a value that is null, one step, or a Sequence of steps in the member `list`.
void flatten(std::optional<JsonValue> value, std::string_view list, std::vector<JsonValue>& steps) {
  if (!value) return;
  if (value->get("type").as_string() != "Sequence") return steps.push_back(*value);
  // A Sequence within a Sequence does not occur; it would be refused as a step.
  for (const JsonValue& step : value->get(list).elements()) steps.push_back(step);
}

bool flag(const JsonValue& step, std::string_view key, bool absent) {
  const auto value = step.find(key);
  return value ? value->as_bool() : absent;
}

std::string shown(std::string_view text) {
  constexpr std::size_t kShown = 400;
  return to_well_formed(text.substr(0, kShown));
}

class PipelineReader {
 public:
  PipelineReader(const JsonDocument& document, VocabularySource& source)
      : name_(document.name()), source_(source) {
    flatten(document.root().find("normalizer"), "normalizers", normalizers_);
    flatten(document.root().find("pre_tokenizer"), "pretokenizers", pre_tokenizers_);
  }

  void read() {
    const bool byte_level =
        std::any_of(pre_tokenizers_.begin(), pre_tokenizers_.end(),
                    [](const JsonValue& v) { return v.get("type").as_string() == "ByteLevel"; });
    source_.kind = byte_level ? TokenizerKind::bpe : TokenizerKind::sentencepiece;
    if (byte_level) {
      read_byte_level();
    } else {
      read_characters();
    }
  }

 private:
  static std::string_view type_of(const JsonValue& step) { return step.get("type").as_string(); }

  [[noreturn]] void refuse(const JsonValue& step, std::string_view expected, std::string_view found) const {
    refuse_tokenizer(name_, step.path(), expected, found);
  }

  // Byte-level: every step before ByteLevel splits text, and every one after it GPT-2's byte alphabet.

  void read_byte_level() {
    if (!normalizers_.empty())
      refuse(normalizers_[0], "no normalizer before a byte-level vocabulary", type_of(normalizers_[0]));
    bool in_alphabet = false;
    for (const JsonValue& step : pre_tokenizers_) {
      const std::string_view type = type_of(step);
      if (type == "ByteLevel" && !in_alphabet) {
        if (flag(step, "add_prefix_space", true)) refuse(step, "no prefix space", "add_prefix_space");
        if (flag(step, "use_regex", true)) add(find_pre_tokenizer("gpt-2")->expressions[0]);
        in_alphabet = true;
      } else if (type == "Split") {
        add_split(step, in_alphabet);
      } else if (type == "Digits") {
        const bool individual = flag(step, "individual_digits", false);
        if (in_alphabet && individual) refuse(step, "digits one by one before ByteLevel", "after it");
        add(in_alphabet ? kByteAlphabetDigits : individual ? kNumber : kNumberRun);
      } else if (type == "Punctuation" && !in_alphabet) {
        const auto behavior = step.find("behavior");
        if (!behavior || behavior->as_string() != "Contiguous")
          refuse(step, "Punctuation of behavior Contiguous", behavior ? behavior->as_string() : "Isolated");
        add(kPunctuationRun);
      } else {
        refuse(step, "Split, Digits, Punctuation or ByteLevel", type);
      }
    }
    name_pre_tokenizer();
  }

  void add(std::string_view expression) { expressions_.push_back(expression); }

  void add_split(const JsonValue& step, bool in_alphabet) {
    const JsonValue pattern = step.get("pattern");
    const auto regex = pattern.find("Regex");
    if (!regex) refuse(step, "a regular expression", "a string");
    const std::string_view expression = regex->as_string(), behavior = step.get("behavior").as_string();
    if (in_alphabet) {
      if (expression != kTriple || behavior != "Isolated") refuse(step, "[0-9][0-9][0-9]", shown(expression));
      return add(kByteAlphabetTriples);
    }
    const SplitStep split = find_split_step(expression);
    if (!split) refuse(step, "an expression of a known tokenizer", shown(expression));
    // Removing what does not match is the same as isolating matches where everything matches.
    const bool inverted = flag(step, "invert", false);
    const bool isolated = behavior == "Isolated" && !inverted;
    if (!isolated && !(behavior == "Removed" && inverted && matches_everything(split)))
      refuse(step, "behavior Isolated", shown(behavior));
    add(expression);
  }

  static bool matches_everything(SplitStep split) {
    for (const char* name : {"llama-bpe", "qwen2", "qwen35", "tekken", "gpt-4o", "gpt-2"}) {
      if (find_split_step(find_pre_tokenizer(name)->expressions[0]) == split) return true;
    }
    return false;
  }

  /// The name of the same steps in GGUF, if they have one.
  void name_pre_tokenizer() {
    const auto same = [](std::string_view a, std::string_view b) {
      return find_split_step(a) == find_split_step(b);
    };
    for (const PreTokenizerTraits& traits : known_pre_tokenizers()) {
      if (traits.whole_pieces == source_.whole_pieces.value_or(false) &&
          std::equal(expressions_.begin(), expressions_.end(), traits.expressions.begin(),
                     traits.expressions.end(), same)) {
        source_.pre_tokenizer = traits.names[0];
        return;
      }
    }
    source_.split_expressions.emplace(expressions_.begin(), expressions_.end());
  }

  // Characters: U+2581 for spaces, put there by a normalizer or by Metaspace.

  void read_characters() {
    bool prepends = false, replaces = false;
    for (const JsonValue& step : normalizers_) {
      const std::string_view type = type_of(step);
      if (type == "Prepend" && !prepends && !replaces) {
        require_symbol(step, step.get("prepend").as_string());
        prepends = true;
      } else if (type == "Replace" && !replaces) {
        const auto pattern = step.get("pattern").find("String");
        if (!pattern || pattern->as_string() != " ") refuse(step, "a Replace of spaces", "another Replace");
        require_symbol(step, step.get("content").as_string());
        replaces = true;
      } else {
        refuse(step, "Prepend and Replace", type);
      }
    }
    if (prepends && !replaces) refuse(normalizers_[0], "Prepend and Replace", "Prepend alone");
    source_.add_space_prefix = prepends;
    for (const JsonValue& step : pre_tokenizers_) {
      const std::string_view type = type_of(step);
      if (type == "Metaspace" && !replaces) {
        read_metaspace(step);
        replaces = true;
      } else if (!(type == "Split" && replaces && splits_spaces(step))) {
        refuse(step, "Metaspace or ByteLevel", type);
      }
    }
    if (!replaces) {
      refuse_tokenizer(name_, "pre_tokenizer", "ByteLevel, Metaspace, or spaces replaced by the normalizer",
                       "neither");
    }
  }

  /// A split at spaces, of which the normalizer leaves none.
  static bool splits_spaces(const JsonValue& step) {
    const auto pattern = step.get("pattern").find("String");
    return pattern && pattern->as_string() == " ";
  }

  void require_symbol(const JsonValue& step, std::string_view symbol) const {
    if (symbol != kSpaceSymbol) refuse(step, kSpaceSymbol, shown(symbol));
  }

  void read_metaspace(const JsonValue& step) {
    require_symbol(step, step.get("replacement").as_string());
    if (flag(step, "split", true)) refuse(step, "Metaspace with split: false", "split: true");
    const auto scheme = step.find("prepend_scheme");
    const std::string_view prepends = scheme                                 ? scheme->as_string()
                                      : flag(step, "add_prefix_space", true) ? "always"
                                                                             : "never";
    if (prepends != "always" && prepends != "first" && prepends != "never")
      scheme->fail("always, first or never", shown(prepends));
    source_.add_space_prefix = prepends != "never";
    source_.prefix_after_control = prepends == "always";
    source_.prefix_before_space = false;
  }

  const std::string& name_;
  VocabularySource& source_;
  std::vector<JsonValue> normalizers_, pre_tokenizers_;
  std::vector<std::string_view> expressions_;
};

}  // namespace

void refuse_tokenizer(const std::string& name, std::string_view what, std::string_view expected,
                      std::string_view found) {
  throw Error(ErrorCode::unsupported_model,
              name + ": " + std::string(what) + ": expected " + std::string(expected) + ", found " +
                  std::string(found),
              {{"path", name}, {"step", what}, {"expected", expected}, {"found", found}});
}

void read_pipeline(const JsonDocument& document, VocabularySource& source) {
  PipelineReader(document, source).read();
}

}  // namespace cria
