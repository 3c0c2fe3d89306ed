import { onAbort } from './abort'
import { abortError, CriaError, disposedError, fromNative, type PartialResult } from './errors'
import type { NativeChunk, NativeEnd, NativeEvent, NativeGeneration } from './native'

/** A token with its log-probability (natural), and the most likely tokens in descending order. */
export interface TokenLogprob {
  token: number
  logprob: number
  top: Array<{ token: number; logprob: number }>
}

/**
 * A piece of the answer. `text` holds whole characters only; it may be empty while a character is incomplete.
 */
export interface GenerationChunk {
  text: string
  tokens: Uint32Array
  /** One entry per token, if `logprobs` was given. */
  logprobs?: TokenLogprob[]
}

/** Tokens and milliseconds of a request. */
export interface Usage {
  /** Tokens of the prompt, BOS included. */
  promptTokens: number
  /** Prompt tokens found in the KV cache: computed before, for this request or another one. */
  cachedTokens: number
  generatedTokens: number
  /** Tokens that context shifts dropped. */
  droppedTokens: number
  /** How often the request gave its memory to others and restarted. */
  preemptions: number
  /** Time in the queue. */
  queueMs: number
  /** Time for the prompt, up to the first token. */
  prefillMs: number
  /** Time from the first token to the last. */
  decodeMs: number
}

/**
 * Why a generation ended.
 *
 * - `'stop'`: at an end token of the model or one of `stopTokens`
 * - `'stopString'`: at one of `stop`
 * - `'length'`: after `maxTokens`
 * - `'context'`: the context is full
 */
export type FinishReason = 'stop' | 'stopString' | 'length' | 'context'

export interface GenerationResult {
  text: string
  tokens: Uint32Array
  /** One entry per token, if `logprobs` was given. */
  logprobs?: TokenLogprob[]
  finishReason: FinishReason
  /** The stop string that ended the text; with `'stopString'` only. */
  stopString?: string
  usage: Usage
  /** The seed in use: the given or the random one. */
  seed: number | bigint
}

const NO_USAGE: Usage = {
  promptTokens: 0,
  cachedTokens: 0,
  generatedTokens: 0,
  droppedTokens: 0,
  preemptions: 0,
  queueMs: 0,
  prefillMs: 0,
  decodeMs: 0,
}

/** @internal */
export interface GenerationSetup<R> {
  /** For error messages, e.g. 'model.generate'. */
  call: string
  /** Queues the request. Its exception becomes the generation's rejection. */
  start: (onEvents: (events: NativeEvent[]) => void) => NativeGeneration
  seed: number | bigint
  logprobs: boolean
  signal?: AbortSignal | undefined
  finish: (result: GenerationResult) => R
  /** Receives every change of state. Must not throw. */
  watch?: (change: GenerationChange) => void
}

/** @internal A change of a request's state, for listeners of the model. */
export type GenerationChange =
  | { type: 'queued' | 'started' | 'firstToken' | 'preempted' | 'paused' | 'resumed' }
  | { type: 'finished'; finishReason: FinishReason; usage: Usage }
  | { type: 'failed'; error: CriaError }

/** More unread tokens than this pause the request. */
const UNREAD_HIGH = 256
/** No more unread tokens than this resume it. */
const UNREAD_LOW = 64

interface Waiter {
  resolve: (result: IteratorResult<GenerationChunk, undefined>) => void
  reject: (error: CriaError) => void
}

/**
 * A running request: an async iterable of chunks and, at the same time, a promise of the whole result.
 *
 * - The request starts at once. Chunks wait in memory until they are read, so iterating late loses nothing.
 * - A loop that falls more than 256 tokens behind pauses its request, and no other, unless the result is
 *   awaited too.
 * - The chunks can be iterated once; a second iteration throws `ERR_ALREADY_ITERATED`.
 * - Leaving a `for await` loop early (break, return, throw) stops the request, as do `cancel()` and the
 *   `signal`. Awaiting the result then rejects with `ERR_ABORTED`, whose `partial` holds the text so far.
 * - A failure that nobody awaits or iterates is silent: it does not become an unhandled rejection.
 *
 * As with any thenable, an `async` function that returns a generation returns its result.
 */
