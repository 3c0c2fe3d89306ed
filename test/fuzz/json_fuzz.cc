// libFuzzer target: a document parses, or a cria::Error says why not. Every value of a parsed document is
// read, found again by its key, and has a path. A crash, a leak, a sanitizer report or a slow input is a
// failure.
//
//   cmake -S . -B build-fuzz -G Ninja -DCMAKE_CXX_COMPILER=clang++-19 -DCRIA_ADDON=OFF -DCRIA_FUZZ=ON \
//         -DCRIA_SANITIZE=address,undefined
//   ninja -C build-fuzz fuzz_json
//   build-fuzz/test/native/fuzz_json -max_total_time=180 -timeout=5 -max_len=4096

#include <cstdlib>
#include <string>

#include "core/error.h"
#include "core/json.h"

namespace {

using namespace cria;

std::size_t walk(JsonValue value) {
  std::size_t n = 1;
  switch (value.type()) {
    case JsonType::null: break;
    case JsonType::boolean: value.as_bool(); break;
    case JsonType::integer: value.as_integer(); break;
    case JsonType::number: value.as_number(); break;
    case JsonType::string: n += value.as_string().size(); break;
    case JsonType::array:
      for (const JsonValue element : value.elements()) n += walk(element);
      break;
    case JsonType::object:
      for (const auto& [key, member] : value.members()) {
        n += walk(member);
        if (value.find(key).has_value() == member.is(JsonType::null)) std::abort();
      }
      break;
  }
  return n;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const JsonDocument document =
        JsonDocument::parse(std::string(reinterpret_cast<const char*>(data), size), "fuzz.json");
    walk(document.root());
    document.root().get("a").get("b").path();
  } catch (const Error&) {
  }
  return 0;
}
