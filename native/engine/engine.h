// One engine thread per model: requests in, tokens out.
//
//   step(): admit -> schedule -> forward -> sample -> commit -> deliver
#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <variant>
#include <vector>

#include "engine/request.h"
#include "engine/scheduler.h"
#include "engine/sequence.h"
#include "model/decoder.h"

namespace cria {

class Engine {
 public:
  /// Starts the thread. `context_length` is the most tokens of one sequence, prompt included.
  Engine(std::unique_ptr<Decoder> decoder, std::shared_ptr<const Tokenizer> tokenizer,
         std::int32_t context_length, std::int32_t n_pages, std::shared_ptr<EventSink> sink);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // From any thread. After stop() they throw ERR_DISPOSED.
  RequestId submit(GenerateRequest request);
  RequestId submit(LogitsRequest request);
  /// The request ends with FinishReason::abort (a logits request with ERR_ABORTED) within one layer's time.
  /// Unknown or ended requests are ignored.
  void cancel(RequestId id) noexcept;

  /// Ends every request with ERR_DISPOSED, joins the thread and frees the model. Idempotent.
  void stop() noexcept;

 private:
  using AnyRequest = std::variant<GenerateRequest, LogitsRequest>;
  struct Submitted {
    RequestId id;
    AnyRequest request;
    std::shared_ptr<CancelFlag> cancel;
    Clock::time_point queued;
  };
  /// A request that was admitted.
  struct Active {
    std::shared_ptr<CancelFlag> cancel;
    std::unique_ptr<Sequence> sequence;  // null for a logits request
    std::vector<TokenId> ids;            // of a logits request
    bool started = false;
    std::span<const TokenId> tokens() const {
      return sequence ? sequence->tokens() : std::span<const TokenId>(ids);
    }
  };

  RequestId enqueue(AnyRequest request);
  void thread_main() noexcept;
  bool wait_for_work(std::vector<Submitted>& arrived);
  void admit(Submitted&& submitted);
  std::vector<TokenId> prompt_ids(const GenerateRequest& request, const CancelFlag& cancel) const;
  void check_ids(std::span<const TokenId> ids) const;
  void drop_cancelled();
  void step();
  void run_chunk(const ScheduledChunk& chunk, Active& active);
  void send(RequestId id, Event event) { deliveries_.push_back({id, std::move(event)}); }
  void fail(RequestId id, Error error);
  void retire(RequestId id);
  void deliver();

  // The engine thread's own.
  std::unique_ptr<Decoder> decoder_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  const std::int32_t context_length_;
  const std::uint32_t vocab_size_;
  Scheduler scheduler_;
  std::map<RequestId, Active> active_;
  std::vector<Delivery> deliveries_;
  std::shared_ptr<EventSink> sink_;

  // Shared with the callers.
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<Submitted> inbox_;
  std::map<RequestId, std::shared_ptr<CancelFlag>> cancels_;  // of every request that has not ended
  RequestId next_id_ = 1;
  bool cancel_pending_ = false;
  bool stopping_ = false;
  CancelFlag stop_flag_;  // stopping_, for the middle of a step

  std::mutex stop_mutex_;  // one stop() at a time
  std::thread thread_;
};

}  // namespace cria
