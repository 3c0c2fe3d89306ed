#include "addon/kv_state.h"

#include <functional>
#include <utility>

#include "addon/errors.h"
#include "addon/tasks.h"

namespace cria {
namespace {

/// The cancel() of a task with two steps, passed on to the step in progress. JS thread only.
struct Cancel {
  std::function<void()> current_step;
  bool called = false;

  void operator()() {
    called = true;
    if (current_step) current_step();
  }
};

Napi::Object file_to_js(Napi::Env env, std::size_t tokens, std::size_t bytes) {
  Napi::Object o = Napi::Object::New(env);
  o.Set("tokens", Napi::Number::New(env, static_cast<double>(tokens)));
  o.Set("bytes", Napi::Number::New(env, static_cast<double>(bytes)));
  return o;
}

/// Makes a task of start_task() the step in progress. Returns its promise.
Napi::Value follow(const Napi::Object& task, Cancel& cancel) {
  const auto call =
      std::make_shared<Napi::FunctionReference>(Napi::Persistent(task.Get("cancel").As<Napi::Function>()));
  cancel.current_step = [call] { call->Call({}); };
  if (cancel.called) cancel();
  return task.Get("promise");
}

/// Writes the file of a saved state. The result is the task of start_task().
Napi::Object start_write(Napi::Env env, const KvStateHeader& header, const std::string& path,
                         const std::shared_ptr<const KvState>& state) {
  return start_task(
      env, TaskLength::long_work,
      [state, header, path](const CancelFlag& flag) {
        write_kv_state(path, header, state->tokens, {state->pages.data(), state->pages.size()}, &flag);
        return true;
      },
      [state](Napi::Env at, bool) -> Napi::Value {
        return file_to_js(at, state->tokens.size(), state->pages.size());
      });
}

/// The header of states with these adapters.
KvStateHeader header_of(const StateTarget& target, const AdapterSet& adapters) {
  KvStateHeader header = target.header;
  header.model_fingerprint = adapted_fingerprint(header.model_fingerprint, target.adapter_fingerprints,
                                                 normalized(adapters, target.adapter_fingerprints.size()));
  return header;
}

}  // namespace

Napi::Object save_state(Napi::Env env, const StateTarget& target, std::string path,
                        SaveStateRequest request) {
  const KvStateHeader state_header = header_of(target, request.adapters);
  const RequestId id = target.engine->submit(std::move(request));
  const auto cancel = std::make_shared<Cancel>();
  cancel->current_step = [engine = target.engine, id] { engine->cancel(id); };
  const auto deferred = Napi::Promise::Deferred::New(env);
  target.callbacks->add(env, id,
                        [deferred, cancel, header = state_header, path = std::move(path)](
                            Napi::Env e, std::vector<Event>&& events) {
                          if (const auto* error = std::get_if<Error>(&events.back())) {
                            deferred.Reject(to_js_error(e, *error).Value());
                          } else if (const auto* saved = std::get_if<StateSavedEvent>(&events.back())) {
                            try {
                              deferred.Resolve(follow(start_write(e, header, path, saved->state), *cancel));
                            } catch (const Napi::Error& thrown) {
                              deferred.Reject(thrown.Value());
                            }
                          }
                        });
  return task_object(env, deferred.Promise(), [cancel] { (*cancel)(); });
}

Napi::Object restore_state(Napi::Env env, const StateTarget& target, std::string path, AdapterSet adapters) {
  const auto cancel = std::make_shared<Cancel>();
  // The second step begins on the JS thread after the file has been read.
  const Napi::Object reading = start_task(
      env, TaskLength::long_work,
      [target, header = header_of(target, adapters), path = std::move(path)](const CancelFlag& flag) {
        return std::make_shared<KvState>(read_kv_state(
            path, header, target.vocab_size, static_cast<std::uint64_t>(target.context_length), &flag));
      },
      [target, cancel, adapters = std::move(adapters)](Napi::Env e,
                                                       std::shared_ptr<KvState> state) -> Napi::Value {
        const std::size_t bytes = state->pages.size();
        const RequestId id = target.engine->submit(RestoreStateRequest{std::move(state), adapters});
        cancel->current_step = [engine = target.engine, id] { engine->cancel(id); };
        const auto deferred = Napi::Promise::Deferred::New(e);
        target.callbacks->add(e, id, [deferred, bytes](Napi::Env at, std::vector<Event>&& events) {
          if (const auto* error = std::get_if<Error>(&events.back()))
            deferred.Reject(to_js_error(at, *error).Value());
          else if (const auto* restored = std::get_if<StateRestoredEvent>(&events.back()))
            deferred.Resolve(file_to_js(at, static_cast<std::size_t>(restored->n_tokens), bytes));
        });
        return deferred.Promise();
      });
  const Napi::Value promise = follow(reading, *cancel);
  return task_object(env, promise.As<Napi::Promise>(), [cancel] { (*cancel)(); });
}

}  // namespace cria
