/** Attention over a paged cache of keys and values. */

import { addon } from '../binding'
import { show } from '../errors'
import { runTask } from '../tasks'
import { checkOptions, integer, number, oneOf, plainObject, type Rules } from '../validate'
import {
  execute,
  expectApart,
  type KernelOptions,
  kernelRules,
  type OutputOptions,
  outputOf,
  outputRules,
  type Plan,
  placeOf,
  resultOf,
} from './call'
import { arithmeticOf, bytesOf } from './dtypes'
import { floats } from './elementwise'
import { matrix, tokensOf } from './products'
import { checkPositions, type RopeOptions, ropeArgs, ropeRules } from './rope'
import { KvCache, nativeOf, type Result, type Source, source, type TensorInput, wrong } from './tensor'

/** Consecutive tokens of one sequence that a call is about. */
export interface AttentionSequence {
  /** The position of the first of them. */
  position: number
  /** How many they are: 1 in decoding, a prompt's length in prefill. */
  tokens: number
  /** The block table: pages of the cache in order of position, enough for the last token. */
  pages: ArrayLike<number>
}

export interface KvCacheOptions extends KernelOptions {
  pages: number
  kvHeads: number
  headDim: number
  /** Default `'F16'`. */
  dtype?: 'F16' | 'F32' | undefined
}

/**
 * Pages as plain arrays: `[pages, kvHeads, pageTokens, headDim]` each, F32 or F16, where pageTokens is the device's
 * (`devices()` tells it). F16 arrays are kept as F16, F32 as F32.
 */
export interface HostPages {
  k: TensorInput
  v: TensorInput
}

export interface PagedAttentionOptions extends OutputOptions {
  /** The tokens of q, sequence after sequence. */
  sequences: readonly AttentionSequence[]
}

/** What attentionInput reads: the norm's weight `[hidden]`, and `[heads · headDim, hidden]`, twice `[kvHeads · headDim, hidden]`. */
export interface AttentionWeights {
  norm: TensorInput
  query: TensorInput
  key: TensorInput
  value: TensorInput
}

export interface AttentionInputOptions extends OutputOptions {
  /** The tokens of x, sequence after sequence. */
  sequences: readonly AttentionSequence[]
  /** Added to the mean of the squares in RMSNorm. Default 1e-5. */
  eps?: number | undefined
  /** How Q and K are rotated. */
  rope?: RopeOptions | undefined
}

const kvRules = {
  ...kernelRules,
  pages: integer(1, 2 ** 24),
  kvHeads: integer(1, 65536),
  headDim: integer(1, 65536),
  dtype: oneOf('F16', 'F32'),
} satisfies Rules
const inputRules = {
  ...outputRules,
  eps: number(0, 1e30),
  rope: plainObject(' of RoPE options'),
} satisfies Rules

interface Pages {
  pages: number
  kvHeads: number
  pageTokens: number
  headDim: number
  elementBytes: number
}

interface BatchArgs {
  first: Int32Array
  count: Int32Array
  /** [sequences, the longest table], padded with 0. */
  pages: Int32Array
}

