// One engine thread per model: requests in, tokens out.
//
//   step(): admit -> schedule -> forward -> sample -> commit -> deliver
//
// Any number of requests share each step. Policy is the scheduler's; here its plan is carried out.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <variant>
#include <vector>

#include "engine/adapter_roots.h"
#include "engine/engine_stats.h"
#include "engine/request.h"
#include "engine/scheduler.h"
#include "engine/sequence.h"
#include "model/decoder.h"

namespace cria {

struct EngineOptions {
  // The most tokens of one sequence, prompt included.
  std::int32_t context_length = 0;
  std::int32_t n_pages = 0;
  // The most prompt tokens of a step.
  std::int32_t prefill_chunk = 256;
  // Requests that may wait while the batch is full; more get ERR_QUEUE_FULL.
  std::int32_t max_queue = 1024;
};

class Engine {
 public:
  /// Starts the thread.
  Engine(std::unique_ptr<Decoder> decoder, std::shared_ptr<const Tokenizer> tokenizer,
         const EngineOptions& options, std::shared_ptr<EventSink> sink);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  using AnyRequest = std::variant<GenerateRequest, LogitsRequest, SaveStateRequest, RestoreStateRequest>;

  // From any thread.

  /// Throws ERR_DISPOSED after stop(), ERR_QUEUE_FULL.
  RequestId submit(AnyRequest request);
  /// The request ends with FinishReason::abort (one without text with ERR_ABORTED) within one step; within
  /// one layer's time when no other request shares the step. Unknown or ended requests are ignored, here and
  /// below.
  void cancel(RequestId id) noexcept;
  /// A paused request produces nothing until it is resumed; other requests continue. Its pages may be given
  /// to them. Takes effect within one step.
  void set_paused(RequestId id, bool paused) noexcept;
  /// As of the last step.
  EngineStats stats();
  /// Ends every request with ERR_DISPOSED, joins the thread and frees the model. Idempotent.
  void stop() noexcept;

 private:
  struct Submitted {
    RequestId id;
    AnyRequest request;
    std::shared_ptr<CancelFlag> cancel;
    Clock::time_point queued;
  };
  /// A request that was admitted.
  struct Active {
    std::shared_ptr<CancelFlag> cancel;
    std::optional<Clock::time_point> deadline;
    double timeout_ms = 0;
    // Of a generation; null for other requests, whose tokens are `ids`.
    std::unique_ptr<Sequence> sequence;
    std::vector<TokenId> ids;
    AdapterSet adapters;              // in normal form
    PageId root = PrefixTree::kRoot;  // theirs
    bool saves_state = false;
    // Has been in a step, at all and since it was last preempted.
    bool started = false;
    bool runs = false;
    std::span<const TokenId> tokens() const {
      return sequence ? sequence->tokens() : std::span<const TokenId>(ids);
    }
    bool must_end() const { return cancel->cancelled() || (deadline && Clock::now() >= *deadline); }
  };
  /// A chunk of the step that runs, its request, and its row of the step's logits: -1 when it wants none.
  struct StepChunk {
    const ScheduledChunk* chunk;
    Active* active;
    std::int32_t logits_row = -1;
  };

  // engine.cc: the thread, admission and the end of requests.
  void thread_main() noexcept;
  bool wait_for_work();
  void admit(Submitted&& submitted);
  Active make_active(Submitted& submitted);
  std::vector<TokenId> prompt_ids(const Prompt& prompt, const CancelFlag& cancel) const;
  void check_ids(std::span<const TokenId> ids, bool generates) const;
  void restore(RequestId id, const RestoreStateRequest& request);
  void end_due();
  void finish(RequestId id, FinishReason reason);
  void fail(RequestId id, Error error);
  void retire(RequestId id);
  void send(RequestId id, Event event) { deliveries_.push_back({id, std::move(event)}); }
  void send_all(RequestId id, std::vector<Event>& events);
  void deliver();
  void update_stats();

  // engine_step.cc: one step.
  void step();
  void run(std::span<const ScheduledChunk> chunks);
  void build_step(std::span<const ScheduledChunk> chunks);
  bool forward();
  void take_results(const StepChunk& step_chunk);
  void take_token(const StepChunk& step_chunk);
  void fail_context_full(RequestId id, const Usage& usage);
  void save_state(RequestId id);
  PrefillBudget prefill_budget() const;

  // The engine thread's own.
  std::unique_ptr<Decoder> decoder_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  const EngineOptions options_;
  const std::uint32_t vocab_size_;
  Scheduler scheduler_;
  AdapterRoots adapter_roots_;
  std::map<RequestId, Active> active_;
  std::vector<Delivery> deliveries_;
  // The step that runs: its chunks, what the decoder gets, and by row of logits how a token is chosen and
  // which one the backend chose.
  std::vector<StepChunk> step_chunks_;
  std::vector<DecoderInput> inputs_;
  std::vector<SampleRow> sample_rows_;
  std::vector<std::uint32_t> sampled_;
  std::shared_ptr<EventSink> sink_;
  std::optional<Clock::time_point> next_deadline_;
  double prefill_ms_per_token_ = 0;  // recent; 0: not known yet
  EngineStats counts_;               // the totals
  RateMeter prompt_rate_, generated_rate_;

  // Shared with the callers.
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<Submitted> inbox_;
  std::vector<std::pair<RequestId, bool>> pauses_;
  std::map<RequestId, std::shared_ptr<CancelFlag>> cancels_;  // of every request that has not ended
  RequestId next_id_ = 1;
  bool cancel_pending_ = false;
  bool stopping_ = false;
  CancelFlag stop_flag_;  // stopping_, for the middle of a step
  EngineStats stats_;

  std::mutex stop_mutex_;  // one stop() at a time
  std::thread thread_;
};

}  // namespace cria
