#include "io/atomic_file.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <iterator>

#include "expect_error.h"
#include "temp_dir.h"

using namespace cria;
using namespace cria::test;
namespace fs = std::filesystem;

namespace {

std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::size_t entries_of(const fs::path& folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), {}));
}

/// During its lifetime no file can grow beyond `bytes`: the closest to a full disk that needs no mount.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

}  // namespace

TEST_CASE("a file appears only with commit()") {
  const TempDir dir;
  const fs::path path = dir.path / "target";
  for (const char* text : {"first", "second"}) {
    const std::string before = read_text(path);
    AtomicFile file(path);
    file.write_at(1, text + 1, 4);
    file.write_at(0, text, 1);
    CHECK(read_text(path) == before);
    file.commit();
    CHECK(read_text(path).substr(0, 5) == std::string(text).substr(0, 5));
    CHECK(entries_of(dir.path) == 1);
  }
  struct stat status;
  REQUIRE(::stat(path.c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0600);
}

TEST_CASE("without commit() no file remains") {
  const TempDir dir;
  {
    AtomicFile file(dir.path / "target");
    file.write_at(0, "text", 4);
    REQUIRE(entries_of(dir.path) == 1);
    const auto temporary = fs::directory_iterator(dir.path)->path();
    CHECK(temporary.filename().string().starts_with(".cria-"));
    struct stat status;
    REQUIRE(::stat(temporary.c_str(), &status) == 0);
    CHECK((status.st_mode & 07777) == 0600);
  }
  CHECK(entries_of(dir.path) == 0);
}

TEST_CASE("a relative path survives a change of the working directory") {
  const TempDir dir;
  const fs::path before = fs::current_path();
  fs::current_path(dir.path);
  AtomicFile file("target");
  fs::current_path(before);
  file.write_at(0, "text", 4);
  file.commit();
  CHECK(read_text(dir.path / "target") == "text");
}

TEST_CASE("refused targets") {
  const TempDir dir;
  expect_error(ErrorCode::invalid_argument, "names a file", [] { AtomicFile file(""); });
  expect_error(ErrorCode::invalid_argument, "names a file", [&] { AtomicFile file(dir.path / ""); });
  expect_error(ErrorCode::invalid_argument, "\\x00", [] { AtomicFile file(std::string("a\0b", 3)); });
  expect_error(ErrorCode::io, "a directory", [&] { AtomicFile file(dir.path); });
  expect_error(ErrorCode::io, "a directory", [&] { AtomicFile file(dir.path / ".."); });
  expect_error(ErrorCode::io, "a device", [] { AtomicFile file("/dev/full"); });
  const fs::path pipe = dir.path / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  expect_error(ErrorCode::io, "a pipe", [&] { AtomicFile file(pipe); });
  expect_error(ErrorCode::io, "absent/target: cannot open the folder",
               [&] { AtomicFile file(dir.path / "absent" / "target"); });
  std::ofstream(dir.path / "file") << "text";
  expect_error(ErrorCode::io, "cannot open the folder",
               [&] { AtomicFile file(dir.path / "file" / "target"); });
  CHECK(entries_of(dir.path) == 2);
}

TEST_CASE("a folder without write permission") {
  const TempDir dir;
  const fs::path path = dir.path / "target";
  std::ofstream(path) << "old";
  fs::permissions(dir.path, fs::perms::owner_read | fs::perms::owner_exec);
  if (::geteuid() == 0) {
    // The superuser may write there anyway, but not to the kernel's own files.
    if (fs::exists("/proc/self/status"))
      expect_error(ErrorCode::io, "/proc/self/target", [] { AtomicFile file("/proc/self/target"); });
  } else {
    expect_error(ErrorCode::io, "Permission denied", [&] { AtomicFile file(path); });
  }
  fs::permissions(dir.path, fs::perms::owner_all);
  CHECK(read_text(path) == "old");
  CHECK(entries_of(dir.path) == 1);
}

TEST_CASE("a link is replaced, not followed") {
  const TempDir dir;
  std::ofstream(dir.path / "other") << "other";
  fs::create_symlink(dir.path / "other", dir.path / "link");
  AtomicFile file(dir.path / "link");
  file.write_at(0, "text", 4);
  file.commit();
  CHECK_FALSE(fs::is_symlink(dir.path / "link"));
  CHECK(read_text(dir.path / "link") == "text");
  CHECK(read_text(dir.path / "other") == "other");
}

TEST_CASE("a full disk") {
  const TempDir dir;
  const fs::path path = dir.path / "target";
  std::ofstream(path) << "old";
  {
    AtomicFile file(path);
    const std::string text(5000, 'x');
    const FileSizeLimit limit(4096);
    expect_error(ErrorCode::io, "cannot write at byte", [&] { file.write_at(0, text.data(), text.size()); });
  }
  CHECK(read_text(path) == "old");
  CHECK(entries_of(dir.path) == 1);
}

TEST_CASE("a target that became a directory in the meantime") {
  const TempDir dir;
  const fs::path path = dir.path / "target";
  {
    AtomicFile file(path);
    fs::create_directories(path / "below");
    expect_error(ErrorCode::io, "cannot rename the temporary file to it", [&] { file.commit(); });
  }
  CHECK(fs::is_directory(path / "below"));
  CHECK(entries_of(dir.path) == 1);
}
