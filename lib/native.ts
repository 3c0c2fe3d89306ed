/**
 * The typed contract of the addon: exactly what `cria.node` exports. Only `binding.ts` loads it; nothing here is public.
 * Native errors arrive as `Error` with `code` ("ERR_..."), `details` (a flat record) and an English message.
 */

import type { NativeKernels } from './kernels/native'

export type KvDtype = 'f16' | 'f32'

/** A long native operation: it runs on a thread of its own, never on the JS thread. */
export interface NativeTask<T> {
  readonly promise: Promise<T>
  /** Asks the operation to stop; the promise then rejects with ERR_ABORTED. Harmless afterwards. */
  cancel(): void
}

export interface NativeLoadOptions {
  path: string
  device: 'auto' | 'cpu' | 'cuda' | `cuda:${number}`
  /** On a CUDA device: this many of the last layers. -1: as many as fit. */
  gpuLayers: number
  /** 0: physical cores within the process's CPU quota. */
  threads: number
  /** 0: the file's own, lowered to what fits `kvMemory`. */
  contextLength: number
  /** Bytes for the paged KV cache; 0: sized from the context length and free memory. */
  kvMemory: number
  kvDtype: KvDtype
  /** Prompt tokens run per step. 0: the engine's default. */
  prefillChunk: number
  /** Requests that may wait. */
  maxQueue: number
  mmap: boolean
}

export interface NativeModelInfo {
  path: string
  name: string
  architecture: string
  fileBytes: number
  tensorTypes: Record<string, number> // weight type -> bytes in the file
  parameters: number
  vocabSize: number
  hidden: number
  layers: number
  heads: number
  kvHeads: number
  headDim: number
  ffnHidden: number
  contextLength: number // what this model object allows
  trainedContextLength: number // what the file says
  ropeBase: number
  device: string // 'cpu'
  deviceReason: string // why 'auto' chose it
  gpuLayers: number // of the layers, those on a CUDA device
  isa: string // e.g. 'avx512_bf16'
  threads: number
  kvDtype: KvDtype
  kvPages: number
  kvPageTokens: number
  kvBytes: number
  weightBytes: number
  loadMs: number
}

export interface NativeTokenizerInfo {
  kind: 'sentencepiece' | 'bpe'
  vocabSize: number
  bos: number | null
  eos: number | null
  endOfGeneration: number[]
  addsBos: boolean
  chatTemplate: string
  /** Every spelling that a piece with `special` true turns into its token (control and user-defined tokens). */
  specialSpellings: string[]
}

/**
 * One running text in pieces. It is encoded as if the pieces were concatenated (a piece boundary is no token boundary and
 * adds no dummy prefix), except that a special-token spelling becomes that token only where it begins and ends inside
 * consecutive pieces with `special` true. So user text in a rendered chat template stays text.
 */
export type NativeText = Array<[text: string, special: boolean]>

export interface NativeTokenizer {
  readonly info: NativeTokenizerInfo
  /** `bos: null` leaves it to the vocabulary. */
  encode(text: NativeText, bos: boolean | null, eos: boolean): NativeTask<Uint32Array>
  decode(ids: Uint32Array, special: boolean): NativeTask<string>
  /** Id by exact spelling, or null. */
  find(spelling: string): number | null
  /** Exact spelling in the file. Throws ERR_INVALID_ARGUMENT beyond the vocabulary. */
  spelling(id: number): string
}

export interface NativeSamplingParams {
  temperature: number // 0: greedy
  topK: number // 0: off
  topP: number // 1: off
  minP: number // 0: off
  typicalP: number // 1: off
  repetitionPenalty: number // 1: off
  frequencyPenalty: number // 0: off
  presencePenalty: number // 0: off
  penaltyWindow: number // tokens, prompt included; -1: all
  logitBias: Array<[id: number, bias: number]> // -Infinity forbids
  seed: bigint // 64 bits; already drawn when the caller gave none
  logprobs: number // top-n alternatives per token; -1: none at all
}

