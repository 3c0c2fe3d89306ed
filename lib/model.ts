import { type AdapterInfo, type AdapterOptions, adapterList, requestAdapters } from './adapters'
import { addon } from './binding'
import {
  type ChatMessage,
  type ChatTemplateOptions,
  chatTemplateRules,
  prepareChat,
  type RenderChatOptions,
} from './chat'
import { CriaError, disposedError, fromNative, invalidArgument } from './errors'
import { Generation, type GenerationResult } from './generation'
import {
  type CommonGenerationOptions,
  commonOptions,
  type GenerateOptions,
  generateOptions,
  requestOptions,
} from './generation_options'
import { modelPath } from './hub/download'
import { type LoadModelOptions, loadOptions, nativeLoadOptions } from './load_options'
import type { NativeModel, NativeRequest } from './native'
import { addonValues } from './options'
import { filePath } from './path'
import { runWithProgress } from './progress'
import { randomSeed, samplingParams } from './sampling'
import { runTask } from './tasks'
import { noTokenIds, promptOf, Tokenizer } from './tokenizer'
import {
  abortSignal,
  boolean,
  callback,
  checkArgument,
  checkOptions,
  checkTokenIds,
  integer,
  oneOf,
  type Parsed,
  type Rules,
} from './validate'
import { type ModelStats, modelStats, type RequestListener, RequestWatch } from './watch'

/** What a loaded model is and how it runs. Frozen. */
export interface ModelInfo {
  readonly path: string
  /** The model's name in the file; may be empty. */
  readonly name: string
  /** `'llama'`. */
  readonly architecture: string
  readonly fileBytes: number
  /** Bytes in the file for each weight type, e.g. `{ Q4_K: 12345, F32: 678 }`. */
  readonly tensorTypes: Readonly<Record<string, number>>
  /** Number of weights. */
  readonly parameters: number
  /** Number of tokens; ids run from 0 to `vocabSize - 1`. */
  readonly vocabSize: number
  /** Size of the hidden state. */
  readonly hidden: number
  readonly layers: number
  /** Query heads. */
  readonly heads: number
  /** Key and value heads; fewer than `heads` with grouped-query attention. */
  readonly kvHeads: number
  readonly headDim: number
  /** Hidden size of the feed-forward network, or of each expert's. */
  readonly ffnHidden: number
  /** Experts of a layer, in a mixture of experts such as Mixtral; 0 in other models. */
  readonly experts: number
  /** Experts that a token uses; 0 in models without experts. */
  readonly expertsUsed: number
  /** Maximum tokens of a sequence in this model object, prompt and answer together. */
  readonly contextLength: number
  /** Context length that the model was trained for, according to the file. */
  readonly trainedContextLength: number
  /** Base of the RoPE frequencies. */
  readonly ropeBase: number
  /** Where the model runs: `'cpu'`, `'cuda:0'`, ...; see `gpuLayers`. */
  readonly device: string
  /** Why this device was chosen, and this number of layers on it. */
  readonly deviceReason: string
  /** Number of layers that run on a CUDA device, 0 to `layers`. The others run on the CPU. */
  readonly gpuLayers: number
  /**
   * The instruction-set level in use: one of `cpuInfo().isaLevels`, or the GPU's, such as `'sm_90'`; both if
   * layers run on both.
   */
  readonly isa: string
  /** CPU threads, including the engine's own. */
  readonly threads: number
  readonly kvDtype: 'f16' | 'f32'
  /** Pages of the KV cache. */
  readonly kvPages: number
  /** Tokens in a page. */
  readonly kvPageTokens: number
  /** Size of the KV cache. */
  readonly kvBytes: number
  /** Memory for the weights. */
  readonly weightBytes: number
  /** The LoRA adapters beside the model. */
  readonly adapters: readonly AdapterInfo[]
  /** Duration of the load in milliseconds. */
  readonly loadMs: number
  /**
   * What the file asks for and the model does not get, a sentence each: metadata that llama.cpp ignores as
   * well, and what is not known. Usually empty.
   */
  readonly warnings: readonly string[]
}

