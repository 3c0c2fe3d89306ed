// SentencePiece's tokenizer.model: a protobuf message (google/sentencepiece, src/sentencepiece_model.proto;
// protobuf.dev, "Encoding").
#include <bit>
#include <cstring>

#include "core/error.h"
#include "tokenizer/unicode.h"
#include "tokenizer/vocabulary_files.h"

namespace cria {
namespace {

constexpr std::size_t kMaxPieces = std::size_t{1} << 24;

/// A field of a message.
struct Field {
  std::uint32_t number = 0;
  std::uint64_t value = 0;  // a varint, or fixed 32 or 64 bits
  std::string_view bytes;   // a string, or a message
  enum class Wire { varint, fixed64, bytes, fixed32 } wire = Wire::varint;
};

/// The fields of one message, in order.
class Message {
 public:
  Message(std::string_view bytes, const std::string& name, const char* what)
      : rest_(bytes), name_(name), what_(what) {}

  bool next(Field& field) {
    if (rest_.empty()) return false;
    const std::uint64_t tag = varint();
    field = {};
    if (tag >> 3 == 0 || tag >> 3 > 0x1fffffff) fail("a field number out of range");
    field.number = static_cast<std::uint32_t>(tag >> 3);
    switch (tag & 7) {
      case 0:
        field.value = varint();
        field.wire = Field::Wire::varint;
        break;
      case 1:
        field.value = fixed(8);
        field.wire = Field::Wire::fixed64;
        break;
      case 2: {
        const std::uint64_t size = varint();
        if (size > rest_.size()) fail("a field of " + std::to_string(size) + " bytes");
        field.bytes = rest_.substr(0, size);
        field.wire = Field::Wire::bytes;
        rest_.remove_prefix(size);
        break;
      }
      case 5:
        field.value = fixed(4);
        field.wire = Field::Wire::fixed32;
        break;
      default: fail("wire type " + std::to_string(tag & 7));
    }
    return true;
  }

  [[noreturn]] void fail(const std::string& found) const {
    throw Error(ErrorCode::invalid_file,
                name_ + ": expected a SentencePiece model, found " + found + " in its " + what_ + ", " +
                    std::to_string(rest_.size()) + " bytes before the end",
                {{"path", name_}, {"found", found}});
  }
  void require(const Field& field, Field::Wire wire) const {
    if (field.wire != wire) fail("field " + std::to_string(field.number) + " of another type");
  }

 private:
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
      if (rest_.empty()) fail("the end of the data");
      const auto byte = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      if (shift == 63 && byte > 1) fail("a number of more than 64 bits");
      value |= std::uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return value;
    }
    fail("a number of more than 64 bits");
  }
  std::uint64_t fixed(std::size_t size) {
    if (rest_.size() < size) fail("the end of the data");
    std::uint64_t value = 0;
    for (std::size_t i = size; i-- > 0;) value = value << 8 | static_cast<unsigned char>(rest_[i]);
    rest_.remove_prefix(size);
    return value;
  }

  std::string_view rest_;
  const std::string& name_;
  const char* what_;
};

/// The parts of TrainerSpec and NormalizerSpec that matter, with their defaults.
struct Specs {
  std::uint64_t model_type = 1;
  std::int32_t unk = 0, bos = 1, eos = 2, pad = -1;
  bool whitespace_suffix = false;
  std::string_view normalizer;
  bool has_charsmap = false;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
};

void read_piece(std::string_view bytes, const std::string& name, VocabularySource& source) {
  std::string_view piece;
  float score = 0;
  std::uint64_t type = 1;
  Message message(bytes, name, "pieces");
  for (Field field; message.next(field);) {
    switch (field.number) {
      case 1:
        message.require(field, Field::Wire::bytes);
        piece = field.bytes;
        break;
      case 2:
        message.require(field, Field::Wire::fixed32);
        score = std::bit_cast<float>(static_cast<std::uint32_t>(field.value));
        break;
      case 3:
        message.require(field, Field::Wire::varint);
        type = field.value;
        break;
      default: break;
    }
  }
  if (type < 1 || type > 6) message.fail("the piece type " + std::to_string(type));
  if (source.tokens.size() == kMaxPieces) message.fail("more than " + std::to_string(kMaxPieces) + " pieces");
  source.tokens.emplace_back(piece);
  source.scores.push_back(score);
  source.types.push_back(static_cast<TokenType>(type));
}

