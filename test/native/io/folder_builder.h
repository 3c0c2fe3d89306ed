// Builds model folders in memory: safetensors, ZIP archives and pickles as their writers make them, for tests
// that then damage them.
#pragma once

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "io/file.h"

namespace cria::test {

/// Files by path.
struct MemoryFolder {
  std::map<std::string, std::string> files;

  FileOpener opener() const {
    return [this](const std::string& path) -> std::shared_ptr<const File> {
      const auto at = files.find(path);
      if (at == files.end()) throw Error(ErrorCode::file_not_found, path + ": no such file");
      return File::from_memory(path, {at->second.begin(), at->second.end()});
    };
  }
};

inline std::string file_bytes(const std::vector<float>& values) {
  std::string bytes(values.size() * sizeof(float), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

template <typename T>
void append(std::string& out, T value) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out.append(bytes, sizeof(T));
}

inline std::string list_text(const std::vector<std::uint64_t>& values) {
  std::string text = "[";
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i > 0) text += ',';
    text += std::to_string(values[i]);
  }
  return text + "]";
}

/// A safetensors file with this header, whatever it says.
inline std::string safetensors_file(const std::string& header, const std::string& data) {
  std::string file;
  append<std::uint64_t>(file, header.size());
  return file + header + data;
}

struct TensorToStore {
  std::string name, dtype;
  std::vector<std::uint64_t> shape;
  std::string data;
};

inline std::string safetensors_file(const std::vector<TensorToStore>& tensors) {
  std::string header = "{\"__metadata__\":{\"format\":\"pt\"}", data;
  for (const TensorToStore& t : tensors) {
    header += ",\"" + t.name + "\":{\"dtype\":\"" + t.dtype + "\",\"shape\":" + list_text(t.shape) +
              ",\"data_offsets\":" + list_text({data.size(), data.size() + t.data.size()}) + "}";
    data += t.data;
  }
  return safetensors_file(header + "}", data);
}

struct FileToZip {
  std::string name, data;
  std::uint16_t method = 0, flags = 0;
};

/// A ZIP archive of stored entries. With `zip64` the sizes and offsets stand in ZIP64 records.
inline std::string zip_file(const std::vector<FileToZip>& files, bool zip64 = false) {
  std::string out, directory;
  for (const FileToZip& f : files) {
    const auto offset = out.size(), size = f.data.size();
    const auto short_of = [&](std::uint64_t v) {
      return zip64 ? 0xffffffffu : static_cast<std::uint32_t>(v);
    };
    append<std::uint32_t>(out, 0x04034b50);
    for (const std::uint16_t v : {std::uint16_t{45}, f.flags, f.method, std::uint16_t{0}, std::uint16_t{0}})
      append(out, v);
    for (const std::uint32_t v : {0u, short_of(size), short_of(size)}) append(out, v);
    append<std::uint16_t>(out, static_cast<std::uint16_t>(f.name.size()));
    append<std::uint16_t>(out, 0);
    out += f.name + f.data;

    append<std::uint32_t>(directory, 0x02014b50);
    for (const std::uint16_t v :
         {std::uint16_t{45}, std::uint16_t{45}, f.flags, f.method, std::uint16_t{0}, std::uint16_t{0}})
      append(directory, v);
    for (const std::uint32_t v : {0u, short_of(size), short_of(size)}) append(directory, v);
    append<std::uint16_t>(directory, static_cast<std::uint16_t>(f.name.size()));
    append<std::uint16_t>(directory, zip64 ? 28 : 0);
    for (int i = 0; i < 3; ++i) append<std::uint16_t>(directory, 0);
    append<std::uint32_t>(directory, 0);
    append<std::uint32_t>(directory, short_of(offset));
    directory += f.name;
    if (!zip64) continue;
    append<std::uint16_t>(directory, 1);
    append<std::uint16_t>(directory, 24);
    for (const std::uint64_t v : {std::uint64_t{size}, std::uint64_t{size}, std::uint64_t{offset}})
      append(directory, v);
  }
  const std::uint64_t at = out.size();
  out += directory;
  if (zip64) {
    const std::uint64_t end64 = out.size();
    append<std::uint32_t>(out, 0x06064b50);
    append<std::uint64_t>(out, 44);
    append<std::uint32_t>(out, 45u | 45u << 16);
    append<std::uint64_t>(out, 0);
    for (const std::uint64_t v :
         {std::uint64_t{files.size()}, std::uint64_t{files.size()}, std::uint64_t{directory.size()}, at})
      append(out, v);
    append<std::uint32_t>(out, 0x07064b50);
    append<std::uint32_t>(out, 0);
    append<std::uint64_t>(out, end64);
    append<std::uint32_t>(out, 1);
  }
  append<std::uint32_t>(out, 0x06054b50);
  append<std::uint32_t>(out, 0);
  append<std::uint16_t>(out, zip64 ? 0xffff : static_cast<std::uint16_t>(files.size()));
  append<std::uint16_t>(out, zip64 ? 0xffff : static_cast<std::uint16_t>(files.size()));
  append<std::uint32_t>(out, zip64 ? 0xffffffffu : static_cast<std::uint32_t>(directory.size()));
  append<std::uint32_t>(out, zip64 ? 0xffffffffu : static_cast<std::uint32_t>(at));
  append<std::uint16_t>(out, 0);
  return out;
}

