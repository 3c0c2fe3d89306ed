import { onAbort } from './abort'
import { addon } from './binding'
import {
  type ChatMessage,
  type ChatTemplateOptions,
  chatTemplateRules,
  prepareChat,
  type RenderChatOptions,
} from './chat'
import { abortError, CriaError, disposedError, fromNative, invalidArgument } from './errors'
import {
  type CommonGenerationOptions,
  commonRules,
  type GenerateOptions,
  Generation,
  type GenerationResult,
  generateRules,
} from './generation'
import type { NativeModel, NativeRequest } from './native'
import { filePath } from './path'
import { randomSeed, samplingParams } from './sampling'
import { runTask } from './tasks'
import { promptOf, Tokenizer } from './tokenizer'
import {
  abortSignal,
  boolean,
  bytes,
  callback,
  checkArgument,
  checkOptions,
  checkTokenIds,
  integer,
  matching,
  oneOf,
  type Rules,
} from './validate'
import { type ModelStats, modelStats, type RequestListener, RequestWatch } from './watch'

export interface LoadProgress {
  loadedBytes: number
  totalBytes: number
  /** 0 to 1. */
  fraction: number
}

export type Device = 'auto' | 'cpu' | 'cuda' | `cuda:${number}`

export interface LoadModelOptions {
  /** Where to run. `'auto'` takes the fastest there is and says why in `info.deviceReason`; the others never fall back. Default `'auto'`. */
  device?: Device | undefined
  /**
   * For models larger than the card: so many of the last layers run on the CUDA device, the others, the embedding and the
   * output on the CPU; `info.layers` of them is all of the model, 0 none. Default: all where the model fits the device's
   * free memory, else as many as fit (`'auto'` takes the CPU alone for less than a quarter). `info.gpuLayers` and
   * `info.deviceReason` tell what was chosen. More than the model has, or any with the device `'cpu'`, is
   * `ERR_INVALID_ARGUMENT`.
   */
  gpuLayers?: number | undefined
  /** CPU threads, the engine's own included. Default: physical cores within the process's quota. */
  threads?: number | undefined
  /** Tokens of a conversation, prompt and answer. Default: what the file says, lowered to what `kvMemory` or free memory holds. */
  contextLength?: number | undefined
  /**
   * Memory for the KV cache, which all requests share: bytes, or text such as `'512MB'` (10^6) or `'2GiB'` (2^30).
   * Default: up to eight contexts within a quarter of the free memory, at least one within half of it;
   * `info.kvBytes` tells. It is taken as it is needed, and then kept for prompts that begin like earlier ones.
   */
  kvMemory?: number | string | undefined
  /** Type of the KV cache. Default `'f16'`; `'f32'` is for checking. */
  kvDtype?: 'f16' | 'f32' | undefined
  /** Prompt tokens run per engine step. Default: the engine's. */
  prefillChunk?: number | undefined
  /**
   * Requests that may wait when as many run as share a step (64); more are refused with `ERR_QUEUE_FULL`. Default 1024.
   */
  maxQueue?: number | undefined
  /** Map the file rather than read it: starts sooner, runs somewhat slower, and the file must not change. Default false. */
  mmap?: boolean | undefined
  /** Called at most every 50 ms. What it throws stops the load and becomes its rejection. */
  onProgress?: ((progress: LoadProgress) => void) | undefined
  /** Stops the load; rejects with `ERR_ABORTED`. */
  signal?: AbortSignal | undefined
}

const loadRules = {
  device: matching<Device>("'auto', 'cpu', 'cuda' or 'cuda:<number>'", /^(auto|cpu|cuda(:\d{1,3})?)$/),
  gpuLayers: integer(0, 2 ** 31 - 1),
  threads: integer(1, 1024),
  contextLength: integer(1, 2 ** 31 - 1),
  kvMemory: bytes(),
  kvDtype: oneOf('f16', 'f32'),
  prefillChunk: integer(1, 65536),
  maxQueue: integer(1, 2 ** 20),
  mmap: boolean(),
  onProgress: callback<(progress: LoadProgress) => void>(),
  signal: abortSignal(),
} satisfies Rules

