// Reader of ZIP directories: untrusted bytes -> where each stored entry lies. PyTorch writes checkpoints as
// ZIP archives whose entries are not compressed. Source: PKWARE, APPNOTE.TXT 6.3.10, sections 4.3 and 4.5.3
// (ZIP64).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/file.h"

namespace cria {

struct ZipEntry {
  std::string name;
  std::uint64_t offset = 0;  // absolute, of its data
  std::uint64_t bytes = 0;
};

/// The entries in the directory's order. Every one lies within the file, and no name appears twice. The
/// checksums are not compared: the data may have many gigabytes. Errors: ERR_INVALID_FILE,
/// ERR_UNSUPPORTED_FILE (compressed or encrypted entries, several disks, too many entries), ERR_IO.
std::vector<ZipEntry> read_zip(const File& file);

}  // namespace cria
