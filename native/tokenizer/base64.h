// Base64 (RFC 4648, section 4), as rank files spell tokens.
#pragma once

#include <string>
#include <string_view>

namespace cria {

/// Replaces `bytes`. False unless `text` is whole groups of four with proper padding, and unused bits are
/// zero.
bool decode_base64(std::string_view text, std::string& bytes);

}  // namespace cria
