// libFuzzer target: bytes -> read_gguf_adapter(), or read_peft_adapter() with the first bytes as the
// configuration. Anything but success or cria::Error is a finding. Seeds: fuzz_adapter -write_seeds=DIR
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "io/adapter_builder.h"
#include "model/adapter_reader.h"

using namespace cria;

namespace {

const ModelConfig& config() {
  static const ModelConfig config = read_config(test::open_bytes(test::tiny_llama().build()));
  return config;
}

const CancelFlag kNever;

void read_gguf(std::vector<std::uint8_t> bytes) {
  const auto file = std::make_shared<const GgufFile>(test::open_bytes(std::move(bytes)));
  read_gguf_adapter(file, config(), kNever);
}

/// [16-bit size of the configuration, configuration, safetensors]
void read_peft(const std::vector<std::uint8_t>& bytes) {
  const std::size_t size = std::min<std::size_t>(bytes.size() - 2, bytes[0] + 256u * bytes[1]);
  const auto middle = bytes.begin() + 2 + static_cast<std::ptrdiff_t>(size);
  const FileOpener open = [&](const std::string& path) {
    const bool is_config = path.ends_with(".json");
    return File::from_memory(path, is_config ? std::vector<std::uint8_t>(bytes.begin() + 2, middle)
                                             : std::vector<std::uint8_t>(middle, bytes.end()));
  };
  read_peft_adapter("folder", open, config(), kNever);
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  constexpr std::string_view kFlag = "-write_seeds=";
  for (int i = 1; i < *argc; i++) {
    const std::string_view argument = (*argv)[i];
    if (!argument.starts_with(kFlag)) continue;
    const std::filesystem::path folder(argument.substr(kFlag.size()));
    std::filesystem::create_directories(folder);
    test::write_file(folder / "lora.gguf", test::random_adapter(config(), 1, 1, 2.0f).build());
    std::exit(0);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::vector<std::uint8_t> bytes(data, data + size);
  try {
    if (std::string_view(reinterpret_cast<const char*>(data), std::min<std::size_t>(size, 4)) == "GGUF")
      read_gguf(bytes);
    else
      read_peft(bytes);
  } catch (const Error&) {
    // The expected outcome.
  }
  return 0;
}