// ---- pickles: the opcodes that PyTorch's _save writes ----

inline std::string pickle_text(const std::string& text) {
  std::string out = "X";
  append<std::uint32_t>(out, static_cast<std::uint32_t>(text.size()));
  return out + text;
}
inline std::string pickle_int(std::int32_t value) {
  std::string out = "J";
  append(out, value);
  return out;
}
inline std::string pickle_ints(const std::vector<std::uint64_t>& values) {
  std::string out = "(";
  for (const std::uint64_t v : values) out += pickle_int(static_cast<std::int32_t>(v));
  return out + "t";
}

struct TensorToPickle {
  std::string name;
  std::vector<std::uint64_t> shape;
  std::string storage = "FloatStorage";
  std::string key = "0";
  std::int32_t storage_elements = 0;
  std::int32_t first = 0;
  std::vector<std::uint64_t> strides = {};  // empty: those of C order
};

/// The tensor alone, without its name.
inline std::string pickle_tensor(const TensorToPickle& t) {
  std::vector<std::uint64_t> strides = t.strides;
  if (strides.empty()) {
    std::uint64_t step = 1;
    strides.resize(t.shape.size());
    for (std::size_t d = t.shape.size(); d-- > 0; step *= t.shape[d]) strides[d] = step;
  }
  return "ctorch._utils\n_rebuild_tensor_v2\n((" + pickle_text("storage") + "ctorch\n" + t.storage + "\n" +
         pickle_text(t.key) + pickle_text("cpu") + pickle_int(t.storage_elements) + "tQ" +
         pickle_int(t.first) + pickle_ints(t.shape) + pickle_ints(strides) + "\x89" +
         "ccollections\nOrderedDict\n)RtR";
}

inline std::string pickle_of(const std::vector<TensorToPickle>& tensors) {
  std::string out = "\x80\x02}(";
  for (const TensorToPickle& t : tensors) out += pickle_text(t.name) + pickle_tensor(t);
  return out + "u.";
}

/// A checkpoint of F32 tensors, each with a storage of its own.
inline std::string checkpoint_file(const std::vector<std::pair<TensorToPickle, std::vector<float>>>& tensors,
                                   bool zip64 = false) {
  std::vector<TensorToPickle> described;
  std::vector<FileToZip> files;
  for (const auto& [tensor, values] : tensors) {
    TensorToPickle t = tensor;
    t.key = std::to_string(described.size());
    t.storage_elements = static_cast<std::int32_t>(values.size());
    described.push_back(t);
    files.push_back({"archive/data/" + t.key, file_bytes(values)});
  }
  files.insert(files.begin(), {"archive/data.pkl", pickle_of(described)});
  files.push_back({"archive/byteorder", "little"});
  return zip_file(files, zip64);
}

}  // namespace cria::test
