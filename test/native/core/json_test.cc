#include "core/json.h"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "core/error.h"

using namespace cria;

namespace {

JsonDocument parse(std::string text, const JsonLimits& limits = {}) {
  return JsonDocument::parse(std::move(text), "test.json", limits);
}

std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::invalid_file);
    return e.what();
  }
  return "no error";
}
std::string parse_error(const std::string& text) {
  return message_of([&] { parse(text); });
}

}  // namespace

TEST_CASE("json: scalars") {
  CHECK(parse(" true\n").root().as_bool());
  CHECK_FALSE(parse("false").root().as_bool());
  CHECK(parse("null").root().is(JsonType::null));
  CHECK(parse("-0").root().as_integer() == 0);
  CHECK(parse("9223372036854775807").root().as_integer() == std::numeric_limits<std::int64_t>::max());
  CHECK(parse("-9223372036854775808").root().as_integer() == std::numeric_limits<std::int64_t>::min());
  CHECK(parse("9223372036854775808").root().as_number() == 9223372036854775808.0);
  CHECK(parse("1e-05").root().as_number() == 1e-5);
  CHECK(parse("-1.25E+2").root().as_number() == -125);
  CHECK(parse("500000").root().as_number() == 500000);
  CHECK(parse("\xEF\xBB\xBF\"\"").root().as_string().empty());
}

TEST_CASE("json: strings") {
  CHECK(parse(R"("a\"\\\/\b\f\n\r\tz")").root().as_string() == "a\"\\/\b\f\n\r\tz");
  CHECK(parse(R"("\u0041\u00e9\u2581\uD83D\uDE00")").root().as_string() == "A\u00e9\u2581\U0001F600");
  CHECK(parse("\"\u00e9\u2581\U0001F600\x7F\"").root().as_string() == "\u00e9\u2581\U0001F600\x7F");
  CHECK(parse(R"("\u0000")").root().as_string() == std::string_view("\0", 1));
  // A string is decoded in place, behind it the text goes on unharmed.
  const JsonDocument both = parse(R"(["\u0041\u0041", "B"])");
  std::vector<std::string> strings;
  for (const JsonValue element : both.root().elements()) strings.emplace_back(element.as_string());
  CHECK(strings == std::vector<std::string>{"AA", "B"});
}

TEST_CASE("json: containers keep their order, and members are found by key") {
  const auto key_of = [](int i) { return std::string("k").append(std::to_string(i * 37 % 100)); };
  std::string text = "{";
  for (int i = 0; i < 100; i++)
    text.append(i ? ", \"" : "\"").append(key_of(i)).append("\": ").append(std::to_string(i));
  const JsonDocument large = parse(text + "}");
  CHECK(large.root().size() == 100);
  int n = 0;
  for (const auto& [key, value] : large.root().members()) {
    CHECK(value.as_integer() == n);
    CHECK(key == key_of(n++));
  }
  CHECK(n == 100);
  for (int i = 0; i < 100; i++) CHECK(large.root().get(key_of(i)).as_integer() == i);
  CHECK_FALSE(large.root().find("k100"));

  const JsonDocument d = parse(R"({"a": [1, [], {}, {"b": null, "c": [2.5]}], "d": "e"})");
  CHECK(d.root().size() == 2);
  CHECK(d.root().get("d").as_string() == "e");
  std::vector<JsonValue> elements;
  for (const JsonValue element : d.root().get("a").elements()) elements.push_back(element);
  REQUIRE(elements.size() == 4);
  CHECK(elements[1].size() == 0);
  CHECK(elements[2].members().begin() == elements[2].members().end());
  CHECK_FALSE(elements[3].find("b"));  // null: not set
  CHECK((*elements[3].get("c").elements().begin()).as_number() == 2.5);
  CHECK((*elements[3].get("c").elements().begin()).path() == "a[3].c[0]");
  CHECK(d.root().path() == "the document");
}

