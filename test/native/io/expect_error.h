// expect_error(code, text, f): f throws cria::Error with this code, whose message contains the text.
#pragma once

#include <doctest/doctest.h>

#include <string>

#include "core/error.h"

namespace cria::test {

template <typename F>
void expect_error(ErrorCode code, const std::string& mentions, F f) {
  try {
    f();
  } catch (const Error& error) {
    const std::string message = error.what();
    CHECK_MESSAGE(error_code_name(error.code()) == error_code_name(code), message);
    CHECK_MESSAGE(message.find(mentions) != std::string::npos,
                  "expected \"" << mentions << "\" in: " << message);
    return;
  }
  FAIL_CHECK("no error; expected " << std::string(error_code_name(code)) << " mentioning \"" << mentions
                                   << '"');
}

}  // namespace cria::test