/** The sequences as the addon takes them, every page within the cache. */
function batchArgs(call: string, sequences: unknown, cache: Pages): { args: BatchArgs; tokens: number } {
  if (!Array.isArray(sequences) || sequences.length === 0) {
    throw wrong(call, "option 'sequences'", 'an array of { position, tokens, pages }', show(sequences))
  }
  const list = sequences as AttentionSequence[]
  const tables = list.map((sequence, i) => {
    const name = `sequences[${i}]`
    for (const field of ['position', 'tokens'] as const) {
      const value = sequence?.[field]
      if (!Number.isInteger(value) || value < 0 || value > 2 ** 31 - 1) {
        throw wrong(call, `${name}.${field}`, 'an integer of at least 0', show(value))
      }
    }
    const table = checkPositions(call, `${name}.pages`, sequence.pages)
    const bad = table.findIndex((page) => page >= cache.pages)
    if (bad >= 0) {
      throw wrong(call, `${name}.pages[${bad}]`, `a page from 0 to ${cache.pages - 1}`, String(table[bad]))
    }
    const needed = Math.ceil((sequence.position + sequence.tokens) / cache.pageTokens)
    if (table.length < needed) {
      const end = sequence.position + sequence.tokens
      throw wrong(
        call,
        `${name}.pages`,
        `at least ${needed} pages of ${cache.pageTokens} tokens for ${end}`,
        `${table.length}`,
      )
    }
    return table.subarray(0, needed)
  })
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

function cacheOf(
  call: string,
  name: string,
  value: unknown,
): { cache: KvCache; shape: Pages; device: string } {
  if (!(value instanceof KvCache)) throw wrong(call, name, 'a KvCache', show(value))
  if (value.disposed) throw wrong(call, name, 'a cache that was not disposed', 'one that was')
  const { pages, kvHeads, pageTokens, headDim, device } = value
  return {
    cache: value,
    shape: { pages, kvHeads, pageTokens, headDim, elementBytes: value.dtype === 'F32' ? 4 : 2 },
    device,
  }
}

/** Pages of the host: how the addon takes them. */
function hostPages(call: string, { k, v }: HostPages): { native: object; shape: Pages } {
  const [keys, values] = [source(call, 'kv.k', k), source(call, 'kv.v', v)]
  for (const [name, x] of [
    ['kv.k', keys],
    ['kv.v', values],
  ] as const) {
    if (x.dtype !== 'F32' && x.dtype !== 'F16') throw wrong(call, `${name}.dtype`, 'F32 or F16', x.dtype)
    if (x.shape.length !== 4 || x.elements === 0) {
      throw wrong(
        call,
        name,
        'of shape [pages, kvHeads, pageTokens, headDim]',
        `shape [${x.shape.join(', ')}]`,
      )
    }
  }
  if (String(values.shape) !== String(keys.shape) || values.dtype !== keys.dtype) {
    throw wrong(
      call,
      'kv.v',
      `as kv.k, ${keys.dtype} [${keys.shape.join(', ')}]`,
      `${values.dtype} [${values.shape.join(', ')}]`,
    )
  }
  const [pages, kvHeads, pageTokens, headDim] = keys.shape as [number, number, number, number]
  return {
    native: { k: keys.native, v: values.native, dtype: keys.dtype, shape: [2, ...keys.shape] },
    shape: { pages, kvHeads, pageTokens, headDim, elementBytes: keys.dtype === 'F32' ? 4 : 2 },
  }
}

/** Heads of a query whose rows have `width` columns. */
function checkHeads(call: string, name: string, heads: number, { kvHeads }: Pages): number {
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
  const isPages = typeof kv === 'object' && kv !== null && 'k' in kv && 'v' in kv
  const pages = isPages ? hostPages(call, kv as HostPages) : undefined
  const resident = pages ? undefined : cacheOf(call, 'kv', kv)
  const shape = (pages ?? resident)!.shape
  const { args, tokens } = batchArgs(call, sequences, shape)
  const heads = checkHeads(
    call,
    'q',
    tokens > 0 ? query.elements / (tokens * shape.headDim) : shape.kvHeads,
    shape,
  )
  const out = outputOf(call, values.out, query, query.shape)
  expectApart(call, values.out, { q: query })
  let seen = 0
  let read = 0
  args.first.forEach((first, i) => {
    const count = args.count[i]!
    seen += count * first + (count * (count + 1)) / 2
    read += first + count
  })
  return {
    call,
    op: 'pagedAttention',
    args: {
      ...args,
      heads,
      q: query.native,
      kv: pages?.native ?? nativeOf(resident!.cache),
      out: out.native,
    },
    where: placeOf(call, values, { q: query, kv: resident, out: out.target }),
    work: {
      bytes: 8 * query.elements + 2 * read * shape.kvHeads * shape.headDim * shape.elementBytes,
      written: 4 * query.elements,
      flops: 4 * heads * shape.headDim * seen,
      arithmetic: shape.elementBytes === 2 ? 'f16' : 'f32',
    },
    result: ({ outputs }) => resultOf(outputs[0]!, values.out),
  }
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
  const matrices = {
    query: matrix(call, 'weights.query', given.query),
    key: matrix(call, 'weights.key', given.key),
    value: matrix(call, 'weights.value', given.value),
  }
  const { cache, shape, device } = cacheOf(call, 'kv', kv)
  const hidden = norm.elements
  const wanted = {
    query: matrices.query.rows,
    key: shape.kvHeads * shape.headDim,
    value: shape.kvHeads * shape.headDim,
  }
  for (const [name, { rows, cols }] of Object.entries(matrices)) {
    const expected = wanted[name as keyof typeof wanted]
    if (rows !== expected || cols !== hidden) {
      throw wrong(call, `weights.${name}`, `of shape [${expected}, ${hidden}]`, `shape [${rows}, ${cols}]`)
    }
  }
  const heads = checkHeads(call, 'weights.query', wanted.query / shape.headDim, shape)
  const { args, tokens } = batchArgs(call, sequences, shape)
  if (tokensOf(call, input, hidden, 'weights.norm') !== tokens) {
    throw wrong(
      call,
      'x',
      `${tokens} rows, as the sequences have tokens`,
      `shape [${input.shape.join(', ')}]`,
    )
  }
  const table = ropeArgs(call, checkOptions(`${call}, option 'rope'`, values.rope, ropeRules), shape.headDim)
  const qDim = heads * shape.headDim
  const out = outputOf(call, values.out, input, [tokens, qDim])
  expectApart(call, values.out, { x: input, 'weights.norm': norm })
  const all = Object.values(matrices)
  const weightBytes = all.reduce((sum, w) => sum + bytesOf(w.dtype, w.elements), 0)
  return {
    call,
    op: 'attentionInput',
    args: {
      ...args,
      ...table,
      ...{ hidden, heads, eps: values.eps ?? 1e-5, x: input.native, norm: norm.native, kv: nativeOf(cache) },
      ...{
        query: matrices.query.native,
        key: matrices.key.native,
        value: matrices.value.native,
        out: out.native,
      },
    },
    where: placeOf(call, values, {
      ...{ x: input, 'weights.norm': norm, 'weights.query': matrices.query, 'weights.key': matrices.key },
      ...{ 'weights.value': matrices.value, kv: { device }, out: out.target },
    }),
    work: {
      bytes:
        weightBytes +
        4 * tokens * (hidden + qDim) +
        2 * tokens * shape.kvHeads * shape.headDim * shape.elementBytes,
      written: 4 * tokens * qDim + 2 * tokens * shape.kvHeads * shape.headDim * shape.elementBytes,
      flops: 2 * tokens * all.reduce((sum, { elements }) => sum + elements, 0),
      arithmetic: arithmeticOf(matrices.query.dtype),
    },
    result: ({ outputs }) => resultOf(outputs[0]!, values.out),
  }
}

/**
 * Causal grouped-query attention over pages: token t of a sequence attends to positions 0 to its own. One code for
 * MHA, GQA and MQA (Ainslie et al. 2023), for prefill and decoding, for any number of sequences in one call; paged KV:
 * Kwon et al. 2023; online softmax: Milakov & Gimelshein 2018. Scores are scaled by 1 / sqrt(headDim).
 *
 * @param q `[tokens, heads · headDim]` F32, rotated; heads is a multiple of the cache's
 * @param kv what attentionInput filled, or plain arrays, which are copied into pages first
 * @param options `out` is not q
 * @returns as q
 * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_DISPOSED, ERR_OUT_OF_MEMORY; ERR_UNSUPPORTED_MODEL on CUDA when headDim is
 *   odd or above 256
 */
export async function pagedAttention<X extends TensorInput>(
  q: X,
  kv: KvCache | HostPages,
  options: PagedAttentionOptions,
): Promise<Result<X>> {
  return execute(planPagedAttention(q, kv, options))
}

/**
 * All that comes before attention in a layer, in one kernel: `n = RMSNorm(x)`, Q, K, V = n · Wᵀ, RoPE on Q and K, and
 * K and V into the pages at each token's position. The same bits as rmsNorm, three matmul and rope.
 *
 * @param x `[tokens, hidden]` F32
 * @param kv K and V are written here
 * @returns q, `[tokens, heads · headDim]` F32, rotated
 * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_DISPOSED, ERR_OUT_OF_MEMORY; ERR_UNSUPPORTED_MODEL on CUDA when headDim is
 *   above 256
 */
export async function attentionInput<X extends TensorInput>(
  x: X,
  weights: AttentionWeights,
  kv: KvCache,
  options: AttentionInputOptions,
): Promise<Result<X>> {
  return execute(planAttentionInput(x, weights, kv, options))
}

/**
 * A cache of zeros for one layer.
 * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_OUT_OF_MEMORY, ERR_UNSUPPORTED_DEVICE
 */
export async function kvCache(options: KvCacheOptions): Promise<KvCache> {
  const call = 'kernels.kvCache'
  const { pages, kvHeads, headDim, dtype = 'F16', ...where } = checkOptions(call, options, kvRules)
  for (const [name, value] of Object.entries({ pages, kvHeads, headDim })) {
    if (value === undefined) {
      throw wrong(call, `option '${name}'`, kvRules[name as 'pages'].expected, 'undefined')
    }
  }
  const sizes = { pages: pages!, kvHeads: kvHeads!, headDim: headDim!, dtype }
  return KvCache.create(
    await runTask(call, () => addon().kernels.allocateKv(sizes, placeOf(call, where, {}))),
  )
}

/**
 * Writes all pages of a cache, rounded to its type.
 *
 * @param pages `[pages, kvHeads, pageTokens, headDim]` each
 * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_DISPOSED
 */
export async function writeKv(kv: KvCache, pages: HostPages): Promise<void> {
  const call = 'kernels.writeKv'
  const { cache, device } = cacheOf(call, 'kv', kv)
  const [k, v] = floats(call, { 'pages.k': pages?.k, 'pages.v': pages?.v }) as [Source, Source]
  const wanted = cache.shape.slice(1)
  for (const [name, x] of [
    ['pages.k', k],
    ['pages.v', v],
  ] as const) {
    if (x.elements !== wanted.reduce((product, size) => product * size, 1)) {
      throw wrong(call, name, `of shape [${wanted.join(', ')}]`, `shape [${x.shape.join(', ')}]`)
    }
  }
  const args = { kv: nativeOf(cache), k: k.native, v: v.native }
  const where = placeOf(call, {}, { kv: { device }, 'pages.k': k, 'pages.v': v })
  await runTask(call, () => addon().kernels.run('kvWrite', [args], where, 0, 1))
}