export class Generation<R extends GenerationResult = GenerationResult>
  implements AsyncIterable<GenerationChunk>, PromiseLike<R>
{
  readonly #setup: GenerationSetup<R>
  readonly #promise: Promise<R>
  #resolve!: (result: R) => void
  #reject!: (error: CriaError) => void
  #native: NativeGeneration | undefined
  #state: 'running' | 'finished' | 'failed' = 'running'
  #failure: CriaError | undefined
  #cancelled: { reason: unknown } | undefined
  #iterated = false
  #awaited = false
  #paused = false
  #unreadTokens = 0
  #hasTokens = false
  /** Chunks that nobody has read yet. */
  #unread: GenerationChunk[] = []
  /** Pending reads. */
  #waiters: Waiter[] = []
  #texts: string[] = []
  #tokens: Uint32Array[] = []
  #logprobs: TokenLogprob[] = []
  #stopListening: () => void = () => {}

  private constructor(setup: GenerationSetup<R>) {
    this.#setup = setup
    this.#promise = new Promise<R>((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    // Callers of `then` get promises of their own; a rejection of this one must not crash the process.
    this.#promise.catch(() => {})
    this.#begin()
  }

  /** @internal */
  static start<R extends GenerationResult>(setup: GenerationSetup<R>): Generation<R> {
    return new Generation(setup)
  }

  #begin(): void {
    const { signal, start, call } = this.#setup
    this.#tell({ type: 'queued' })
    if (signal?.aborted) {
      this.#fail(abortError(call, signal.reason, this.#partial('abort', NO_USAGE)))
      return
    }
    this.#stopListening = onAbort(signal, () => this.cancel(signal?.reason))
    try {
      this.#native = start((events) => this.#receive(events))
    } catch (error) {
      this.#fail(fromNative(error))
    }
  }

  /** Stops the request within one step. No effect after its end. `reason` becomes the error's `cause`. */
  cancel(reason?: unknown): void {
    if (this.#state !== 'running' || this.#cancelled) return
    this.#cancelled = { reason }
    this.#native?.cancel()
  }

  // biome-ignore lint/suspicious/noThenProperty: a generation is a thenable on purpose
  then<A = R, B = never>(
    onfulfilled?: ((value: R) => A | PromiseLike<A>) | null,
    onrejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    this.#expectResult()
    return this.#promise.then(onfulfilled, onrejected)
  }

  catch<B = never>(onrejected?: ((reason: unknown) => B | PromiseLike<B>) | null): Promise<R | B> {
    this.#expectResult()
    return this.#promise.catch(onrejected)
  }

  finally(onfinally?: (() => void) | null): Promise<R> {
    this.#expectResult()
    return this.#promise.finally(onfinally)
  }

  get [Symbol.toStringTag](): string {
    return 'Generation'
  }

  [Symbol.asyncIterator](): AsyncIterator<GenerationChunk, undefined, undefined> {
    if (this.#iterated) {
      throw new CriaError(
        'ERR_ALREADY_ITERATED',
        `${this.#setup.call}: the chunks of this generation can be iterated once; ` +
          'await it for the whole text, or start another one',
      )
    }
    this.#iterated = true
    return {
      next: () => this.#next(),
      return: async () => {
        this.#leave()
        return { done: true, value: undefined }
      },
    }
  }

  #next(): Promise<IteratorResult<GenerationChunk, undefined>> {
    const chunk = this.#unread.shift()
    if (chunk) {
      this.#unreadTokens -= chunk.tokens.length
      if (this.#unreadTokens <= UNREAD_LOW) this.#resume()
      return Promise.resolve({ done: false, value: chunk })
    }
    if (this.#state === 'finished') return Promise.resolve({ done: true, value: undefined })
    if (this.#state === 'failed') {
      // Reported once: an iterator ends with its exception.
      const failure = this.#failure
      this.#failure = undefined
      return failure ? Promise.reject(failure) : Promise.resolve({ done: true, value: undefined })
    }
    return new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }))
  }

  #tell(change: GenerationChange): void {
    this.#setup.watch?.(change)
  }

  /** The result is awaited: the request must run to its end even if nobody reads the chunks. */
  #expectResult(): void {
    this.#awaited = true
    this.#resume()
  }

  #pause(): void {
    if (this.#paused || this.#state !== 'running') return
    this.#paused = true
    this.#native?.pause()
    this.#tell({ type: 'paused' })
  }

  #resume(): void {
    if (!this.#paused || this.#state !== 'running') return
    this.#paused = false
    this.#native?.resume()
    this.#tell({ type: 'resumed' })
  }

  /** The reader left its loop: stop, and drop the unread chunks. */
  #leave(): void {
    this.#unread = []
    this.#unreadTokens = 0
    this.#failure = undefined
    this.cancel()
    for (const waiter of this.#waiters.splice(0)) waiter.resolve({ done: true, value: undefined })
  }

  /** Called by the addon on the JS thread. Must not throw: nothing would catch it. */
  #receive(events: NativeEvent[]): void {
    for (const event of events) {
      if (this.#state !== 'running') return
      switch (event.type) {
        case 'chunk':
          this.#add(event)
          break
        case 'status':
          this.#tell({ type: event.status })
          break
        case 'end':
          this.#end(event)
          break
        case 'error':
          this.#fail(this.#failureOf(event))
          break
      }
    }
  }

  #add(event: NativeChunk): void {
    const chunk: GenerationChunk = { text: event.text, tokens: event.tokens }
    if (event.logprobs) {
      chunk.logprobs = event.logprobs
      this.#logprobs.push(...event.logprobs)
    }
    this.#texts.push(event.text)
    this.#tokens.push(event.tokens)
    if (!this.#hasTokens) this.#tell({ type: 'firstToken' })
    this.#hasTokens = true
    const waiter = this.#waiters.shift()
    if (waiter) {
      waiter.resolve({ done: false, value: chunk })
      return
    }
    this.#unread.push(chunk)
    this.#unreadTokens += chunk.tokens.length
    if (this.#iterated && !this.#awaited && this.#unreadTokens > UNREAD_HIGH) this.#pause()
  }

  #end(event: NativeEnd): void {
    if (event.finishReason === 'abort') {
      const partial = this.#partial('abort', event.usage)
      if (this.#cancelled) this.#fail(abortError(this.#setup.call, this.#cancelled.reason, partial))
      else this.#fail(disposedError(this.#setup.call, partial))
      return
    }
    let result: R
    try {
      result = this.#setup.finish({
        ...this.#produced(event.usage),
        finishReason: event.finishReason,
        ...(event.stopString === undefined ? {} : { stopString: event.stopString }),
      })
    } catch (error) {
      this.#fail(fromNative(error))
      return
    }
    this.#settle('finished')
    this.#tell({ type: 'finished', finishReason: event.finishReason, usage: { ...event.usage } })
    for (const waiter of this.#waiters.splice(0)) waiter.resolve({ done: true, value: undefined })
    this.#resolve(result)
  }

  #failureOf(event: { code: string; message: string; details: Record<string, number | string> }): CriaError {
    const aborted = event.code === 'ERR_ABORTED'
    const partial = this.#partial(aborted ? 'abort' : 'error', NO_USAGE)
    if (aborted && this.#cancelled) return abortError(this.#setup.call, this.#cancelled.reason, partial)
    return fromNative(event, partial)
  }

  #fail(error: CriaError): void {
    this.#settle('failed')
    this.#tell({ type: 'failed', error })
    const waiters = this.#waiters.splice(0)
    // As with a generator function, the first pending read rejects and the others end.
    if (waiters.length === 0) this.#failure = error
    waiters.forEach((waiter, index) => {
      if (index === 0) waiter.reject(error)
      else waiter.resolve({ done: true, value: undefined })
    })
    this.#reject(error)
  }

  #settle(state: 'finished' | 'failed'): void {
    this.#state = state
    this.#native = undefined
    this.#stopListening()
  }

  #produced(usage: Usage): Omit<GenerationResult, 'finishReason'> {
    return {
      text: this.#texts.join(''),
      tokens: concatenate(this.#tokens),
      ...(this.#setup.logprobs ? { logprobs: this.#logprobs } : {}),
      usage: { ...usage },
      seed: this.#setup.seed,
    }
  }

  #partial(finishReason: PartialResult['finishReason'], usage: Usage): PartialResult {
    return { ...this.#produced(usage), finishReason }
  }
}

function concatenate(parts: Uint32Array[]): Uint32Array {
  const all = new Uint32Array(parts.reduce((sum, part) => sum + part.length, 0))
  let offset = 0
  for (const part of parts) {
    all.set(part, offset)
    offset += part.length
  }
  return all
}
