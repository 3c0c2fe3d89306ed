// Shared by the programs of this folder: JSON on stdout, and arguments.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/runtime.h"

namespace cria::bench {

class Json {
 public:
  Json& number(const char* name, double value) {
    char text[64];
    std::snprintf(text, sizeof text, "%.6g", value);
    return field(name, text);
  }
  Json& text(const char* name, const std::string& value) { return field(name, '"' + value + '"'); }
  Json& list(const char* name, const std::vector<Json>& values) {
    std::string all = "[";
    for (const Json& v : values) {
      all += all.size() > 1 ? ",\n    " : "\n    ";
      all += v.str();
    }
    all += "\n  ]";
    return field(name, all);
  }
  std::string str() const {
    std::string all = "{";
    for (const std::string& f : fields_) {
      if (all.size() > 1) all += ", ";
      all += f;
    }
    all += '}';
    return all;
  }

 private:
  Json& field(const char* name, const std::string& value) {
    std::string f = "\"";
    f += name;
    f += "\": ";
    f += value;
    fields_.push_back(std::move(f));
    return *this;
  }
  std::vector<std::string> fields_;
};

/// --name value, or `fallback`.
inline std::string argument(int argc, char** argv, const std::string& name, const std::string& fallback) {
  for (int i = 1; i + 1 < argc; i++)
    if (argv[i] == "--" + name) return argv[i + 1];
  return fallback;
}

inline std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  std::stringstream in(text);
  for (std::string part; std::getline(in, part, ',');) parts.push_back(part);
  return parts;
}

inline double median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2), v.end());
  return v[v.size() / 2];
}

inline Json machine(int device) {
  const cuda::DeviceProperties p = cuda::device_properties(device);
  const cuda::DriverInfo driver = cuda::probe_driver();
  return Json()
      .text("device", p.name)
      .text("architecture", "sm_" + std::to_string(p.major * 10 + p.minor))
      .number("multiprocessors", p.multiprocessors)
      .number("memoryBytes", static_cast<double>(p.total_memory))
      .number("driverCuda", driver.driver_version)
      .number("buildCuda", driver.runtime_version);
}

/// main() of a program of this folder. Returns 77 without a GPU, and 1 with a message on an error.
inline int run_program(int (*run)(int, char**), int argc, char** argv) {
  const cuda::DriverInfo driver = cuda::probe_driver();
  if (driver.state != cuda::DriverState::ready) {
    std::fprintf(stderr, "no GPU: %s\n", driver.message.c_str());
    return 77;
  }
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}

}  // namespace cria::bench
