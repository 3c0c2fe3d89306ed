// libFuzzer target: any bytes read as a PyTorch checkpoint, as the pickle in one, or as the only shard of
// Meta's release files, give a cria::Error or tensors within their file. A crash, a leak, a sanitizer report,
// or an input that takes much time or memory is a failure.
//
// The first byte says what follows: 'z' a ZIP archive; 'p' a pickle, whose data are 64 bytes; 'm'
// params.json, a line feed, and a ZIP archive. gguf_fuzz.cc says how to build and run it.

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "../native/io/folder_builder.h"
#include "io/meta_folder.h"
#include "io/torch_checkpoint.h"

namespace {

using namespace cria;
using namespace cria::test;

std::string checkpoint(bool zip64) {
  std::vector<std::pair<TensorToPickle, std::vector<float>>> list;
  const auto add = [&](const std::string& name, std::vector<std::uint64_t> shape) {
    std::size_t elements = 1;
    for (const std::uint64_t dim : shape) elements *= dim;
    list.push_back({{.name = name + ".weight", .shape = shape}, std::vector<float>(elements, 1.0f)});
  };
  add("tok_embeddings", {3, 4});
  for (const char* name : {"wq", "wk", "wv", "wo"}) add(std::string("layers.0.attention.") + name, {4, 4});
  for (const char* name : {"w1", "w3"}) add(std::string("layers.0.feed_forward.") + name, {10, 4});
  add("layers.0.feed_forward.w2", {4, 10});
  for (const char* name : {"layers.0.attention_norm", "layers.0.ffn_norm", "norm"}) add(name, {4});
  add("output", {3, 4});
  return checkpoint_file(list, zip64);
}

void write_seeds(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  const auto write = [&](const char* name, const std::string& bytes) {
    std::ofstream(folder / name, std::ios::binary) << bytes;
  };
  const std::string params = R"({"dim":4,"n_layers":1,"n_heads":2,"multiple_of":2,"use_scaled_rope":true})";
  write("zip", "z" + checkpoint(false));
  write("zip64", "z" + checkpoint(true));
  write("meta", "m" + params + "\n" + checkpoint(false));
  const TensorToPickle tensor{.name = "a", .shape = {2, 8}, .storage_elements = 16};
  write("pickle", "p" + pickle_of({tensor}));
  write("parameter",
        "p\x80\x02"
        "ccollections\nOrderedDict\n)R(" +
            pickle_text("a") + "ctorch._utils\n_rebuild_parameter\n(" + pickle_tensor(tensor) +
            "\x88"
            "ccollections\nOrderedDict\n)RtRu}(" +
            pickle_text("_metadata") + "}ub.");
}

void read_file(const std::string& bytes) {
  const auto file = File::from_memory("memory.pth", {bytes.begin(), bytes.end()});
  for (const StoredTensor& tensor : read_torch_checkpoint(*file, 0))
    if (tensor.offset > bytes.size() || tensor.bytes > bytes.size() - tensor.offset) __builtin_trap();
}

void read_folder(const std::string& input) {
  const std::size_t end = input.find('\n');
  MemoryFolder folder;
  folder.files["m/params.json"] = input.substr(0, end);
  if (end != std::string::npos) folder.files["m/consolidated.00.pth"] = input.substr(end + 1);
  const auto source = open_meta_folder("m", folder.opener());
  std::vector<std::uint8_t> bytes;
  for (const GgufTensor& tensor : source->tensors()) {
    bytes.resize(tensor.bytes);
    source->read(tensor, 0, bytes.data(), bytes.size());
  }
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  constexpr const char* kOption = "-write_seeds=";
  for (int i = 1; i < *argc; ++i) {
    if (std::strncmp((*argv)[i], kOption, std::strlen(kOption)) != 0) continue;
    write_seeds((*argv)[i] + std::strlen(kOption));
    std::exit(0);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string input(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    if (data[0] == 'm')
      read_folder(input);
    else if (data[0] == 'p')
      read_file(zip_file({{"a/data.pkl", input}, {"a/data/0", std::string(64, '?')}}));
    else
      read_file(input);
  } catch (const Error&) {
    // Expected; any other exception ends the program and is a finding.
  }
  return 0;
}