TEST_CASE("json: a value of another type names its path") {
  const JsonDocument d = parse(R"({"a": [1.5, {"b": "x"}], "n": -1})");
  const JsonValue b = (*++d.root().get("a").elements().begin()).get("b");
  CHECK(message_of([&] { b.as_number(); }) == "test.json: a[1].b: expected a number, found a string");
  CHECK(message_of([&] { b.size(); }) == "test.json: a[1].b: expected an array or an object, found a string");
  CHECK(message_of([&] { d.root().as_bool(); }) ==
        "test.json: the document: expected a boolean, found an object");
  CHECK(message_of([&] { (*d.root().get("a").elements().begin()).as_integer(); }) ==
        "test.json: a[0]: expected an integer, found a number");
  CHECK(message_of([&] { d.root().get("n").as_size(); }) ==
        "test.json: n: expected an integer of at least 0, found -1");
  CHECK(message_of([&] { d.root().get("z"); }) ==
        "test.json: the document: expected a member \"z\", found none");
  CHECK(message_of([&] { d.root().get("a").members(); }) ==
        "test.json: a: expected an object, found an array");
}

TEST_CASE("json: what is no document") {
  CHECK(parse_error("") == "test.json: line 1, column 1: expected a value, found the end of the document");
  CHECK(parse_error("{\n \"a\": tru}") == "test.json: line 2, column 7: expected a value, found 't'");
  CHECK(parse_error("[1,\n2,\n,]") == "test.json: line 3, column 1: expected a value, found ','");
  CHECK(parse_error("[1 2]").find("expected ',' or ']', found '2'") != std::string::npos);
  CHECK(parse_error("{\"a\" 1}").find("expected ':', found '1'") != std::string::npos);
  CHECK(parse_error("{a: 1}").find("expected a key or '}', found 'a'") != std::string::npos);
  CHECK(parse_error("{\"a\":1,}").find("expected a key, found '}'") != std::string::npos);
  CHECK(parse_error("{\"a\":1} x").find("expected the end of the document, found 'x'") != std::string::npos);
  CHECK(parse_error("{\"a\":1,\"b\":2,\"a\":3}").find("two members \"a\"") != std::string::npos);
  for (const char* text : {"01",
                           "1.",
                           ".5",
                           "+1",
                           "1e",
                           "-",
                           "NaN",
                           "Infinity",
                           "1e999",
                           "'a'",
                           "[1,]",
                           "{",
                           "[",
                           "\"a",
                           "\"\t\"",
                           "\"\\x\"",
                           "\"\\u12\"",
                           "\"\\u12",
                           "\"\\ud800\"",
                           "\"\\udc00\"",
                           "\"\\ud800\\u0041\"",
                           "\"\x80\"",
                           "\"\xC0\x80\"",
                           "\"\xED\xA0\x80\"",
                           "\"\xF4\x90\x80\x80\"",
                           "\"\xE2\x82\"",
                           "// a\n1",
                           "1 /* a */",
                           "]",
                           "}",
                           "[}",
                           "{]",
                           "\xFF"}) {
    CAPTURE(text);
    CHECK(parse_error(text).starts_with("test.json: line 1, column "));
  }
}

TEST_CASE("json: limits") {
  const std::string deep = std::string(100, '[') + std::string(100, ']');
  CHECK(parse(deep).root().size() == 1);
  CHECK(parse_error("[" + deep + "]").find("at most 100 levels of nesting") != std::string::npos);
  CHECK_THROWS_WITH_AS(parse("[1, 2]", {.max_bytes = 5}),
                       "test.json: expected at most 5 bytes of JSON, found 6", Error);
  // A hundred thousand equal keys, or very many levels, take no more than linear time.
  std::string keys = "{";
  for (int i = 0; i < 100000; i++) keys += "\"k\":0,";
  CHECK(parse_error(keys + "\"k\":0}").find("two members") != std::string::npos);
  CHECK(parse_error(std::string(1 << 20, '[')).find("levels") != std::string::npos);
}