export interface ChatOptions extends CommonGenerationOptions, ChatTemplateOptions {}

export interface ChatResult extends GenerationResult {
  /**
   * The answer as a message, to append to the others. With `continueFinalMessage`, the whole continued
   * message.
   */
  message: { role: 'assistant'; content: string }
}

/** Options of a call that computes, or restores what was computed. */
export interface ComputeOptions {
  /** LoRA adapters, as in `generate`. Default: all of `loadModel`'s, with their scales. */
  adapters?: readonly AdapterOptions[] | undefined
  /** Stops the work, which then rejects with `ERR_ABORTED`. */
  signal?: AbortSignal | undefined
}

export interface SaveStateOptions extends ComputeOptions {
  /** Begin a text prompt with the BOS token. Default: the vocabulary decides. */
  bos?: boolean | undefined
  /** Parse spellings of special tokens in a text prompt as those tokens. Default: false. */
  special?: boolean | undefined
}

const computeRules = { adapters: adapterList(), signal: abortSignal() } satisfies Rules
const saveStateRules = { ...computeRules, bos: boolean(), special: boolean() } satisfies Rules
const chatRules = { ...commonOptions, ...chatTemplateRules } satisfies Rules

function checkListener(call: string, event: unknown, listener: unknown): RequestListener {
  checkArgument(call, 'event', event, oneOf('request'))
  return checkArgument(call, 'listener', listener, callback<RequestListener>())
}

/** A saved state. */
export interface StateFile {
  /** Tokens in the state. */
  readonly tokens: number
  /** Size of the file. */
  readonly bytes: number
}

/**
 * A loaded model. Any number of requests may run at once. They share the steps of the engine and the KV cache
 * of common prefixes. The same request gives the same tokens whatever else runs.
 */
export class Model {
  readonly #native: NativeModel
  readonly #watch = new RequestWatch()
  #disposal: Promise<void> | undefined
  /** What the model is and how it runs. Readable after `dispose`, too. */
  readonly info: ModelInfo
  /** The model's vocabulary. */
  readonly tokenizer: Tokenizer

  private constructor(native: NativeModel) {
    this.#native = native
    const { tensorTypes, warnings, adapters, ...info } = native.info
    this.info = Object.freeze({
      ...info,
      tensorTypes: Object.freeze({ ...tensorTypes }),
      warnings: Object.freeze([...warnings]),
      adapters: Object.freeze(adapters.map((adapter) => Object.freeze({ ...adapter }))),
    })
    this.tokenizer = Tokenizer.create(native.tokenizer, () => this.disposed)
  }

  /** @internal */
  static create(native: NativeModel): Model {
    return new Model(native)
  }

  /** True after a call of `dispose`. */
  get disposed(): boolean {
    return this.#disposal !== undefined
  }

  /**
   * Continues a text or a sequence of token ids. The request starts at once; iterate the chunks, await the
   * result, or both.
   *
   * Wrong arguments throw `ERR_INVALID_ARGUMENT` at the call. Other failures reject the returned object:
   * `ERR_ABORTED`, `ERR_DISPOSED`, `ERR_PROMPT_TOO_LONG`, `ERR_CONTEXT_FULL`, `ERR_QUEUE_FULL`,
   * `ERR_TIMEOUT`, `ERR_OUT_OF_MEMORY`, `ERR_DEVICE_LOST`.
   */
  generate(prompt: string | Uint32Array | readonly number[], options?: GenerateOptions): Generation {
    return this.#generate('model.generate', prompt, options)
  }

