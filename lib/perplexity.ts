import { createHash } from 'node:crypto'
import { readFile, rename, rm, writeFile } from 'node:fs/promises'
import { addon } from './binding'
import { CriaError } from './errors'
import { pathOption } from './file_types'
import { modelPath } from './hub/download'
import { type LoadModelOptions, loadOptions, nativeLoadOptions } from './load_options'
import type { NativeChunkScore } from './native'
import { type OptionsOf, option } from './options'
import { runTask } from './tasks'
import { abortSignal, callback, checkArgument, checkOptions, integer, string } from './validate'

/** The options of a load that measuring a model takes, too. */
export type MeasuringLoadOptions = Pick<
  LoadModelOptions,
  'device' | 'gpuLayers' | 'threads' | 'kvDtype' | 'prefillChunk' | 'mmap' | 'quantize' | 'imatrix'
>

export interface PerplexityOptions extends MeasuringLoadOptions {
  /** Tokens of a chunk. The second half of each counts, the first is its context. Default: 512. */
  chunkTokens?: number | undefined
  /** Measure only so many chunks. Default: all. */
  maxChunks?: number | undefined
  /** Path of a reference model, usually the one before quantization, to compare with. Default: none. */
  compare?: string | undefined
  /**
   * Path of a file that keeps the scores of the chunks done, so that a later call with the same models and text
   * continues there. Default: none.
   */
  state?: string | undefined
  /** Called after every chunk. */
  onChunk?: ((chunk: PerplexityChunk) => void) | undefined
  /** Stops the measurement, which then rejects with `ERR_ABORTED`. */
  signal?: AbortSignal | undefined
}

const { device, gpuLayers, threads, kvDtype, prefillChunk, mmap, quantize, imatrix } = loadOptions
export const measuringLoadOptions = {
  device,
  gpuLayers,
  threads,
  kvDtype,
  prefillChunk,
  mmap,
  quantize,
  imatrix,
} satisfies OptionsOf<MeasuringLoadOptions>

export const chunkTokens = option(integer(8, 2 ** 20), {
  default: 512,
  flag: { name: 'chunk', help: 'tokens of a chunk' },
})
export const maxChunks = option(integer(1), {
  default: 0,
  defaultText: 'all',
  flag: { name: 'chunks', help: 'use only so many chunks' },
})

export const perplexityOptions = {
  ...measuringLoadOptions,
  chunkTokens,
  maxChunks,
  compare: option(pathOption(), {
    defaultText: 'none',
    flag: { help: 'reference model: KL divergence, and how often both prefer the same token' },
  }),
  state: option(pathOption(), {
    defaultText: 'none',
    flag: { help: 'file that keeps the chunks done, to continue later' },
  }),
  onChunk: callback<(chunk: PerplexityChunk) => void>(),
  signal: abortSignal(),
} satisfies OptionsOf<PerplexityOptions>

/** A model beside a reference model on the same tokens. */
export interface ModelComparison {
  /** Perplexity of the reference. */
  readonly perplexity: number
  /** Mean of KL(reference || model) over the tokens, in nats. */
  readonly klDivergence: number
  /** Standard error of that mean. */
  readonly klError: number
  readonly maxKlDivergence: number
  /** Share of tokens, 0 to 1, where both models prefer the same next token. */
  readonly sameTop: number
}

/** The measurement so far. */
export interface PerplexityChunk {
  /** Chunks done. */
  readonly chunk: number
  readonly chunks: number
  readonly perplexity: number
  readonly comparison?: ModelComparison
}

export interface PerplexityResult {
  /** e to the mean negative log-likelihood of the tokens that count. */
  readonly perplexity: number
  /** Standard error. */
  readonly error: number
  /** Tokens that count. */
  readonly tokens: number
  readonly chunks: number
  /** Tokens of the whole text. */
  readonly textTokens: number
  /** Mean negative log-likelihood of each chunk. */
  readonly chunkNlls: readonly number[]
  readonly comparison?: ModelComparison
}

interface State {
  version: 1
  key: string
  fingerprint: string
  scores: NativeChunkScore[]
}

/**
 * How well a model predicts a text, as llama.cpp's perplexity tool measures it: full chunks without overlap, of
 * which the second half counts; a BOS token takes the place of a chunk's first token where the vocabulary asks
 * for one.
 * @throws (rejects) the errors of `loadModel`; ERR_INVALID_ARGUMENT for a text of less than one chunk, and for a
 * reference with another vocabulary; ERR_STATE_MISMATCH for a state file of other models, text or options; ERR_IO
 */