/** What a loaded model is and how it runs. Frozen. Sizes in bytes. */
export interface ModelInfo {
  readonly path: string
  /** The name that the file gives itself; may be empty. */
  readonly name: string
  /** `'llama'`. */
  readonly architecture: string
  readonly fileBytes: number
  /** Bytes in the file by weight type, e.g. `{ Q4_K: 12345, F32: 678 }`. */
  readonly tensorTypes: Readonly<Record<string, number>>
  /** Number of weights. */
  readonly parameters: number
  /** Token ids run from 0 to one less. */
  readonly vocabSize: number
  /** Width of the residual stream. */
  readonly hidden: number
  readonly layers: number
  /** Query heads. */
  readonly heads: number
  /** Key and value heads: fewer than `heads` with grouped-query attention. */
  readonly kvHeads: number
  readonly headDim: number
  readonly ffnHidden: number
  /** Tokens that a conversation may have here, prompt and answer. */
  readonly contextLength: number
  /** Tokens that the file says the model was made for. */
  readonly trainedContextLength: number
  readonly ropeBase: number
  /** Where it runs: `'cpu'`, `'cuda:0'`; see `gpuLayers`. */
  readonly device: string
  /** Why that device, and so many layers on it, were chosen. */
  readonly deviceReason: string
  /** Of the layers, those that run on a CUDA device: 0 to `layers`. The others run on the CPU. */
  readonly gpuLayers: number
  /** The instruction-set level in use, one of `cpuInfo().isaLevels`. */
  readonly isa: string
  /** CPU threads, the engine's own included. */
  readonly threads: number
  readonly kvDtype: 'f16' | 'f32'
  /** Pages of the KV cache, and tokens in each. */
  readonly kvPages: number
  readonly kvPageTokens: number
  readonly kvBytes: number
  /** Memory that the weights take. */
  readonly weightBytes: number
  /** Milliseconds that loading took. */
  readonly loadMs: number
}

export interface ChatOptions extends CommonGenerationOptions, ChatTemplateOptions {}

export interface ChatResult extends GenerationResult {
  /** Ready to be appended to the messages. With `continueFinalMessage` it holds the whole message. */
  message: { role: 'assistant'; content: string }
}

export interface SaveStateOptions {
  /** Begin a text prompt with the BOS token. Default: as the vocabulary says. */
  bos?: boolean | undefined
  /** Turn spellings of special tokens in a text prompt into those tokens. Default false. */
  special?: boolean | undefined
  signal?: AbortSignal | undefined
}

const saveStateRules = { bos: boolean(), special: boolean(), signal: abortSignal() } satisfies Rules

function checkListener(call: string, event: unknown, listener: unknown): RequestListener {
  checkArgument(call, 'event', event, oneOf('request'))
  return checkArgument(call, 'listener', listener, callback<RequestListener>())
}

const chatRules = { ...commonRules, ...chatTemplateRules } satisfies Rules

/** A saved state: how many tokens it holds, and the size of its file. */
export interface StateFile {
  readonly tokens: number
  readonly bytes: number
}

/**
 * A loaded model. Any number of requests may be under way at once: they share every step of the engine, and the memory
 * of whatever their prompts have in common. The same request gives the same tokens whatever else runs.
 */
export class Model {
  readonly #native: NativeModel
  readonly #watch = new RequestWatch()
  #disposal: Promise<void> | undefined
  /** What the model is and how it runs. Frozen; stays readable after `dispose`. */
  readonly info: ModelInfo
  /** The model's vocabulary. */
  readonly tokenizer: Tokenizer