  /**
   * Starts `count` continuations of one prompt, which is computed once. Each is a generation of its own, to
   * iterate, await or cancel by itself. The one at index i equals `generate` with the seed `seed + i`.
   */
  generateSamples(
    prompt: string | Uint32Array | readonly number[],
    count: number,
    options?: GenerateOptions,
  ): Generation[] {
    const call = 'model.generateSamples'
    const n = checkArgument(call, 'count', count, integer(1, 1024))
    const first = checkOptions(call, options, generateOptions).seed ?? randomSeed()
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
    const values = checkOptions(call, options, generateOptions)
    const checkedPrompt = promptOf(call, prompt, values.special ?? false, this.info.vocabSize)
    for (const name of ['bos', 'special'] as const) {
      if (values[name] !== undefined && checkedPrompt instanceof Uint32Array) {
        const message = `${call}: option '${name}' needs a text prompt, got token ids`
        throw new CriaError('ERR_INVALID_ARGUMENT', message, { details: { call, option: name } })
      }
    }
    const { request, seed } = this.#request(call, values, { startsText: false })
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
   * Answers a conversation, rendered by the file's chat template or by `chatTemplate`. Spellings of special
   * tokens in the messages stay text. The request starts at once; iterate the chunks, await the result, or
   * both.
   *
   * Wrong arguments throw at the call. Other failures reject the returned object: those of `generate`, and
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
    // Malformed messages throw at the call; the template runs inside the promise.
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
        // Most templates write BOS themselves: do not add a second one.
        const bos = rendered.beginsWithBos ? false : null
        return this.#native.generate({ ...request, prompt: rendered.pieces, bos }, onEvents)
      },
      finish: (result) => ({ ...result, message: { role: 'assistant', content: opening + result.text } }),
      watch: this.#watch.of(call),
    })
  }

  /** Alias of `model.tokenizer.renderChat`. */
  renderChat(messages: readonly ChatMessage[], options?: RenderChatOptions): string {
    return this.tokenizer.renderChat(messages, options)
  }

  /**
   * Logits after the last of the ids: [vocabSize], one for each token of the vocabulary.
   * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_PROMPT_TOO_LONG, ERR_ABORTED, ERR_DISPOSED
   */
  async logits(ids: Uint32Array | readonly number[], options?: ComputeOptions): Promise<Float32Array> {
    const call = 'model.logits'
    this.#check(call)
    const checked = checkTokenIds(call, 'ids', ids, this.info.vocabSize)
    if (checked.length === 0) throw noTokenIds(call, 'ids')
    const { signal, adapters } = checkOptions(call, options, computeRules)
    const applied = requestAdapters(call, this.info.adapters, adapters)
    return runTask(call, () => this.#native.logits(checked, applied), signal)
  }

  /**
   * Writes the K and V of a prompt to a file, which spares a later process their computation
   * (`restoreState`). Computes those that are not cached. The file appears whole or not at all.
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
    const { signal, bos, special, adapters } = checkOptions(call, options, saveStateRules)
    const applied = requestAdapters(call, this.info.adapters, adapters)
    const checked = promptOf(call, prompt, special ?? false, this.info.vocabSize)
    return runTask(call, () => this.#native.saveState(file, checked, bos ?? null, applied), signal)
  }

  /**
   * Puts a saved state into the cache. Prompts with the same prefix and the same adapters find its tokens
   * there until other requests need the memory. A damaged file, or one of another model, other adapters or
   * scales, another KV type or version, is refused.
   * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_FILE_NOT_FOUND, ERR_IO, ERR_INVALID_FILE,
   * ERR_UNSUPPORTED_FILE, ERR_STATE_MISMATCH, ERR_OUT_OF_MEMORY (not enough free pages), ERR_ABORTED,
   * ERR_DISPOSED
   */
  async restoreState(path: string | URL, options?: ComputeOptions): Promise<StateFile> {
    const call = 'model.restoreState'
    this.#check(call)
    const file = filePath(call, path)
    const { signal, adapters } = checkOptions(call, options, computeRules)
    const applied = requestAdapters(call, this.info.adapters, adapters)
    return runTask(call, () => this.#native.restoreState(file, applied), signal)
  }

  /** Counts of the engine as of its last step. Cheap: does not wait for a step. */
  stats(): ModelStats {
    return modelStats(this.#native.stats())
  }

  /** Calls `listener` at every change of a request's state. */
  on(event: 'request', listener: RequestListener): this {
    this.#watch.add(checkListener('model.on', event, listener))
    return this
  }

  /** Removes a listener of `on`. */
  off(event: 'request', listener: RequestListener): this {
    this.#watch.remove(checkListener('model.off', event, listener))
    return this
  }

  /**
   * Stops all requests, which reject with `ERR_DISPOSED`, joins the threads and frees the memory; resolves
   * after that. Idempotent. Later calls of other methods reject with `ERR_DISPOSED`.
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

  /** For `using`: starts `dispose` without waiting for it. */
  [Symbol.dispose](): void {
    this.dispose().catch(() => {})
  }

  #check(call: string): void {
    if (this.disposed) throw disposedError(call)
  }

  #request(
    call: string,
    values: Parsed<typeof commonOptions>,
    defaults: { maxTokens?: number; startsText: boolean },
  ): { request: Omit<NativeRequest, 'prompt' | 'bos'>; seed: number | bigint } {
    const { vocabSize } = this.info
    const { params, seed } = samplingParams(call, values, vocabSize)
    const request = {
      ...addonValues(requestOptions, { ...defaults, ...values }),
      stopTokens: checkTokenIds(call, "option 'stopTokens'", values.stopTokens ?? [], vocabSize),
      startsText: defaults.startsText,
      timeoutMs: values.timeout ?? 0,
      adapters: requestAdapters(call, this.info.adapters, values.adapters),
      sampling: params,
    }
    return { request, seed }
  }
}