export async function perplexity(
  model: string | URL,
  text: string,
  options?: PerplexityOptions,
): Promise<PerplexityResult> {
  const call = 'perplexity'
  const checkedText = checkArgument(call, 'text', text, string())
  const values = checkOptions(call, options, perplexityOptions)
  const { device, gpuLayers, threads, kvDtype, prefillChunk, mmap, quantize, imatrix } = values
  const shared = { device, gpuLayers, threads, kvDtype, prefillChunk, mmap }
  const path = await modelPath(call, model, { signal: values.signal })
  const other =
    values.compare === undefined
      ? undefined
      : await modelPath(call, values.compare, { signal: values.signal })
  const reference = other === undefined ? null : nativeLoadOptions(other, shared)
  const state = await readState(
    values.state,
    stateKey(checkedText, values.chunkTokens ?? chunkTokens.default, reference !== null),
  )
  const scores = state.scores
  const native = {
    model: nativeLoadOptions(path, { ...shared, quantize, imatrix }),
    reference,
    text: checkedText,
    chunkTokens: values.chunkTokens ?? chunkTokens.default,
    maxChunks: values.maxChunks ?? maxChunks.default,
    firstChunk: scores.length,
    fingerprint: state.fingerprint,
  }
  // State files are written one after the other, behind the chunks.
  let writing: Promise<void> = Promise.resolve()
  let thrown: { error: unknown } | undefined
  const stop = new AbortController()
  const onAbort = () => stop.abort(values.signal?.reason)
  values.signal?.addEventListener('abort', onAbort, { once: true })
  if (values.signal?.aborted) onAbort()
  const onChunk = (fingerprint: string, _chunk: number, chunks: number, score: NativeChunkScore) => {
    if (thrown) return
    try {
      scores.push(score)
      state.fingerprint = fingerprint
      const text = JSON.stringify(state)
      writing = writing.then(() => writeState(values.state, text))
      writing.catch(() => stop.abort())
      const { tokens: _, ...sums } = summary(scores, reference !== null)
      values.onChunk?.({ chunk: scores.length, chunks, ...sums })
    } catch (error) {
      thrown = { error }
      stop.abort()
    }
  }
  try {
    const { textTokens, chunks } = await runTask(call, () => addon().perplexity(native, onChunk), stop.signal)
    await writing
    const used = scores.slice(0, chunks)
    return Object.freeze({
      ...summary(used, reference !== null),
      error: standardError(used),
      chunks,
      textTokens,
      chunkNlls: used.map(({ nll, tokens }) => nll / tokens),
    })
  } catch (error) {
    if (thrown) throw thrown.error
    await writing
    throw error
  } finally {
    values.signal?.removeEventListener('abort', onAbort)
  }
}

const sum = (scores: NativeChunkScore[], name: keyof NativeChunkScore) =>
  scores.reduce((total, score) => total + score[name], 0)

function summary(scores: NativeChunkScore[], compared: boolean) {
  const tokens = sum(scores, 'tokens')
  const result = { perplexity: Math.exp(sum(scores, 'nll') / tokens), tokens }
  if (!compared) return result
  const mean = sum(scores, 'kl') / tokens
  const variance = Math.max(sum(scores, 'klSquares') / tokens - mean ** 2, 0)
  const comparison: ModelComparison = {
    perplexity: Math.exp(sum(scores, 'referenceNll') / tokens),
    klDivergence: mean,
    klError: Math.sqrt(variance / Math.max(tokens - 1, 1)),
    maxKlDivergence: Math.max(...scores.map(({ klMax }) => klMax)),
    sameTop: sum(scores, 'sameTop') / tokens,
  }
  return { ...result, comparison }
}

/** Of the perplexity: the mean's standard error times the perplexity. */
function standardError(scores: NativeChunkScore[]): number {
  const tokens = sum(scores, 'tokens')
  const mean = sum(scores, 'nll') / tokens
  const variance = Math.max(sum(scores, 'nllSquares') / tokens - mean ** 2, 0)
  return Math.exp(mean) * Math.sqrt(variance / Math.max(tokens - 1, 1))
}

// ---- the state file ----

function stateKey(text: string, chunk: number, compared: boolean): string {
  const hash = createHash('sha256').update(text).digest('hex')
  return `${hash} ${chunk}${compared ? ' compared' : ''}`
}

const SCORE_FIELDS = [
  'tokens',
  'nll',
  'nllSquares',
  'referenceNll',
  'kl',
  'klSquares',
  'klMax',
  'sameTop',
] as const satisfies Array<keyof NativeChunkScore>

async function readState(path: string | undefined, key: string): Promise<State> {
  const fresh: State = { version: 1, key, fingerprint: '', scores: [] }
  if (path === undefined) return fresh
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return fresh
    throw ioError('read', path, error)
  }
  const found = parseState(text)
  if (!found) {
    const message = `perplexity: ${path} is not a state file of perplexity`
    throw new CriaError('ERR_INVALID_FILE', message, { details: { path } })
  }
  if (found.key !== key) {
    const message = `perplexity: ${path} belongs to another text, chunk size or kind of measurement`
    throw new CriaError('ERR_STATE_MISMATCH', message, { details: { path, expected: key, found: found.key } })
  }
  return found
}

function parseState(text: string): State | undefined {
  let value: Partial<State> | null
  try {
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  const { version, key, fingerprint, scores } = value ?? {}
  const valid =
    version === 1 && typeof key === 'string' && typeof fingerprint === 'string' && Array.isArray(scores)
  if (!valid) return undefined
  for (const score of scores) {
    if (!SCORE_FIELDS.every((field) => Number.isFinite(score?.[field]))) return undefined
  }
  return { version, key, fingerprint, scores }
}

async function writeState(path: string | undefined, text: string): Promise<void> {
  if (path === undefined) return
  const temporary = `${path}.${process.pid}.tmp`
  try {
    await writeFile(temporary, text)
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {})
    throw ioError('write', path, error)
  }
}

function ioError(verb: string, path: string, error: unknown): CriaError {
  const message = `perplexity: cannot ${verb} ${path}: ${(error as Error).message}`
  return new CriaError('ERR_IO', message, { details: { path }, cause: error })
}
