/** An addon that the test controls, to test the TypeScript part without the native one. */

import { version } from '../../lib/binding'
import type { NativeKernels } from '../../lib/kernels/native'
import type {
  NativeAdapterInfo,
  NativeAdapters,
  NativeAddon,
  NativeEvent,
  NativeLoadOptions,
  NativeModel,
  NativeModelInfo,
  NativeRequest,
  NativeStats,
  NativeTask,
  NativeText,
  NativeTokenizer,
  NativeTokenizerInfo,
  NativeUsage,
} from '../../lib/native'

export const VOCAB_SIZE = 300

export const usage: NativeUsage = {
  promptTokens: 3,
  cachedTokens: 1,
  generatedTokens: 2,
  droppedTokens: 0,
  preemptions: 0,
  queueMs: 0,
  prefillMs: 1,
  decodeMs: 2,
}

const stats: NativeStats = {
  running: 1,
  waiting: 0,
  paused: 0,
  pages: 10,
  pagesUsed: 4,
  pagesShared: 2,
  pagesCached: 3,
  pagesFree: 3,
  pageTokens: 32,
  promptTokensPerSecond: 100,
  generatedTokensPerSecond: 10,
  finished: 5,
  failed: 0,
  cancelled: 0,
  promptTokens: 50,
  cachedTokens: 20,
  generatedTokens: 30,
  preemptions: 0,
  steps: 40,
  lastStepMs: 1,
  longestStepMs: 2,
}

export function nativeError(code: string, message: string, details: Record<string, unknown> = {}): Error {
  return Object.assign(new Error(message), { code, details })
}

/** A task that the test settles. `cancel` rejects it like the addon does. */
export class FakeTask<T> implements NativeTask<T> {
  readonly promise: Promise<T>
  resolve!: (value: T) => void
  reject!: (error: unknown) => void
  cancelled = false

  constructor(value?: T) {
    this.promise = new Promise<T>((resolve, reject) => {
      this.resolve = resolve
      this.reject = reject
    })
    if (value !== undefined) this.resolve(value)
  }

  cancel(): void {
    this.cancelled = true
    this.reject(nativeError('ERR_ABORTED', 'cancelled'))
  }
}

export class FakeRequest {
  cancelled = false
  paused = false

  constructor(
    readonly request: NativeRequest,
    private readonly onEvents: (events: NativeEvent[]) => void,
    private readonly autoAbort: boolean,
  ) {}

  emit(...events: NativeEvent[]): void {
    this.onEvents(events)
  }

  chunk(text: string, ...tokens: number[]): void {
    this.emit({ type: 'chunk', text, tokens: Uint32Array.from(tokens), logprobs: null })
  }

  end(
    finishReason: 'stop' | 'stopString' | 'length' | 'context' | 'abort' = 'stop',
    stopString?: string,
  ): void {
    this.emit({ type: 'end', finishReason, usage, ...(stopString === undefined ? {} : { stopString }) })
  }

  pause(): void {
    this.paused = true
  }

  resume(): void {
    this.paused = false
  }

  cancel(): void {
    if (this.cancelled) return
    this.cancelled = true
    if (this.autoAbort) setImmediate(() => this.end('abort'))
  }
}

export interface FakeSetup {
  tokenizer?: Partial<NativeTokenizerInfo>
  /** `generate` throws this instead of queueing the request. */
  generateError?: Error
  /** Every request yields these texts, then ends. */
  answer?: string[]
  /** Loaded beside the model. */
  adapters?: Array<Partial<NativeAdapterInfo>>
}

export class FakeAddon implements NativeAddon {
  readonly version = version
  readonly requests: FakeRequest[] = []
  readonly encodes: Array<{ text: NativeText; bos: boolean | null; eos: boolean }> = []
  readonly loads: NativeLoadOptions[] = []
  /** Of the calls of `logits`, `saveState` and `restoreState`. */
  readonly computed: NativeAdapters[] = []
  progress: ((loadedBytes: number, totalBytes: number) => void) | null = null
  nextLoad: FakeTask<NativeModel> | undefined
  nextEncode: FakeTask<Uint32Array> | undefined
  disposals = 0

