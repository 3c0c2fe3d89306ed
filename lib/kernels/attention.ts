/** The attention kernels: the QKV projection with RoPE, and attention over a paged KV cache. */

import { show } from '../errors'
import { checkOptions, plainObject, type Rules } from '../validate'
import {
  execute,
  expectDistinct,
  type OutputOptions,
  outputOf,
  outputRules,
  type Plan,
  placeOf,
  singleOutput,
  type Work,
} from './call'
import { arithmeticOf, bytesOf } from './dtypes'
import { DEFAULT_EPS, normRules } from './elementwise'
import { cacheSource, type HostPages, type KvSource, kvSource } from './kv_cache'
import { matrix, type WeightMatrix } from './products'
import { isNonNegativeInt32, nonNegativeIntegers, type RopeOptions, ropeArgs, ropeRules } from './rope'
import {
  floats,
  type KvCache,
  type Result,
  rowsIn,
  type Source,
  type TensorInput,
  wrong,
  wrongShape,
} from './tensor'

/** Consecutive tokens of one sequence, and the pages that hold the sequence. */
export interface AttentionSequence {
  /** The position of the first token. */
  position: number
  /** The number of tokens: 1 in decoding, the length of the prompt in prefill. */
  tokens: number
  /** The block table: the cache pages of the sequence in order of position, up to the last token. */
  pages: ArrayLike<number>
}

export interface PagedAttentionOptions extends OutputOptions {
  /** The tokens of q, sequence after sequence. */
  sequences: readonly AttentionSequence[]
}

/** The weights of `kernels.attentionInput`. */
export interface AttentionWeights {
  /** `[hidden]`. */
  norm: TensorInput
  /** `[heads · headDim, hidden]`. */
  query: TensorInput
  /** `[kvHeads · headDim, hidden]`. */
  key: TensorInput
  /** `[kvHeads · headDim, hidden]`. */
  value: TensorInput
}

export interface AttentionInputOptions extends OutputOptions {
  /** The tokens of x, sequence after sequence. */
  sequences: readonly AttentionSequence[]
  /** Added to the mean square in RMSNorm. Default 1e-5. */
  eps?: number | undefined
  /** The rotation of Q and K. */
  rope?: RopeOptions | undefined
}

const inputRules = { ...normRules, rope: plainObject(' of RoPE options') } satisfies Rules

/** The sequences of a call, in the form in which the addon takes them. */
interface BatchArgs {
  /** `[sequences]`: the position of each sequence's first token. */
  first: Int32Array
  /** `[sequences]`: tokens of each sequence. */
  count: Int32Array
  /** `[sequences, longest block table]`, padded with 0. */
  pages: Int32Array
}

/** Checks the option `sequences` against the cache. */
function batchArgs(call: string, sequences: unknown, kv: KvSource): { args: BatchArgs; tokens: number } {
  if (!Array.isArray(sequences) || sequences.length === 0) {
    throw wrong(call, "option 'sequences'", 'an array of { position, tokens, pages }', show(sequences))
  }
  const list = sequences as AttentionSequence[]
  const tables = list.map((sequence, i) => blockTable(call, `sequences[${i}]`, sequence, kv))
  const stride = Math.max(...tables.map((table) => table.length))
  const pages = new Int32Array(list.length * stride)
  tables.forEach((table, i) => {
    pages.set(table, i * stride)
  })
  return {
    args: {
      first: Int32Array.from(list, ({ position }) => position),
      count: Int32Array.from(list, ({ tokens }) => tokens),
      pages,
    },
    tokens: list.reduce((sum, { tokens }) => sum + tokens, 0),
  }
}

/** The pages that a sequence needs. */
function blockTable(call: string, name: string, sequence: AttentionSequence, kv: KvSource): Int32Array {
  for (const field of ['position', 'tokens'] as const) {
    const value = sequence?.[field]
    if (!isNonNegativeInt32(value)) {
      throw wrong(call, `${name}.${field}`, 'an integer of at least 0', show(value))
    }
  }
  const table = nonNegativeIntegers(call, `${name}.pages`, sequence.pages)
  const bad = table.findIndex((page) => page >= kv.pages)
  if (bad >= 0) {
    throw wrong(call, `${name}.pages[${bad}]`, `a page from 0 to ${kv.pages - 1}`, String(table[bad]))
  }
  const end = sequence.position + sequence.tokens
  const needed = Math.ceil(end / kv.pageTokens)
  if (table.length < needed) {
    const expected = `at least ${needed} pages of ${kv.pageTokens} tokens to hold ${end}`
    throw wrong(call, `${name}.pages`, expected, `${table.length}`)
  }
  return table.subarray(0, needed)
}

