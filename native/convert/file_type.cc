#include "convert/file_type.h"

#include <algorithm>

#include "core/error.h"

namespace cria {

FileType parse_file_type(std::string_view name) {
  std::string wanted(name);
  std::transform(wanted.begin(), wanted.end(), wanted.begin(),
                 [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; });
  if (wanted == "Q3_K" || wanted == "Q4_K" || wanted == "Q5_K") wanted += "_M";
  std::string names;
  for (const FileTypeTraits& t : kFileTypes) {
    if (t.name == wanted) return t.type;
    names += (names.empty() ? "" : ", ") + std::string(t.name);
  }
  throw Error(ErrorCode::invalid_argument,
              "type: expected one of " + names + ", found '" + std::string(name) + "'",
              {{"option", "type"}, {"expected", names}, {"found", name}});
}

}  // namespace cria