  private constructor(native: NativeModel) {
    this.#native = native
    const { tensorTypes, ...info } = native.info
    this.info = Object.freeze({ ...info, tensorTypes: Object.freeze({ ...tensorTypes }) })
    this.tokenizer = Tokenizer.create(native.tokenizer, () => this.disposed)
  }

  /** @internal */
  static create(native: NativeModel): Model {
    return new Model(native)
  }

  /** Whether `dispose` was called. */
  get disposed(): boolean {
    return this.#disposal !== undefined
  }

  /**
   * Continues a text, or a sequence of token ids. Starts at once; iterate the chunks, await the result, or both.
   *
   * Wrong arguments throw here and now (`ERR_INVALID_ARGUMENT`); everything else arrives through the returned object:
   * `ERR_ABORTED`, `ERR_DISPOSED`, `ERR_PROMPT_TOO_LONG`, `ERR_CONTEXT_FULL`, `ERR_QUEUE_FULL`, `ERR_TIMEOUT`,
   * `ERR_OUT_OF_MEMORY`.
   */
  generate(prompt: string | Uint32Array | readonly number[], options?: GenerateOptions): Generation {
    return this.#generate('model.generate', prompt, options)
  }

  /**
   * `count` different continuations of one prompt, which is computed once. Each is a generation of its own, to be
   * iterated, awaited or cancelled by itself. The i-th (from 0) is what `generate` gives with seed `seed + i`.
   */
  generateSamples(
    prompt: string | Uint32Array | readonly number[],
    count: number,
    options?: GenerateOptions,
  ): Generation[] {
    const call = 'model.generateSamples'
    const n = checkArgument(call, 'count', count, integer(1, 1024))
    const first = checkOptions(call, options, generateRules).seed ?? randomSeed()
    return Array.from({ length: n }, (_, i) => {
      const seed = typeof first === 'bigint' ? BigInt.asUintN(64, first + BigInt(i)) : first + i
      return this.#generate(call, prompt, { ...options, seed })
    })
  }