/**
 * Loads a model, given as a path or a `file:` URL, where `~` is the home folder: a GGUF file (of a split one, the
 * first part), a Hugging Face folder (config.json, weights, a tokenizer), or a folder of Meta's release files
 * (params.json, consolidated.00.pth, tokenizer.model). The config.json, params.json or a file with weights may
 * stand for the folder. A model of the hub, such as `hf:owner/repo:Q4_K_M`, or of an `https:` URL is
 * downloaded first unless the cache has it; see {@link downloadModel} for the names and for further errors.
 * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_FILE_NOT_FOUND, ERR_IO, ERR_INVALID_FILE, ERR_UNSUPPORTED_FILE,
 * ERR_UNSUPPORTED_MODEL, ERR_INVALID_MODEL, ERR_UNSUPPORTED_DEVICE, ERR_OUT_OF_MEMORY, ERR_ABORTED,
 * ERR_ADDON_LOAD
 */
export async function loadModel(path: string | URL, options?: LoadModelOptions): Promise<Model> {
  const call = 'loadModel'
  const values = checkOptions(call, options, loadOptions)
  const { device, gpuLayers } = values
  if (device === 'cpu' && gpuLayers) {
    const details = { option: 'gpuLayers' }
    throw invalidArgument(call, "option 'gpuLayers'", "0 with the device 'cpu'", gpuLayers, details)
  }
  const located = localModel(call, path, values)
  // A load of a local file starts at once.
  const file = typeof located === 'string' ? located : await located
  const native = await runWithProgress(
    call,
    (report) => addon().loadModel(nativeLoadOptions(file, values), report),
    { ...values, discard: (model) => model.dispose() },
  )
  return Model.create(native)
}

/** The local path of a model, which is downloaded if it has to be. */
function localModel(
  call: string,
  path: string | URL,
  { download, onProgress, signal }: Parsed<typeof loadOptions>,
): string | Promise<string> {
  return modelPath(call, path, {
    ...download,
    signal,
    onProgress: onProgress && (({ file, ...progress }) => onProgress({ ...progress, download: file })),
  })
}