  constructor(private readonly setup: FakeSetup = {}) {}

  get last(): FakeRequest {
    const request = this.requests.at(-1)
    if (!request) throw new Error('no request was made')
    return request
  }

  cpuInfo() {
    return { isa: 'fake', isaLevels: ['fake'], physicalCores: 2, threads: 2 }
  }

  /** No kernels, but fixed ceilings of the machine. */
  readonly kernels = {
    ceilings: ({ threads }: { threads: number }) =>
      new FakeTask({ threads, readGBs: 10, int8GMacs: 100, f32GMacs: 10, bf16GMacs: 0 }),
  } as unknown as NativeKernels

  loadModel(options: NativeLoadOptions, onProgress: typeof this.progress): NativeTask<NativeModel> {
    this.loads.push(options)
    this.progress = onProgress
    return this.nextLoad ?? new FakeTask(this.model())
  }

  loadTokenizer(): NativeTask<NativeTokenizer> {
    return new FakeTask(this.tokenizer())
  }

  inspect(path: string) {
    return new FakeTask({
      path,
      format: 'gguf' as const,
      version: 3,
      fileBytes: 1,
      files: [path],
      metadata: [],
      tensors: [],
      warnings: [],
    })
  }

  readonly fileTypes = []

  convertModel() {
    return new FakeTask({ sourceBytes: 2, fileBytes: 1, tensorTypes: {} })
  }

  perplexity() {
    return new FakeTask({ fingerprint: '', textTokens: 0, chunks: 0 })
  }

  computeImatrix() {
    return new FakeTask({ chunks: 0, entries: 0 })
  }

  tokenizer(): NativeTokenizer {
    return {
      info: {
        kind: 'bpe',
        vocabSize: VOCAB_SIZE,
        bos: 1,
        eos: 2,
        endOfGeneration: [2],
        addsBos: true,
        chatTemplate: '',
        specialSpellings: ['<s>', '</s>', '<|eot_id|>'],
        warnings: [],
        ...this.setup.tokenizer,
      },
      encode: (text, bos, eos) => {
        this.encodes.push({ text, bos, eos })
        return this.nextEncode ?? new FakeTask(Uint32Array.from([1, 2, 3]))
      },
      decode: (ids, special) => new FakeTask(`${[...ids].join(',')}${special ? '!' : ''}`),
      find: (spelling) => (spelling === '<s>' ? 1 : null),
      spelling: (id) => ['<unk>', '<s>', '</s>'][id] ?? `t${id}`,
    }
  }

  model(): NativeModel {
    return {
      info: {
        name: 'fake',
        vocabSize: VOCAB_SIZE,
        tensorTypes: { F32: 10 },
        warnings: [],
        adapters: this.setup.adapters ?? [],
      } as unknown as NativeModelInfo,
      tokenizer: this.tokenizer(),
      generate: (request, onEvents) => {
        if (this.setup.generateError) throw this.setup.generateError
        const made = new FakeRequest(request, onEvents, true)
        this.requests.push(made)
        const { answer } = this.setup
        if (answer) {
          setImmediate(() => {
            for (const [index, text] of answer.entries()) made.chunk(text, 10 + index)
            made.end()
          })
        }
        return made
      },
      logits: (ids, adapters) => {
        this.computed.push(adapters)
        return new FakeTask(new Float32Array(ids.length))
      },
      stats: () => ({ ...stats, waiting: this.requests.length }),
      saveState: (_path, prompt, _bos, adapters) => {
        this.computed.push(adapters)
        return new FakeTask({ tokens: prompt.length, bytes: 100 })
      },
      restoreState: (_path, adapters) => {
        this.computed.push(adapters)
        return new FakeTask({ tokens: 5, bytes: 100 })
      },
      dispose: async () => {
        this.disposals++
        for (const request of this.requests) request.end('abort')
      },
    }
  }
}
