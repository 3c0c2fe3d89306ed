#include "io/file_kind.h"

#include <cstring>
#include <string_view>

#include "io/file_error.h"

namespace cria {
namespace {

struct Signature {
  std::string_view bytes;  // at the beginning of the file
  std::string_view kind;
};

constexpr Signature kSignatures[] = {
    {"PK\x03\x04", "a zip archive, as PyTorch writes checkpoints (.pth, .pt, .bin)"},
    {"\x80\x02", "a Python pickle, as old PyTorch versions wrote checkpoints"},
    {"lmgg", "a GGML file, the unversioned predecessor of GGUF"},
    {"fmgg", "a GGMF file, a predecessor of GGUF"},
    {"tjgg", "a GGJT file, the predecessor of GGUF"},
    {"algg", "a GGLA file, a LoRA adapter of GGUF's predecessor"},
    {"version https://git-lfs", "a Git LFS pointer: the file itself was not downloaded"},
    {"<!DOCTYPE", "an HTML page: the download probably failed"},
    {"<!doctype", "an HTML page: the download probably failed"},
    {"<html", "an HTML page: the download probably failed"},
    {"\x1f\x8b", "a gzip archive"},
    {"\x28\xb5\x2f\xfd", "a Zstandard archive"},
    {"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"},
    {"cria-kv\n", "a KV state that cria saved"},
    {"{", "a JSON file"},
};

// safetensors: the length of a JSON header as a 64-bit number, then the header itself.
bool is_safetensors(std::string_view head, std::uint64_t file_size) {
  if (head.size() < 9 || head[8] != '{') return false;
  std::uint64_t header_bytes;
  std::memcpy(&header_bytes, head.data(), sizeof(header_bytes));
  return header_bytes >= 2 && header_bytes <= file_size - 8;
}

}  // namespace

std::string describe_file_kind(std::span<const std::uint8_t> bytes, std::uint64_t file_size) {
  const std::string_view head(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (head.empty()) return "an empty file";
  if (is_safetensors(head, file_size)) return "a safetensors file";
  for (const Signature& signature : kSignatures)
    if (head.starts_with(signature.bytes)) return std::string(signature.kind);
  if (head.find_first_not_of('\0') == std::string_view::npos)
    return "a file that begins with zeros: the download is probably incomplete";
  return "a file that begins with " + quote(head.substr(0, 8));
}

}  // namespace cria
