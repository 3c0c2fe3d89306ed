#include "io/gguf.h"

#include <iterator>

#include "core/error.h"
#include "io/file_error.h"
#include "io/gguf_parse.h"
#include "io/name_index.h"

namespace cria {

GgufFile GgufFile::open(const std::string& path) { return open(File::open(path), File::open); }

GgufFile GgufFile::open(std::shared_ptr<const File> file, const FileOpener& open_part) {
  GgufFile gguf;
  gguf.path_ = file->path();
  GgufPart opened = parse_gguf_part(*file, 0);
  std::vector<GgufPart> parts = join_gguf_split(std::move(file), std::move(opened), open_part, &gguf.files_);
  gguf.version_ = parts.front().version;
  gguf.metadata_ = std::move(parts.front().metadata);
  gguf.metadata_types_ = std::move(parts.front().metadata_types);
  gguf.tensors_ = std::move(parts.front().tensors);
  for (std::size_t i = 1; i < parts.size(); ++i)
    std::move(parts[i].tensors.begin(), parts[i].tensors.end(), std::back_inserter(gguf.tensors_));
  gguf.build_indices();
  gguf.check_duplicate_tensors();
  return gguf;
}

void GgufFile::check_duplicate_tensors() const {
  const auto tensor_name = [](const GgufTensor& tensor) -> std::string_view { return tensor.name; };
  if (const auto twice = first_duplicate(tensors_, tensor_order_, tensor_name)) {
    const GgufTensor &a = tensors_[twice->first], &b = tensors_[twice->second];
    throw Error(ErrorCode::invalid_file,
                path_ + ": the tensor " + quote(a.name) + " is in two parts of the split: " +
                    files_[a.file_index]->path() + " and " + files_[b.file_index]->path(),
                {{"path", path_}, {"tensor", a.name}});
  }
}

void GgufFile::read(const GgufTensor& tensor, std::uint64_t offset, void* dst, std::size_t bytes) const {
  files_[tensor.file_index]->read_at(tensor.offset + offset, dst, bytes);
}

}  // namespace cria
