/**
 * The typed contract of the addon: exactly what `cria.node` exports. Only `binding.ts` loads it; nothing here
 * is public. Native errors arrive as `Error` with a `code` ("ERR_..."), `details` (a flat record) and an
 * English message.
 */

import type { convertOptions } from './convert'
import type { requestOptions } from './generation_options'
import type { NativeKernels } from './kernels/native'
import type { loadOptions } from './load_options'
import type { AddonValues } from './options'
import type { samplingOptions } from './sampling'

/** A long native operation. It runs on a thread of its own, never on the JS thread. */
export interface NativeTask<T> {
  readonly promise: Promise<T>
  /** Asks the operation to stop; the promise then rejects with ERR_ABORTED. No effect after the end. */
  cancel(): void
}

/** Sentinels: see the defaults in `loadOptions`. */
export interface NativeLoadOptions extends AddonValues<typeof loadOptions> {
  path: string
  /** A file type, or '' for none. */
  quantize: string
}

/** Sentinels: see the defaults in `convertOptions`. */
export interface NativeConvertOptions extends AddonValues<typeof convertOptions> {
  source: string
  output: string
}

/** `ConvertedModel` in convert.ts describes the fields. */
export interface NativeConversion {
  sourceBytes: number
  fileBytes: number
  tensorTypes: Record<string, number>
}

export interface NativeTextOptions {
  model: NativeLoadOptions
  text: string
  chunkTokens: number
  /** 0: all. */
  maxChunks: number
}

export interface NativePerplexityOptions extends NativeTextOptions {
  reference: NativeLoadOptions | null
  /** Chunks before it are done. */
  firstChunk: number
  /** Of the models that did them; '' if there are none. */
  fingerprint: string
}

/** Sums over the tokens of a chunk that count. */
export interface NativeChunkScore {
  tokens: number
  nll: number
  nllSquares: number
  referenceNll: number
  kl: number
  klSquares: number
  klMax: number
  sameTop: number
}

export interface NativePerplexity {
  fingerprint: string
  textTokens: number
  chunks: number
}

export interface NativeImatrixOptions extends NativeTextOptions {
  textName: string
  output: string
}

/** `ModelInfo` in model.ts describes the fields. */
export interface NativeModelInfo {
  path: string
  name: string
  architecture: string
  fileBytes: number
  tensorTypes: Record<string, number>
  parameters: number
  vocabSize: number
  hidden: number
  layers: number
  heads: number
  kvHeads: number
  headDim: number
  ffnHidden: number
  experts: number
  expertsUsed: number
  contextLength: number
  trainedContextLength: number
  ropeBase: number
  device: string
  deviceReason: string
  gpuLayers: number
  isa: string
  threads: number
  kvDtype: 'f16' | 'f32'
  kvPages: number
  kvPageTokens: number
  kvBytes: number
  weightBytes: number
  adapters: NativeAdapterInfo[]
  loadMs: number
  warnings: string[]
}

export interface NativeAdapterInfo {
  path: string
  name: string
  format: 'gguf' | 'peft'
  scale: number
  rank: number
  parameters: number
  bytes: number
}

/** Adapters of a request: indices in `NativeModelInfo.adapters`, each at most once. */
export type NativeAdapters = Array<[index: number, scale: number]>

export interface NativeTokenizerInfo {
  kind: 'sentencepiece' | 'bpe'
  vocabSize: number
  bos: number | null
  eos: number | null
  endOfGeneration: number[]
  addsBos: boolean
  chatTemplate: string
  /** The spellings that a piece with `special` true parses as tokens: control and user-defined ones. */
  specialSpellings: string[]
  warnings: string[]
}

/**
 * A text in pieces. It is encoded as if the pieces were concatenated: a piece boundary is no token boundary
 * and adds no dummy prefix. A spelling of a special token becomes that token only if it lies within
 * consecutive pieces with `special` true, so user text in a rendered chat template stays text.
 */
export type NativeText = Array<[text: string, special: boolean]>

export interface NativeTokenizer {
  readonly info: NativeTokenizerInfo
  /** `bos: null` leaves it to the vocabulary. */
  encode(text: NativeText, bos: boolean | null, eos: boolean): NativeTask<Uint32Array>
  decode(ids: Uint32Array, special: boolean): NativeTask<string>
  /** Id of an exact spelling, or null. */
  find(spelling: string): number | null
  /** Exact spelling in the file. Throws ERR_INVALID_ARGUMENT for an id outside the vocabulary. */
  spelling(id: number): string
}

/** Sentinels: see the defaults in `samplingOptions`. -1 stands for `Infinity`. */
export interface NativeSamplingParams extends AddonValues<typeof samplingOptions> {
  logitBias: Array<[id: number, bias: number]>
  /** 64 bits. */
  seed: bigint
}

/** Sentinels: see the defaults in `requestOptions`. -1 stands for `Infinity`. */
export interface NativeRequest extends AddonValues<typeof requestOptions> {
  /** Text, which is encoded off the JS thread, or ids. */
  prompt: NativeText | Uint32Array
  /** For text only. `null` leaves it to the vocabulary. */
  bos: boolean | null
  stopTokens: Uint32Array
  /** The text begins anew instead of continuing the prompt: its leading dummy-prefix space is dropped. */
  startsText: boolean
  /** 0: none. */
  timeoutMs: number
  adapters: NativeAdapters
  sampling: NativeSamplingParams
}

export interface NativeLogprob {
  token: number
  logprob: number
  top: Array<{ token: number; logprob: number }>
}