/** Checks that the query heads are a multiple of the KV heads. */
function checkHeads(call: string, name: string, heads: number, { kvHeads }: KvSource): number {
  if (Number.isInteger(heads) && heads > 0 && heads % kvHeads === 0) return heads
  throw wrong(call, name, `a multiple of the cache's ${kvHeads} KV heads`, `${heads} heads`)
}

export function planPagedAttention<X extends TensorInput>(
  q: X,
  kv: KvCache | HostPages,
  options: PagedAttentionOptions,
): Plan<Result<X>> {
  const call = 'kernels.pagedAttention'
  const { sequences, ...rest } = options ?? {}
  const values = checkOptions(call, rest, outputRules)
  const [query] = floats(call, { q }) as [Source]
  const cache = kvSource(call, 'kv', kv)
  const { kvHeads, headDim, elementBytes } = cache
  const { args, tokens } = batchArgs(call, sequences, cache)
  const heads = tokens > 0 ? query.elements / (tokens * headDim) : kvHeads
  checkHeads(call, 'q', heads, cache)
  const out = outputOf(call, values.out, query, query.shape)
  expectDistinct(call, values.out, { q: query })
  const { scores, cached } = attended(args)
  return {
    call,
    op: 'pagedAttention',
    args: { ...args, heads, q: query.native, kv: cache.native, out: out.native },
    where: placeOf(call, values, { q: query, kv: cache, out: out.target }),
    work: {
      bytes: 8 * query.elements + 2 * cached * kvHeads * headDim * elementBytes,
      written: 4 * query.elements,
      flops: 4 * heads * headDim * scores,
      arithmetic: elementBytes === 2 ? 'f16' : 'f32',
    },
    result: singleOutput(values.out),
  }
}

/** Causal attention of a batch: the query-key pairs of one head, and the cached tokens that are read. */
function attended({ first, count }: BatchArgs): { scores: number; cached: number } {
  let scores = 0
  let cached = 0
  first.forEach((position, i) => {
    const tokens = count[i]!
    scores += tokens * position + (tokens * (tokens + 1)) / 2
    cached += position + tokens
  })
  return { scores, cached }
}

interface QkvMatrices {
  query: WeightMatrix
  key: WeightMatrix
  value: WeightMatrix
}

/** Checks the matrices of Q, K and V against the hidden size and the cache. */
function qkvMatrices(
  call: string,
  { query, key, value }: Partial<AttentionWeights>,
  hidden: number,
  kv: KvSource,
): QkvMatrices {
  const matrices = {
    query: matrix(call, 'weights.query', query),
    key: matrix(call, 'weights.key', key),
    value: matrix(call, 'weights.value', value),
  }
  const kvDim = kv.kvHeads * kv.headDim
  const rows = { query: matrices.query.rows, key: kvDim, value: kvDim }
  for (const [name, found] of Object.entries(matrices)) {
    const expected = rows[name as keyof typeof rows]
    if (found.rows !== expected || found.cols !== hidden) {
      throw wrongShape(call, `weights.${name}`, `of shape [${expected}, ${hidden}]`, found.shape)
    }
  }
  return matrices
}