  #generate(
    call: string,
    prompt: string | Uint32Array | readonly number[],
    options: GenerateOptions | undefined,
  ): Generation {
    const values = checkOptions(call, options, generateRules)
    const checkedPrompt = promptOf(call, prompt, values.special ?? false, this.info.vocabSize)
    for (const name of ['bos', 'special'] as const) {
      if (values[name] !== undefined && checkedPrompt instanceof Uint32Array) {
        throw new CriaError(
          'ERR_INVALID_ARGUMENT',
          `${call}: option '${name}' needs a prompt of text, got token ids`,
          {
            details: { call, option: name },
          },
        )
      }
    }
    const { request, seed } = this.#request(call, values, { maxTokens: 512, startsText: false })
    return Generation.start({
      call,
      seed,
      logprobs: values.logprobs !== undefined,
      signal: values.signal,
      start: (onEvents) => {
        this.#check(call)
        return this.#native.generate({ ...request, prompt: checkedPrompt, bos: values.bos ?? null }, onEvents)
      },
      finish: (result) => result,
      watch: this.#watch.of(call),
    })
  }

  /**
   * Answers a conversation, rendered by the file's own chat template (or the one given). Spellings of special tokens
   * inside the messages stay text. Starts at once; iterate the chunks, await the result, or both.
   *
   * Wrong arguments throw here and now; everything else arrives through the returned object: what `generate` names, and
   * `ERR_CHAT_TEMPLATE`.
   */
  chat(messages: readonly ChatMessage[], options?: ChatOptions): Generation<ChatResult> {
    const call = 'model.chat'
    const values = checkOptions(call, options, chatRules)
    const { request, seed } = this.#request(call, values, {
      maxTokens: -1,
      startsText: !values.continueFinalMessage,
    })
    const renderOptions: Record<string, unknown> = {}
    for (const [name, value] of Object.entries(values)) {
      if (Object.hasOwn(chatTemplateRules, name)) renderOptions[name] = value
    }
    // Checked now, so that malformed messages throw at the call; the template runs inside the promise.
    const render = prepareChat(call, messages, renderOptions)
    let opening = ''
    return Generation.start<ChatResult>({
      call,
      seed,
      logprobs: values.logprobs !== undefined,
      signal: values.signal,
      start: (onEvents) => {
        this.#check(call)
        const rendered = render(this.tokenizer.chatVocabulary())
        opening = rendered.opening
        // The template has spelt BOS itself, as most do: not twice.
        const bos = rendered.beginsWithBos ? false : null
        return this.#native.generate({ ...request, prompt: rendered.pieces, bos }, onEvents)
      },
      finish: (result) => ({ ...result, message: { role: 'assistant', content: opening + result.text } }),
      watch: this.#watch.of(call),
    })
  }

  /** The same as `model.tokenizer.renderChat`. */
  renderChat(messages: readonly ChatMessage[], options?: RenderChatOptions): string {
    return this.tokenizer.renderChat(messages, options)
  }

  /**
   * Logits after the last of the given ids, one per token of the vocabulary.
   * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_PROMPT_TOO_LONG, ERR_ABORTED, ERR_DISPOSED
   */
  async logits(
    ids: Uint32Array | readonly number[],
    options?: { signal?: AbortSignal | undefined },
  ): Promise<Float32Array> {
    const call = 'model.logits'
    this.#check(call)
    const checked = promptOf(
      call,
      checkTokenIds(call, 'ids', ids, this.info.vocabSize),
      false,
      this.info.vocabSize,
    )
    const { signal } = checkOptions(call, options, { signal: abortSignal() })
    return runTask(call, () => this.#native.logits(checked as Uint32Array), signal)
  }

  /**
   * Saves what the model has computed for a prompt, so that a later process (`restoreState`) need not compute it again.
   * What is not in the cache is computed first. The file appears whole or not at all.
   * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_PROMPT_TOO_LONG, ERR_IO, ERR_ABORTED, ERR_DISPOSED
   */
  async saveState(
    path: string | URL,
    prompt: string | Uint32Array | readonly number[],
    options?: SaveStateOptions,
  ): Promise<StateFile> {
    const call = 'model.saveState'
    this.#check(call)
    const file = filePath(call, path)
    const { signal, bos, special } = checkOptions(call, options, saveStateRules)
    const checked = promptOf(call, prompt, special ?? false, this.info.vocabSize)
    return runTask(call, () => this.#native.saveState(file, checked, bos ?? null), signal)
  }

  /**
   * Puts a saved state into the cache: prompts that begin like the saved one find its tokens there, until the memory is
   * needed for others. A file of another model, KV type or version, or a damaged one, is refused.
   * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_FILE_NOT_FOUND, ERR_IO, ERR_INVALID_FILE, ERR_UNSUPPORTED_FILE,
   * ERR_STATE_MISMATCH, ERR_OUT_OF_MEMORY (not enough pages are unused), ERR_ABORTED, ERR_DISPOSED
   */
  async restoreState(path: string | URL, options?: { signal?: AbortSignal | undefined }): Promise<StateFile> {
    const call = 'model.restoreState'
    this.#check(call)
    const file = filePath(call, path)
    const { signal } = checkOptions(call, options, { signal: abortSignal() })
    return runTask(call, () => this.#native.restoreState(file), signal)
  }

  /** What the engine does now, in numbers. Cheap: nothing waits for a step. */
  stats(): ModelStats {
    return modelStats(this.#native.stats())
  }

  /** Calls `listener` whenever a generation changes its state. */
  on(event: 'request', listener: RequestListener): this {
    this.#watch.add(checkListener('model.on', event, listener))
    return this
  }

  off(event: 'request', listener: RequestListener): this {
    this.#watch.remove(checkListener('model.off', event, listener))
    return this
  }

  /**
   * Stops what runs (it rejects with `ERR_DISPOSED`), joins the threads and frees the memory; resolves when all is
   * freed. Idempotent. Later calls reject with `ERR_DISPOSED`.
   */
  dispose(): Promise<void> {
    this.#disposal ??= Promise.resolve(this.#native.dispose()).catch((error) => {
      throw fromNative(error)
    })
    return this.#disposal
  }

  /** For `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }

  /** For `using`: begins the disposal without waiting for it. */
  [Symbol.dispose](): void {
    this.dispose().catch(() => {})
  }

  #check(call: string): void {
    if (this.disposed) throw disposedError(call)
  }

  #request(
    call: string,
    values: ReturnType<typeof checkOptions<typeof commonRules>>,
    defaults: { maxTokens: number; startsText: boolean },
  ): { request: Omit<NativeRequest, 'prompt' | 'bos'>; seed: number | bigint } {
    const { vocabSize } = this.info
    const { params, seed } = samplingParams(call, values, vocabSize)
    const request = {
      maxTokens: values.maxTokens ?? defaults.maxTokens,
      stop: values.stop ?? [],
      stopTokens: checkTokenIds(call, "option 'stopTokens'", values.stopTokens ?? [], vocabSize),
      ignoreEos: values.ignoreEos ?? false,
      showSpecial: values.showSpecial ?? false,
      startsText: defaults.startsText,
      priority: values.priority ?? 0,
      timeoutMs: values.timeout ?? 0,
      onContextFull: values.onContextFull ?? 'stop',
      keepTokens: values.keepTokens ?? -1,
      sampling: params,
    }
    return { request, seed }
  }
}

