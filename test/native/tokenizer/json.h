// Just enough JSON to read the reference vectors. It checks nothing, since the file is trusted.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace cria::test {

struct Json {
  std::string string;
  double number = 0;
  std::vector<Json> array;
  std::map<std::string, Json> object;

  static Json parse(std::string_view text) {
    const char* p = text.data();
    return value(p);
  }

 private:
  static void skip(const char*& p) {
    while (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t' || *p == ',' || *p == ':') ++p;
  }
  static void append_utf8(std::string& out, std::uint32_t c) {
    if (c < 0x80) {
      out += static_cast<char>(c);
    } else if (c < 0x800) {
      out += {static_cast<char>(0xc0 | c >> 6), static_cast<char>(0x80 | (c & 63))};
    } else if (c < 0x10000) {
      out += {static_cast<char>(0xe0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 63)),
              static_cast<char>(0x80 | (c & 63))};
    } else {
      out += {static_cast<char>(0xf0 | c >> 18), static_cast<char>(0x80 | (c >> 12 & 63)),
              static_cast<char>(0x80 | (c >> 6 & 63)), static_cast<char>(0x80 | (c & 63))};
    }
  }
  static std::uint32_t hex4(const char*& p) {
    const std::string digits(p, 4);
    p += 4;
    return static_cast<std::uint32_t>(std::strtoul(digits.c_str(), nullptr, 16));
  }
  static std::string text(const char*& p) {
    std::string out;
    for (++p; *p != '"'; ++p) {
      if (*p != '\\') {
        out += *p;
        continue;
      }
      switch (*++p) {
        case 'n': out += '\n'; break;
        case 't': out += '\t'; break;
        case 'r': out += '\r'; break;
        case 'b': out += '\b'; break;
        case 'f': out += '\f'; break;
        case 'u': {
          ++p;
          std::uint32_t c = hex4(p);
          if (c >= 0xd800 && c < 0xdc00) {
            p += 2;
            c = 0x10000 + ((c - 0xd800) << 10) + (hex4(p) - 0xdc00);
          }
          append_utf8(out, c);
          --p;
          break;
        }
        default: out += *p;
      }
    }
    ++p;
    return out;
  }
  static Json value(const char*& p) {
    Json json;
    skip(p);
    if (*p == '"') {
      json.string = text(p);
    } else if (*p == '[') {
      for (++p, skip(p); *p != ']'; skip(p)) json.array.push_back(value(p));
      ++p;
    } else if (*p == '{') {
      for (++p, skip(p); *p != '}'; skip(p)) {
        const std::string key = text(p);
        json.object[key] = value(p);
      }
      ++p;
    } else {
      char* end;
      json.number = std::strtod(p, &end);
      p = end > p ? end : p + 4;  // true and null: not needed here
    }
    return json;
  }
};

}  // namespace cria::test
