#include "io/file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <thread>

#include "expect_error.h"
#include "io/file_error.h"
#include "io/file_kind.h"
#include "temp_dir.h"

using namespace cria;
using cria::test::expect_error;
using cria::test::TempDir;
namespace fs = std::filesystem;

TEST_CASE("files that cannot be opened") {
  const TempDir dir;
  expect_error(ErrorCode::file_not_found, "missing.gguf",
               [&] { (void)File::open(dir.path / "missing.gguf"); });
  expect_error(ErrorCode::file_not_found, "cannot open", [&] { (void)File::open(""); });
  expect_error(ErrorCode::io, "a directory", [&] { (void)File::open(dir.path); });
  expect_error(ErrorCode::io, "a device", [] { (void)File::open("/dev/zero"); });
  expect_error(ErrorCode::invalid_argument, "\\x00", [] { (void)File::open(std::string("a\0b", 3)); });

  const fs::path pipe = dir.path / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  expect_error(ErrorCode::io, "a pipe", [&] { (void)File::open(pipe); });

  const fs::path loop = dir.path / "loop";
  fs::create_symlink(loop, loop);
  expect_error(ErrorCode::io, "cannot open", [&] { (void)File::open(loop); });

  const fs::path file = dir.path / "file";
  std::ofstream(file) << "x";
  expect_error(ErrorCode::file_not_found, "cannot open", [&] { (void)File::open(file / "below"); });
}

TEST_CASE("positional reads, by several threads and beyond the end") {
  const TempDir dir;
  const fs::path path = dir.path / "data";
  std::string data(300'000, '\0');
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 7 + i / 256);
  std::ofstream(path, std::ios::binary) << data;
  const auto file = File::open(path);
  CHECK(file->size() == data.size());
  CHECK(file->path() == path);

  const auto check = [&](std::size_t begin, std::size_t step) {
    std::string part(1234, '\0');
    for (std::size_t at = begin; at + part.size() <= data.size(); at += step) {
      file->read_at(at, part.data(), part.size());
      if (part != data.substr(at, part.size())) return false;
    }
    return true;
  };
  bool ok[2];
  std::thread other([&] { ok[0] = check(1, 997); });
  ok[1] = check(0, 1009);
  other.join();
  CHECK(ok[0]);
  CHECK(ok[1]);

  char byte = 0;
  file->read_at(data.size(), &byte, 0);
  expect_error(ErrorCode::io, "300000 bytes when opened", [&] { file->read_at(data.size(), &byte, 1); });
  expect_error(ErrorCode::io, "found the end of the file", [&] { file->read_at(UINT64_MAX, &byte, 1); });

  fs::resize_file(path, 100);
  file->read_at(99, &byte, 1);
  CHECK(byte == data[99]);
  expect_error(ErrorCode::io, "found the end of the file", [&] { file->read_at(100, &byte, 1); });
}

TEST_CASE("one read of more than 2 GiB" * doctest::skip(std::getenv("CRIA_TEST_LARGE") == nullptr)) {
  const TempDir dir;
  const fs::path path = dir.path / "sparse";
  std::ofstream(path, std::ios::binary) << "begin";
  const std::uint64_t size = (std::uint64_t{1} << 31) + 5000;
  fs::resize_file(path, size);
  {
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(static_cast<std::streamoff>(size - 3));
    file << "end";
  }
  std::vector<char> bytes(size);
  File::open(path)->read_at(0, bytes.data(), bytes.size());
  CHECK(std::string(bytes.data(), 5) == "begin");
  CHECK(std::string(bytes.data() + size - 3, 3) == "end");
}

TEST_CASE("files in memory behave like files on disk") {
  const auto file = File::from_memory("name", {1, 2, 3});
  CHECK(file->size() == 3);
  std::uint8_t bytes[2];
  file->read_at(1, bytes, 2);
  CHECK(bytes[1] == 3);
  expect_error(ErrorCode::io, "name", [&] { file->read_at(2, bytes, 2); });
  file->read_at(3, nullptr, 0);
}

TEST_CASE("texts of errors") {
  CHECK(quote("llama.x") == "\"llama.x\"");
  CHECK(quote(std::string_view("a\0\n\xff", 4)) == "\"a\\x00\\x0a\\xff\"");
  CHECK(quote(std::string(1000, 'x')).size() < 100);
  CHECK(number_text(1e-9) == "1e-09");
  CHECK(hex(0x0123456789abcdef) == "0123456789abcdef");
  CHECK(hex(1) == "0000000000000001");
}

TEST_CASE("other formats are recognised") {
  const auto kind = [](std::string bytes, std::uint64_t size = 1000) {
    return describe_file_kind({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()}, size);
  };
  CHECK(kind("").find("empty") != std::string::npos);
  CHECK(kind("PK\x03\x04zip").find("PyTorch") != std::string::npos);
  CHECK(kind(std::string("\x40\0\0\0\0\0\0\0{\"a\"", 12)).find("safetensors") != std::string::npos);
  CHECK(kind("tjgg\x03").find("GGJT") != std::string::npos);
  CHECK(kind("version https://git-lfs.github.com/spec/v1").find("Git LFS") != std::string::npos);
  CHECK(kind("<!DOCTYPE html>").find("HTML") != std::string::npos);
  CHECK(kind("cria-kv\n\x0d\x0c").find("KV state") != std::string::npos);
  CHECK(kind(std::string(64, '\0')).find("zeros") != std::string::npos);
  CHECK(kind("hello world").find("\"hello wo\"") != std::string::npos);
}
