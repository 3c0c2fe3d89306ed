#include "model/config_experts.h"

#include <charconv>

#include "kernels/ops.h"
#include "model/config_error.h"

namespace cria {

std::string expert_tensor_name(std::string_view part, std::uint32_t expert) {
  return std::string(part) + "." + std::to_string(expert) + ".weight";
}

bool is_expert_tensor(std::string_view name, std::uint32_t n_experts) {
  for (const ExpertTensor& tensor : {kGateExperts, kUpExperts, kDownExperts}) {
    if (!name.starts_with(tensor.part) || name.substr(tensor.part.size()).substr(0, 1) != ".") continue;
    const char* const begin = name.data() + tensor.part.size() + 1;
    std::uint32_t expert = 0;
    const auto [end, error] = std::from_chars(begin, name.data() + name.size(), expert);
    // Compared as a whole, so that "ffn_gate.01.weight" is no name of an expert.
    return error == std::errc() && end != begin && expert < n_experts &&
           name == expert_tensor_name(tensor.part, expert);
  }
  return false;
}

void read_experts(const ModelSource& file, ModelConfig* config) {
  const auto key = [&](std::string_view suffix) { return config->architecture + "." + std::string(suffix); };
  const std::string count = key("expert_count"), used = key("expert_used_count"),
                    groups = key("expert_group_count");
  const std::uint64_t n_experts = file.find_uint(count).value_or(0),
                      n_used = file.find_uint(used).value_or(0);
  if (n_experts > kMaxExperts) {
    throw_unsupported_key(file, count, "at most " + std::to_string(kMaxExperts) + " experts are supported",
                          std::to_string(n_experts));
  }
  if (n_experts == 0) {
    if (n_used > 0)
      throw_invalid_key(file, used, "0, since the model has no experts", std::to_string(n_used));
    return;
  }
  if (n_used < 1 || n_used > n_experts) {
    throw_invalid_key(file, used, "1 to " + std::to_string(n_experts) + ", the number of experts",
                      std::to_string(n_used));
  }
  if (const auto n = file.find_uint(groups); n && *n > 1)
    throw_unsupported_key(file, groups, "groups of experts are not supported", std::to_string(*n));
  config->n_experts = static_cast<std::uint32_t>(n_experts);
  config->n_experts_used = static_cast<std::uint32_t>(n_used);
}

}  // namespace cria