export interface NativeRequest {
  /** Text (encoded natively, off the JS thread) or ids. */
  prompt: NativeText | Uint32Array
  bos: boolean | null // text only
  maxTokens: number // -1: until the context is full
  stop: string[]
  stopTokens: Uint32Array
  ignoreEos: boolean
  /** Special tokens in the output are spelled out in `text` rather than left out. */
  showSpecial: boolean
  /** The text does not continue the prompt's line: a leading dummy-prefix space is dropped. */
  startsText: boolean
  priority: number // greater goes first
  timeoutMs: number // 0: none
  onContextFull: 'stop' | 'error' | 'shift'
  keepTokens: number // first tokens that a shift keeps; -1: the prompt, at most half of the context
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

/** The request began to run, or gave way to others (it begins again by itself). */
export interface NativeStatus {
  type: 'status'
  status: 'started' | 'preempted'
}

export interface NativeEnd {
  type: 'end'
  /** 'stop': an end token or stop token; 'stopString'; 'length': maxTokens; 'context': the context is full. */
  finishReason: 'stop' | 'stopString' | 'length' | 'context' | 'abort'
  /** The stop string that was met (it is not part of the text), with 'stopString' only. */
  stopString?: string
  usage: NativeUsage
}

export interface NativeFailure {
  type: 'error'
  code: string
  message: string
  details: Record<string, number | string>
}

/** Every request ends with exactly one 'end' or 'error'; an aborted one with 'end' and finishReason 'abort'. */
export type NativeEvent = NativeChunk | NativeStatus | NativeEnd | NativeFailure

export interface NativeGeneration {
  /** These take effect within one engine step; harmless afterwards. */
  cancel(): void
  /** Nothing more is produced until `resume`. While paused, the request does not keep the process alive. */
  pause(): void
  resume(): void
}

/** Counts are as of the last step. */
export interface NativeStats {
  running: number
  waiting: number
  paused: number
  pages: number
  pagesUsed: number
  pagesShared: number // of the used ones, those of more than one request
  pagesCached: number // held by no request, kept for those to come
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
  /** Queues a request. `onEvents` is called on the JS thread with events in order. Throws ERR_DISPOSED after dispose. */
  generate(request: NativeRequest, onEvents: (events: NativeEvent[]) => void): NativeGeneration
  /** Logits after the last id, [vocab_size] float32. */
  logits(ids: Uint32Array): NativeTask<Float32Array>
  stats(): NativeStats
  /** Computes the K and V of a prompt where they are not cached, and writes them to a file. */
  saveState(path: string, prompt: NativeText | Uint32Array, bos: boolean | null): NativeTask<NativeStateFile>
  /** Reads such a file into the cache. */
  restoreState(path: string): NativeTask<NativeStateFile>
  /** Cancels what runs, joins the threads, frees the memory. Idempotent: every call resolves once all is freed. */
  dispose(): Promise<void>
}

export interface NativeTensorInfo {
  name: string
  type: string
  shape: number[] // GGUF's order: the contiguous dimension first
  bytes: number
  file: number
}

export interface NativeFileInfo {
  path: string
  format: 'gguf'
  version: number
  fileBytes: number
  files: string[]
  /** Long arrays are cut to their first 16 elements; `length` is the true one. */
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
}

export interface NativeCpuInfo {
  isa: string // the level in use
  isaLevels: string[] // what this machine can run, lowest first; CRIA_CPU_ISA names one of them
  physicalCores: number
  threads: number // what `threads: 0` means here
}

/** What the machine can do at most, all threads together, as far as the instruction-set level in use reaches. */
export interface NativeAddon {
  readonly version: string
  cpuInfo(): NativeCpuInfo
  /** `onProgress` is called on the JS thread, at most every 50 ms. */
  loadModel(
    options: NativeLoadOptions,
    onProgress: ((loadedBytes: number, totalBytes: number) => void) | null,
  ): NativeTask<NativeModel>
  loadTokenizer(path: string): NativeTask<NativeTokenizer>
  inspect(path: string): NativeTask<NativeFileInfo>
  readonly kernels: NativeKernels
}