void read_trainer(std::string_view bytes, const std::string& name, Specs& specs) {
  Message message(bytes, name, "trainer spec");
  for (Field field; message.next(field);) {
    const auto number = [&] {
      message.require(field, Field::Wire::varint);
      return field.value;
    };
    // Negative numbers are sign-extended to 64 bits.
    const auto id = [&] { return static_cast<std::int32_t>(number()); };
    switch (field.number) {
      case 3: specs.model_type = number(); break;
      case 24: specs.whitespace_suffix = number() != 0; break;
      case 40: specs.unk = id(); break;
      case 41: specs.bos = id(); break;
      case 42: specs.eos = id(); break;
      case 43: specs.pad = id(); break;
      default: break;
    }
  }
}

void read_normalizer(std::string_view bytes, const std::string& name, Specs& specs) {
  Message message(bytes, name, "normalizer spec");
  for (Field field; message.next(field);) {
    const auto flag = [&] {
      message.require(field, Field::Wire::varint);
      return field.value != 0;
    };
    switch (field.number) {
      case 1:
        message.require(field, Field::Wire::bytes);
        specs.normalizer = field.bytes;
        break;
      case 2:
        message.require(field, Field::Wire::bytes);
        specs.has_charsmap = !field.bytes.empty();
        break;
      case 3: specs.add_dummy_prefix = flag(); break;
      case 4: specs.remove_extra_whitespaces = flag(); break;
      case 5: specs.escape_whitespaces = flag(); break;
      default: break;
    }
  }
}

[[noreturn]] void refuse(const std::string& name, const std::string& what, std::string_view expected,
                         const std::string& found) {
  throw Error(ErrorCode::unsupported_model,
              name + ": " + what + ": expected " + std::string(expected) + ", found " + found,
              {{"path", name}, {"expected", expected}, {"found", found}});
}

void check_supported(const Specs& specs, const std::string& name) {
  constexpr const char* kTypes[] = {"", "unigram", "BPE", "word", "char"};
  if (specs.model_type != 2) {
    refuse(name, "the SentencePiece model type", "BPE",
           specs.model_type < std::size(kTypes) && specs.model_type > 0 ? kTypes[specs.model_type]
                                                                        : std::to_string(specs.model_type));
  }
  if (specs.has_charsmap)
    refuse(name, "the SentencePiece normalizer", "identity", to_well_formed(specs.normalizer.substr(0, 40)));
  if (specs.whitespace_suffix) refuse(name, "treat_whitespace_as_suffix", "false", "true");
  if (!specs.escape_whitespaces) refuse(name, "escape_whitespaces", "true", "false");
}

}  // namespace

VocabularySource read_sentencepiece_model(std::string_view bytes, const std::string& name) {
  VocabularySource source;
  source.kind = TokenizerKind::sentencepiece;
  Specs specs;
  Message model(bytes, name, "model");
  for (Field field; model.next(field);) {
    if (field.number > 3) continue;
    model.require(field, Field::Wire::bytes);
    if (field.number == 1) read_piece(field.bytes, name, source);
    if (field.number == 2) read_trainer(field.bytes, name, specs);
    if (field.number == 3) read_normalizer(field.bytes, name, specs);
  }
  if (source.tokens.empty()) model.fail("no pieces");
  check_supported(specs, name);
  const auto id = [&](std::int32_t value, TokenType type) -> std::optional<TokenId> {
    if (value < 0 || static_cast<std::size_t>(value) >= source.types.size()) return std::nullopt;
    if (source.types[static_cast<std::size_t>(value)] != type) return std::nullopt;
    return static_cast<TokenId>(value);
  };
  source.bos = id(specs.bos, TokenType::control);
  source.eos = id(specs.eos, TokenType::control);
  source.pad = id(specs.pad, TokenType::control);
  source.unk = id(specs.unk, TokenType::unknown);
  source.add_space_prefix = specs.add_dummy_prefix;
  source.remove_extra_whitespaces = specs.remove_extra_whitespaces;
  return source;
}

}  // namespace cria
