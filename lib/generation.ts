import { onAbort } from './abort'
import { abortError, CriaError, disposedError, fromNative, type PartialResult } from './errors'
import type { NativeChunk, NativeEnd, NativeEvent, NativeGeneration } from './native'
import { type SamplingOptions, samplingRules } from './sampling'
import {
  abortSignal,
  array,
  boolean,
  integer,
  integerOrInfinity,
  nonEmptyStrings,
  oneOf,
  type Rules,
} from './validate'

/** What `generate` and `chat` have in common. */
export interface CommonGenerationOptions extends SamplingOptions {
  /**
   * At most this many tokens; `Infinity`: until the context is full. Default 512 for `generate`, and `Infinity` for
   * `chat`, where the model ends its own turn.
   */
  maxTokens?: number | undefined
  /** Stop before this text (or one of these) appears; it is not part of the result. Default: none. */
  stop?: string | string[] | undefined
  /** Stop at these token ids; they are not part of the text. Default: none besides the model's own end tokens. */
  stopTokens?: Uint32Array | number[] | undefined
  /** Go on after the model's end tokens, for benchmarks. Default false. */
  ignoreEos?: boolean | undefined
  /** Spell special tokens out in the text rather than leave them out. Default false. */
  showSpecial?: boolean | undefined
  /**
   * Greater goes first. Each level is worth a head start of 64 requests: a request is overtaken by at most so many later
   * ones, and none waits for ever. -1000 to 1000, default 0.
   */
  priority?: number | undefined
  /** Milliseconds from the call to the last token; then it fails with `ERR_TIMEOUT`, whose `partial` keeps what there was. Default: none. */
  timeout?: number | undefined
  /**
   * When prompt and answer have filled the context: `'stop'` ends with `finishReason: 'context'`; `'error'` fails with
   * `ERR_CONTEXT_FULL`; `'shift'` forgets the older half of what follows the first `keepTokens` tokens and goes on
   * (`usage.droppedTokens` counts them). Default `'stop'`.
   */
  onContextFull?: 'stop' | 'error' | 'shift' | undefined
  /** With `onContextFull: 'shift'`, the first tokens that are never dropped. Default: the prompt, at most half of the context. */
  keepTokens?: number | undefined
  /** Stops the request within one step; the error's `partial` keeps what there was. */
  signal?: AbortSignal | undefined
}

export interface GenerateOptions extends CommonGenerationOptions {
  /** Begin a text prompt with the BOS token. Default: as the vocabulary says. */
  bos?: boolean | undefined
  /** Turn spellings of special tokens in a text prompt, such as `<|eot_id|>`, into those tokens. Default false. */
  special?: boolean | undefined
}

export const commonRules = {
  ...samplingRules,
  maxTokens: integerOrInfinity(1),
  stop: nonEmptyStrings(),
  stopTokens: {
    expected: 'a Uint32Array or an array of token ids',
    parse: (value: unknown) => (ArrayBuffer.isView(value) ? value : array('').parse(value)),
  },
  ignoreEos: boolean(),
  showSpecial: boolean(),
  priority: integer(-1000, 1000),
  timeout: integer(1, 2 ** 31 - 1, ' milliseconds'),
  onContextFull: oneOf('stop', 'error', 'shift'),
  keepTokens: integer(0, 2 ** 31 - 1),
  signal: abortSignal(),
} satisfies Rules

export const generateRules = { ...commonRules, bos: boolean(), special: boolean() } satisfies Rules

/** A token with its natural-log probability, and the most likely alternatives in falling order. */
export interface TokenLogprob {
  token: number
  logprob: number
  top: Array<{ token: number; logprob: number }>
}

/** A piece of the answer. `text` holds whole characters only, and may be empty while a character is incomplete. */
export interface GenerationChunk {
  text: string
  tokens: Uint32Array
  /** One entry per token, when `logprobs` was asked for. */
  logprobs?: TokenLogprob[]
}

/** What a request cost. Times in milliseconds. */
export interface Usage {
  /** Tokens of the prompt, BOS included. */
  promptTokens: number
  /** Of these, found in the KV cache: computed before, for another request or this one. */
  cachedTokens: number
  generatedTokens: number
  /** Forgotten by context shifts. */
  droppedTokens: number
  /** How often the request gave its memory to others and was computed again. */
  preemptions: number
  /** Waiting for its turn. */
  queueMs: number
  /** Running the prompt, up to the first token. */
  prefillMs: number
  /** From the first token to the last. */
  decodeMs: number
}

