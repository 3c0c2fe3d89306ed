#include "addon/errors.h"

#include <new>
#include <string>
#include <system_error>
#include <variant>

namespace cria {

Napi::Object details_to_js(Napi::Env env, const Error& error) {
  Napi::Object details = Napi::Object::New(env);
  for (const auto& [name, value] : error.details()) {
    if (const double* number = std::get_if<double>(&value))
      details.Set(name, Napi::Number::New(env, *number));
    else
      details.Set(name, Napi::String::New(env, std::get<std::string>(value)));
  }
  return details;
}

Napi::Error to_js_error(Napi::Env env, const Error& error) {
  const Napi::Error js = Napi::Error::New(env, error.what());
  js.Value().Set("code", Napi::String::New(env, std::string(error_code_name(error.code()))));
  js.Value().Set("details", details_to_js(env, error));
  return js;
}

Error to_cria_error(const std::exception_ptr& exception) noexcept {
  try {
    std::rethrow_exception(exception);
  } catch (const Error& e) {
    return e;
  } catch (const std::bad_alloc&) {
    return {ErrorCode::out_of_memory, "there is not enough memory for this operation"};
  } catch (const std::system_error& e) {
    return {ErrorCode::out_of_memory, std::string("the system refused a resource: ") + e.what()};
  } catch (const std::exception& e) {
    return {ErrorCode::internal, e.what()};
  } catch (...) {
    return {ErrorCode::internal, "an unknown exception"};
  }
}

}  // namespace cria