export interface NativeChunk {
  type: 'chunk'
  text: string
  tokens: Uint32Array
  logprobs: NativeLogprob[] | null
}

export interface NativeUsage {
  promptTokens: number
  cachedTokens: number
  generatedTokens: number
  droppedTokens: number
  preemptions: number
  queueMs: number
  prefillMs: number
  decodeMs: number
}

/** The request began to run, or was preempted (it restarts by itself). */
export interface NativeStatus {
  type: 'status'
  status: 'started' | 'preempted'
}

export interface NativeEnd {
  type: 'end'
  /** `FinishReason` in generation.ts describes the others; 'abort': cancelled or disposed. */
  finishReason: 'stop' | 'stopString' | 'length' | 'context' | 'abort'
  /** The stop string, which the text leaves out; with 'stopString' only. */
  stopString?: string
  usage: NativeUsage
}

export interface NativeFailure {
  type: 'error'
  code: string
  message: string
  details: Record<string, number | string>
}

/**
 * Every request ends with exactly one 'end' or 'error'; an aborted one with 'end' and finishReason 'abort'.
 */
export type NativeEvent = NativeChunk | NativeStatus | NativeEnd | NativeFailure

/** Each call takes effect within one engine step. No effect after the end. */
export interface NativeGeneration {
  cancel(): void
  /** Produces nothing until `resume`. A paused request does not keep the process alive. */
  pause(): void
  resume(): void
}

/** As of the last step. `ModelStats` in watch.ts describes the fields. */
export interface NativeStats {
  running: number
  waiting: number
  paused: number
  pages: number
  pagesUsed: number
  pagesShared: number
  pagesCached: number
  pagesFree: number
  pageTokens: number
  promptTokensPerSecond: number
  generatedTokensPerSecond: number
  finished: number
  failed: number
  cancelled: number
  promptTokens: number
  cachedTokens: number
  generatedTokens: number
  preemptions: number
  steps: number
  lastStepMs: number
  longestStepMs: number
}

export interface NativeStateFile {
  tokens: number
  bytes: number
}

export interface NativeModel {
  readonly info: NativeModelInfo
  readonly tokenizer: NativeTokenizer
  /**
   * Queues a request. Calls `onEvents` on the JS thread with events in order.
   * @throws ERR_DISPOSED after dispose
   */
  generate(request: NativeRequest, onEvents: (events: NativeEvent[]) => void): NativeGeneration
  /** Logits after the last id: [vocab_size], float32. */
  logits(ids: Uint32Array, adapters: NativeAdapters): NativeTask<Float32Array>
  stats(): NativeStats
  /** Writes the K and V of a prompt to a file; computes those that are not cached. */
  saveState(
    path: string,
    prompt: NativeText | Uint32Array,
    bos: boolean | null,
    adapters: NativeAdapters,
  ): NativeTask<NativeStateFile>
  /** Reads a file of `saveState` with these adapters into the cache. */
  restoreState(path: string, adapters: NativeAdapters): NativeTask<NativeStateFile>
  /**
   * Cancels the requests, joins the threads, frees the memory. Idempotent: every call resolves after that.
   */
  dispose(): Promise<void>
}

export interface NativeTensorInfo {
  name: string
  type: string
  /** In GGUF's order: the contiguous dimension first. */
  shape: number[]
  bytes: number
  file: number
}

export interface NativeFileInfo {
  path: string
  format: 'gguf'
  version: number
  fileBytes: number
  files: string[]
  /** `head` holds the first 16 elements of an array, `length` counts all. */
  metadata: Array<{
    key: string
    type: string
    value:
      | string
      | number
      | bigint
      | boolean
      | { elementType: string; length: number; head: Array<string | number | bigint | boolean> }
  }>
  tensors: NativeTensorInfo[]
  warnings: string[]
}

export interface NativeCpuInfo {
  /** The instruction-set level in use. */
  isa: string
  /** The levels that this machine can run, lowest first; CRIA_CPU_ISA selects one. */
  isaLevels: string[]
  physicalCores: number
  /** What `threads: 0` means on this machine. */
  threads: number
}

/** The exports of `cria.node`. */
export interface NativeAddon {
  readonly version: string
  cpuInfo(): NativeCpuInfo
  /** Calls `onProgress` on the JS thread, at most every 50 ms. */
  loadModel(
    options: NativeLoadOptions,
    onProgress: ((loadedBytes: number, totalBytes: number) => void) | null,
  ): NativeTask<NativeModel>
  loadTokenizer(path: string): NativeTask<NativeTokenizer>
  inspect(path: string): NativeTask<NativeFileInfo>
  /** Calls `onProgress` on the JS thread, at most every 50 ms. */
  convertModel(
    options: NativeConvertOptions,
    onProgress: ((doneBytes: number, totalBytes: number) => void) | null,
  ): NativeTask<NativeConversion>
  /** Calls `onChunk` on the JS thread after every chunk, in order. */
  perplexity(
    options: NativePerplexityOptions,
    onChunk: (fingerprint: string, chunk: number, chunks: number, score: NativeChunkScore) => void,
  ): NativeTask<NativePerplexity>
  /** Calls `onProgress` with chunks. */
  computeImatrix(
    options: NativeImatrixOptions,
    onProgress: ((done: number, total: number) => void) | null,
  ): NativeTask<{ chunks: number; entries: number }>
  /** The names of the file types that `convertModel` knows, best first. */
  readonly fileTypes: readonly string[]
  readonly kernels: NativeKernels
}