export function planAttentionInput<X extends TensorInput>(
  x: X,
  weights: AttentionWeights,
  kv: KvCache,
  options: AttentionInputOptions,
): Plan<Result<X>> {
  const call = 'kernels.attentionInput'
  const { sequences, ...rest } = options ?? {}
  const values = checkOptions(call, rest, inputRules)
  const given = (weights ?? {}) as Partial<AttentionWeights>
  const [input, norm] = floats(call, { x, 'weights.norm': given.norm }) as [Source, Source]
  const cache = cacheSource(call, 'kv', kv)
  const hidden = norm.elements
  const matrices = qkvMatrices(call, given, hidden, cache)
  const { query, key, value } = matrices
  const heads = checkHeads(call, 'weights.query', query.rows / cache.headDim, cache)
  const { args, tokens } = batchArgs(call, sequences, cache)
  if (rowsIn(call, input, hidden, 'weights.norm') !== tokens) {
    throw wrongShape(call, 'x', `${tokens} rows, one for each token of the sequences`, input.shape)
  }
  const rope = checkOptions(`${call}, option 'rope'`, values.rope, ropeRules)
  const out = outputOf(call, values.out, input, [tokens, query.rows])
  const inputs = {
    x: input,
    'weights.norm': norm,
    'weights.query': query,
    'weights.key': key,
    'weights.value': value,
  }
  expectDistinct(call, values.out, inputs)
  return {
    call,
    op: 'attentionInput',
    args: {
      ...args,
      ...ropeArgs(call, rope, cache.headDim),
      hidden,
      heads,
      eps: values.eps ?? DEFAULT_EPS,
      x: input.native,
      norm: norm.native,
      query: query.native,
      key: key.native,
      value: value.native,
      kv: cache.native,
      out: out.native,
    },
    where: placeOf(call, values, { ...inputs, kv: cache, out: out.target }),
    work: attentionInputWork(tokens, hidden, matrices, cache),
    result: singleOutput(values.out),
  }
}

function attentionInputWork(tokens: number, hidden: number, matrices: QkvMatrices, kv: KvSource): Work {
  const all = Object.values(matrices) as WeightMatrix[]
  const weightBytes = all.reduce((sum, { dtype, elements }) => sum + bytesOf(dtype, elements), 0)
  const weightElements = all.reduce((sum, { elements }) => sum + elements, 0)
  const qBytes = 4 * tokens * matrices.query.rows
  const kvBytes = 2 * tokens * kv.kvHeads * kv.headDim * kv.elementBytes
  return {
    bytes: weightBytes + 4 * tokens * hidden + qBytes + kvBytes,
    written: qBytes + kvBytes,
    flops: 2 * tokens * weightElements,
    arithmetic: arithmeticOf(matrices.query.dtype),
  }
}

/**
 * Causal grouped-query attention over a paged KV cache: each token attends to the positions of its sequence
 * up to its own. One kernel serves MHA, GQA and MQA (Ainslie et al. 2023), prefill and decoding, and any
 * number of sequences per call. Paged KV: Kwon et al. 2023; online softmax: Milakov & Gimelshein 2018. Scores
 * are scaled by 1 / sqrt(headDim).
 *
 * @param q `[tokens, heads · headDim]` F32, after RoPE; heads must be a multiple of the cache's kvHeads
 * @param kv a cache that attentionInput has filled; or plain arrays, which are copied into pages first
 * @param options `out` must not be q
 * @returns the shape of q, F32
 * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_DISPOSED, ERR_OUT_OF_MEMORY; on CUDA, ERR_UNSUPPORTED_MODEL
 *   when headDim is odd or above 256
 */
export async function pagedAttention<X extends TensorInput>(
  q: X,
  kv: KvCache | HostPages,
  options: PagedAttentionOptions,
): Promise<Result<X>> {
  return execute(planPagedAttention(q, kv, options))
}

/**
 * The part of a layer before attention, in one kernel: `n = RMSNorm(x)`; Q, K, V = n · Wᵀ; RoPE on Q and K;
 * and K and V written to the cache at each token's position. Gives the same bits as `rmsNorm`, three calls of
 * `matmul`, and `rope`.
 *
 * @param x `[tokens, hidden]` F32
 * @param kv receives K and V
 * @param options `out` must not be an input
 * @returns Q, `[tokens, heads · headDim]` F32, after RoPE
 * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_DISPOSED, ERR_OUT_OF_MEMORY; on CUDA, ERR_UNSUPPORTED_MODEL
 *   when headDim is above 256
 */
export async function attentionInput<X extends TensorInput>(
  x: X,
  weights: AttentionWeights,
  kv: KvCache,
  options: AttentionInputOptions,
): Promise<Result<X>> {
  return execute(planAttentionInput(x, weights, kv, options))
}
