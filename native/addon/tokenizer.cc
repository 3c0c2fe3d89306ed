#include "addon/tokenizer.h"

#include <string>
#include <utility>
#include <vector>

#include "addon/convert.h"
#include "addon/tasks.h"

namespace cria {

using TokenizerPointer = std::shared_ptr<const Tokenizer>;

Napi::Function JsTokenizer::define(Napi::Env env) {
  return DefineClass(
      env, "NativeTokenizer",
      {InstanceAccessor<&JsTokenizer::info>("info"), InstanceMethod<&JsTokenizer::encode>("encode"),
       InstanceMethod<&JsTokenizer::decode>("decode"), InstanceMethod<&JsTokenizer::find>("find"),
       InstanceMethod<&JsTokenizer::spelling>("spelling")});
}

Napi::Object JsTokenizer::create(Napi::Env env, TokenizerPointer tokenizer) {
  return Environment::of(env)->tokenizer_class.New({Napi::External<TokenizerPointer>::New(env, &tokenizer)});
}

JsTokenizer::JsTokenizer(const Napi::CallbackInfo& info) : Napi::ObjectWrap<JsTokenizer>(info) {
  guarded(info.Env(), [&] {
    if (!info[0].IsExternal()) throw_argument("NativeTokenizer", "an object made by loadTokenizer()");
    tokenizer_ = *info[0].As<Napi::External<TokenizerPointer>>().Data();
  });
}

Napi::Value JsTokenizer::info(const Napi::CallbackInfo& call) {
  const Napi::Env env = call.Env();
  return guarded(env, [&]() -> Napi::Value {
    const auto id_or_null = [&](std::optional<TokenId> id) -> Napi::Value {
      return id ? Napi::Value(Napi::Number::New(env, *id)) : Napi::Value(env.Null());
    };
    Napi::Object o = Napi::Object::New(env);
    o.Set("kind", tokenizer_->kind() == TokenizerKind::sentencepiece ? "sentencepiece" : "bpe");
    o.Set("vocabSize", Napi::Number::New(env, tokenizer_->vocab_size()));
    o.Set("bos", id_or_null(tokenizer_->bos()));
    o.Set("eos", id_or_null(tokenizer_->eos()));
    Napi::Array ends = Napi::Array::New(env);
    for (const TokenId id : tokenizer_->end_of_generation_ids())
      ends.Set(ends.Length(), Napi::Number::New(env, id));
    o.Set("endOfGeneration", ends);
    o.Set("addsBos", tokenizer_->adds_bos());
    o.Set("chatTemplate", Napi::String::New(env, tokenizer_->chat_template()));
    Napi::Array specials = Napi::Array::New(env);
    for (TokenId id = 0; id < tokenizer_->vocab_size(); id++) {
      const TokenType type = tokenizer_->type(id);
      if (type == TokenType::control || type == TokenType::user_defined)
        specials.Set(specials.Length(), Napi::String::New(env, std::string(tokenizer_->spelling(id))));
    }
    o.Set("specialSpellings", specials);
    o.Set("warnings", strings_to_js(env, tokenizer_->warnings()));
    return o;
  });
}

std::vector<std::pair<std::string, bool>> as_text_pieces(const Napi::Value& value, const std::string& name) {
  if (!value.IsArray()) throw_argument(name, "an array of [text, special] pairs");
  const auto array = value.As<Napi::Array>();
  std::vector<std::pair<std::string, bool>> pieces;
  for (std::uint32_t i = 0; i < array.Length(); i++) {
    const Napi::Value item = array.Get(i);
    const std::string at = name + "[" + std::to_string(i) + "]";
    if (!item.IsArray()) throw_argument(at, "a [text, special] pair");
    const auto pair = item.As<Napi::Array>();
    pieces.emplace_back(as_string(pair.Get(0u), at + "[0]"), as_bool(pair.Get(1u), at + "[1]"));
  }
  return pieces;
}

Napi::Value JsTokenizer::encode(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto text = as_text_pieces(info[0], "text");
    EncodeOptions options;
    options.bos = as_optional_bool(info[1], "bos");
    options.eos = as_bool(info[2], "eos");
    return start_task(
        info.Env(), TaskLength::short_work,
        [tokenizer = tokenizer_, text = std::move(text), options](const CancelFlag& cancel) {
          std::vector<TextPiece> pieces;
          for (const auto& [piece, special] : text) pieces.push_back({piece, special});
          return tokenizer->encode(pieces, options, &cancel);
        },
        [](Napi::Env env, std::vector<TokenId>&& ids) -> Napi::Value { return ids_to_js(env, ids); });
  });
}

Napi::Value JsTokenizer::decode(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return start_task(
        info.Env(), TaskLength::short_work,
        [tokenizer = tokenizer_, ids = as_ids(info[0], "ids"), special = as_bool(info[1], "special")](
            const CancelFlag&) { return tokenizer->decode(ids, special); },
        [](Napi::Env env, std::string&& text) -> Napi::Value { return Napi::String::New(env, text); });
  });
}

Napi::Value JsTokenizer::find(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const std::optional<TokenId> id = tokenizer_->find(as_string(info[0], "spelling"));
    return id ? Napi::Value(Napi::Number::New(info.Env(), *id)) : Napi::Value(info.Env().Null());
  });
}

Napi::Value JsTokenizer::spelling(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto id = static_cast<TokenId>(as_integer(info[0], "id", 0, UINT32_MAX));
    return Napi::String::New(info.Env(), std::string(tokenizer_->spelling(id)));
  });
}

}  // namespace cria
