#include "engine/vocabulary_folder.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "core/error.h"
#include "core/json.h"
#include "engine/vocabulary_gguf.h"
#include "io/file.h"
#include "io/file_error.h"
#include "io/model_source.h"
#include "tokenizer/vocabulary_files.h"

namespace cria {
namespace {

constexpr std::uint64_t kMaxTokenizerBytes = std::uint64_t{256} << 20;
constexpr std::uint64_t kMaxConfigBytes = std::uint64_t{16} << 20;

std::string join(const std::string& folder, std::string_view name) {
  return (std::filesystem::path(folder) / name).string();
}

std::string read_all(const File& file, std::uint64_t limit) {
  if (file.size() > limit) {
    throw Error(ErrorCode::unsupported_file,
                file.path() + ": expected a file of at most " + std::to_string(limit) + " bytes, found " +
                    std::to_string(file.size()),
                {{"path", file.path()}, {"expected", limit}, {"found", file.size()}});
  }
  std::string bytes(static_cast<std::size_t>(file.size()), '\0');
  file.read_at(0, bytes.data(), bytes.size());
  return bytes;
}

/// Nothing if there is no such file.
std::optional<std::string> find_file(const std::string& path, std::uint64_t limit) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return std::nullopt;
  return read_all(*File::open(path), limit);
}

void apply_neighbours(const std::string& folder, VocabularySource& source) {
  const std::string config = join(folder, "tokenizer_config.json");
  if (auto json = find_file(config, kMaxConfigBytes))
    apply_tokenizer_config(*std::move(json), config, source);
  if (auto text = find_file(join(folder, "chat_template.jinja"), kMaxConfigBytes))
    source.chat_template = *std::move(text);
}

/// vocab_size of Meta's params.json; -1 stands for "as the tokenizer has".
std::optional<std::uint32_t> params_vocab_size(const std::string& folder) {
  const std::string path = join(folder, "params.json");
  auto json = find_file(path, kMaxConfigBytes);
  if (!json) return std::nullopt;
  const JsonDocument document = JsonDocument::parse(*std::move(json), path);
  const auto size = document.root().find("vocab_size");
  if (!size || size->as_integer() == -1) return std::nullopt;
  if (size->as_size() > UINT32_MAX) size->fail("a number of tokens", std::to_string(size->as_size()));
  return static_cast<std::uint32_t>(size->as_size());
}

}  // namespace

VocabularySource read_vocabulary_folder(const std::string& folder, std::optional<std::uint32_t> vocab_size) {
  std::optional<Error> refused;
  for (const char* name : {"tokenizer.json", "tokenizer.model", "tekken.json"}) {
    const std::string path = join(folder, name);
    auto bytes = find_file(path, kMaxTokenizerBytes);
    if (!bytes) continue;
    try {
      if (!vocab_size) vocab_size = params_vocab_size(folder);
      VocabularySource source = read_vocabulary_file(*std::move(bytes), path, vocab_size);
      if (refused) source.warnings.push_back(std::string(refused->what()) + "; " + name + " is used instead");
      apply_neighbours(folder, source);
      return source;
    } catch (const Error& error) {
      // Another file of the folder may describe the same vocabulary in a form that is supported.
      if (error.code() != ErrorCode::unsupported_model) throw;
      if (!refused) refused = error;
    }
  }
  if (refused) throw *refused;
  throw Error(ErrorCode::invalid_file,
              folder + ": expected tokenizer.json, tokenizer.model or tekken.json, found none of them",
              {{"path", folder}});
}

VocabularySource load_vocabulary(const std::string& path) {
  check_path(path);
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return read_vocabulary_folder(path);
  const std::shared_ptr<const File> file = File::open(path);
  std::string head(static_cast<std::size_t>(std::min<std::uint64_t>(file->size(), 4096)), '\0');
  file->read_at(0, head.data(), head.size());
  if (!looks_like_tokenizer(head)) return read_vocabulary(*ModelSource::open(path));
  VocabularySource source = read_vocabulary_file(read_all(*file, kMaxTokenizerBytes), path);
  apply_neighbours(std::filesystem::path(path).parent_path().string(), source);
  return source;
}

}  // namespace cria
