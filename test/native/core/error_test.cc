#include "core/error.h"

#include <doctest/doctest.h>

#include <new>
#include <string>
#include <system_error>

namespace {

using namespace cria;

template <typename Exception>
Error converted(const Exception& exception) {
  try {
    throw exception;
  } catch (...) {
    return current_error();
  }
}

}  // namespace

TEST_CASE("an error's values are numbers while a double holds them exactly, else decimal digits") {
  constexpr std::uint64_t kExact = std::uint64_t{1} << 53;
  CHECK(ErrorValue(7).number() == 7);
  CHECK(ErrorValue(std::int8_t{-7}).number() == -7);
  CHECK(ErrorValue(0.5).number() == 0.5);
  CHECK(ErrorValue(kExact).number() == 9007199254740992.0);
  CHECK(ErrorValue(kExact + 1).text() == "9007199254740993");
  CHECK(ErrorValue(UINT64_MAX).text() == "18446744073709551615");
  CHECK(ErrorValue(-static_cast<std::int64_t>(kExact)).number() == -9007199254740992.0);
  CHECK(ErrorValue(INT64_MIN).text() == "-9223372036854775808");
  CHECK(ErrorValue("text").text() == "text");
  CHECK(ErrorValue(std::string("text")) == ErrorValue(std::string_view("text")));
  CHECK_FALSE(ErrorValue("7") == ErrorValue(7));
}

TEST_CASE("current_error") {
  const Error own = converted(Error(ErrorCode::io, "a disk", {{"errno", 5}}));
  CHECK(own.code() == ErrorCode::io);
  CHECK(own.what() == std::string("a disk"));
  REQUIRE(own.details().size() == 1);
  CHECK(own.details()[0] == ErrorDetail{"errno", 5});

  CHECK(converted(std::bad_alloc()).code() == ErrorCode::out_of_memory);
  const Error refused =
      converted(std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again), "thread"));
  CHECK(refused.code() == ErrorCode::out_of_memory);
  CHECK(std::string(refused.what()).find("the system refused a resource: thread") == 0);
  CHECK(converted(std::runtime_error("a bug")).code() == ErrorCode::internal);
  CHECK(converted(std::runtime_error("a bug")).what() == std::string("a bug"));
  CHECK(converted(7).code() == ErrorCode::internal);
}