/**
 * Why a generation ended: `'stop'`: an end token of the model or one of `stopTokens`; `'stopString'`: one of `stop`;
 * `'length'`: `maxTokens`; `'context'`: the context is full.
 */
export type FinishReason = 'stop' | 'stopString' | 'length' | 'context'

export interface GenerationResult {
  text: string
  tokens: Uint32Array
  /** One entry per token, when `logprobs` was asked for. */
  logprobs?: TokenLogprob[]
  finishReason: FinishReason
  /** The stop string that was met, with `'stopString'` only. */
  stopString?: string
  usage: Usage
  /** The seed that was used, given or drawn. */
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
  /** For messages, e.g. 'model.generate'. */
  call: string
  /** Queues the request. What it throws becomes the generation's rejection. */
  start: (onEvents: (events: NativeEvent[]) => void) => NativeGeneration
  seed: number | bigint
  logprobs: boolean
  signal?: AbortSignal | undefined
  finish: (result: GenerationResult) => R
  /** Told of every change of state. Must not throw. */
  watch?: (change: GenerationChange) => void
}

/** @internal What happens to a request, for whoever watches the model. */
export type GenerationChange =
  | { type: 'queued' | 'started' | 'firstToken' | 'preempted' | 'paused' | 'resumed' }
  | { type: 'finished'; finishReason: FinishReason; usage: Usage }
  | { type: 'failed'; error: CriaError }

/** A reader that leaves so many tokens unread pauses its request, until no more than the second number are. */
const UNREAD_HIGH = 256
const UNREAD_LOW = 64

interface Waiter {
  resolve: (result: IteratorResult<GenerationChunk, undefined>) => void
  reject: (error: CriaError) => void
}

/**
 * A request under way: an async iterable of chunks and, at the same time, a promise of the whole result.
 *
 * - It starts at once; chunks wait in memory until they are read, so nothing is lost by iterating late or never.
 * - A loop that reads slowly pauses the request after some hundred unread tokens, and it alone, unless the result is
 *   awaited too.
 * - Its chunks can be iterated once; a second iteration throws `ERR_ALREADY_ITERATED`.
 * - Leaving a `for await` loop early (break, return, throw) stops the request. So does `cancel()`, or the `signal`.
 *   Awaiting it afterwards rejects with `ERR_ABORTED`, whose `partial` keeps what there was.
 * - If nobody awaits or iterates it, a failure is silent: it never becomes an unhandled rejection by itself.
 *
 * As with any thenable, an `async` function that returns it returns its result.
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
  /** Chunks that came and were not read yet. */
  #unread: GenerationChunk[] = []
  /** Reads that wait for a chunk. */
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
    // Whoever awaits gets a promise of their own with its own fate; this one alone must not crash the process.
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

  /** Stops the request within one step. Harmless when it has ended. `reason` becomes the error's `cause`. */
  cancel(reason?: unknown): void {
    if (this.#state !== 'running' || this.#cancelled) return
    this.#cancelled = { reason }
    this.#native?.cancel()
  }

  // biome-ignore lint/suspicious/noThenProperty: being awaitable is the point
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
        `${this.#setup.call}: the chunks of this generation are already being iterated; ` +
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
      // Told once; an iterator that has thrown is over.
      const failure = this.#failure
      this.#failure = undefined
      return failure ? Promise.reject(failure) : Promise.resolve({ done: true, value: undefined })
    }
    return new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }))
  }

  #tell(change: GenerationChange): void {
    this.#setup.watch?.(change)
  }

  /** Somebody waits for the whole: it must come to its end, read or not. */
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

  /** The reader went away: stop, and keep nothing for it. */
  #leave(): void {
    this.#unread = []
    this.#unreadTokens = 0
    this.#failure = undefined
    this.cancel()
    for (const waiter of this.#waiters.splice(0)) waiter.resolve({ done: true, value: undefined })
  }

  /** Called by the addon on the JS thread. It must not throw: there is nobody to catch it. */
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
    // The first pending read learns of it, the rest end, as with a generator function.
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