/**
 * Loads a model from a GGUF file (of a split one, the first part), given as a path or a `file:` URL.
 * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_FILE_NOT_FOUND, ERR_IO, ERR_INVALID_FILE, ERR_UNSUPPORTED_FILE,
 * ERR_UNSUPPORTED_MODEL, ERR_INVALID_MODEL, ERR_UNSUPPORTED_DEVICE, ERR_OUT_OF_MEMORY, ERR_ABORTED, ERR_ADDON_LOAD
 */
export async function loadModel(path: string | URL, options?: LoadModelOptions): Promise<Model> {
  const call = 'loadModel'
  const file = filePath(call, path)
  const values = checkOptions(call, options, loadRules)
  const { signal, onProgress } = values
  if (values.device === 'cpu' && values.gpuLayers)
    throw invalidArgument(call, "option 'gpuLayers'", "0 with the device 'cpu'", values.gpuLayers, {
      option: 'gpuLayers',
    })
  if (signal?.aborted) throw abortError(call, signal.reason)

  // A throwing callback has no caller to throw to: stop the load and reject it with what was thrown.
  const stop = new AbortController()
  let thrown: { error: unknown } | undefined
  const report = onProgress
    ? (loadedBytes: number, totalBytes: number) => {
        if (thrown) return
        try {
          onProgress({ loadedBytes, totalBytes, fraction: totalBytes > 0 ? loadedBytes / totalBytes : 0 })
        } catch (error) {
          thrown = { error }
          stop.abort()
        }
      }
    : null
  const stopListening = onAbort(signal, () => stop.abort(signal?.reason))
  try {
    const native = await runTask(
      call,
      () =>
        addon().loadModel(
          {
            path: file,
            device: values.device ?? 'auto',
            gpuLayers: values.gpuLayers ?? -1,
            threads: values.threads ?? 0,
            contextLength: values.contextLength ?? 0,
            kvMemory: values.kvMemory ?? 0,
            kvDtype: values.kvDtype ?? 'f16',
            prefillChunk: values.prefillChunk ?? 0,
            maxQueue: values.maxQueue ?? 1024,
            mmap: values.mmap ?? false,
          },
          report,
        ),
      stop.signal,
    )
    if (thrown) {
      await native.dispose()
      throw thrown.error
    }
    return Model.create(native)
  } catch (error) {
    if (thrown) throw (thrown as { error: unknown }).error
    throw error
  } finally {
    stopListening()
  }
}
