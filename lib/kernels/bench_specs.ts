/** What `bench` measures when it is given a description: random inputs of a kernel, resident. */

import { RandomWeights, RandomWords } from '../bench/random_weights'
import { invalidArgument } from '../errors'
import { kvCache, planAttentionInput, planPagedAttention, writeKv } from './attention'
import type { KernelOptions, Plan } from './call'
import { bytesOf, type DType, type WeightType } from './dtypes'
import { planAddRmsNorm, planRmsNorm, planRope, planSiluMul, planSoftmax } from './elementwise'
import { allocate, describeDevice, upload } from './memory'
import { planDequantize, planEmbed, planMatmul, planQuantize, planSwiglu } from './products'
import { planSample } from './sample'
import type { Tensor } from './tensor'

/** A kernel and the sizes of its inputs, which are random. */
export type BenchSpec =
  | { op: 'rmsNorm' | 'addRmsNorm' | 'siluMul' | 'softmax'; rows: number; cols: number }
  | { op: 'rope'; tokens: number; heads: number; headDim: number; layout?: 'interleaved' | 'half' }
  | { op: 'matmul'; dtype: WeightType; rows: number; cols: number; tokens: number }
  | { op: 'swiglu'; dtype: WeightType; hidden: number; ffnHidden: number; tokens: number }
  | {
      op: 'attentionInput'
      dtype: WeightType
      hidden: number
      heads: number
      kvHeads: number
      headDim: number
      tokens: number
      /** Default `'F16'`. */
      kvDtype?: 'F16' | 'F32'
    }
  | {
      op: 'pagedAttention'
      heads: number
      kvHeads: number
      headDim: number
      /** New tokens of each sequence: 1 in decoding. */
      tokens: number
      /** Tokens of each sequence that the last new one attends to, itself included. */
      context: number
      /** Default 1. */
      sequences?: number
      /** Default `'F16'`. */
      kvDtype?: 'F16' | 'F32'
    }
  | { op: 'quantize' | 'dequantize'; dtype: DType; rows: number; cols: number }
  | { op: 'embed'; dtype: WeightType; vocab: number; cols: number; tokens: number }
  | { op: 'sample'; rows: number; vocab: number }

type Field = 'size' | 'type' | 'kv' | 'layout'
const norm = { rows: 'size', cols: 'size' } as const
const FIELDS: Record<BenchSpec['op'], Readonly<Record<string, Field>>> = {
  rmsNorm: norm,
  addRmsNorm: norm,
  siluMul: norm,
  softmax: norm,
  rope: { tokens: 'size', heads: 'size', headDim: 'size', layout: 'layout' },
  matmul: { dtype: 'type', rows: 'size', cols: 'size', tokens: 'size' },
  swiglu: { dtype: 'type', hidden: 'size', ffnHidden: 'size', tokens: 'size' },
  attentionInput: {
    ...{ dtype: 'type', hidden: 'size', heads: 'size', kvHeads: 'size', headDim: 'size', tokens: 'size' },
    kvDtype: 'kv',
  },
  pagedAttention: {
    ...{ heads: 'size', kvHeads: 'size', headDim: 'size', tokens: 'size', context: 'size' },
    ...{ sequences: 'size', kvDtype: 'kv' },
  },
  quantize: { dtype: 'type', ...norm },
  dequantize: { dtype: 'type', ...norm },
  embed: { dtype: 'type', vocab: 'size', cols: 'size', tokens: 'size' },
  sample: { rows: 'size', vocab: 'size' },
}
const OPTIONAL = ['layout', 'kvDtype', 'sequences']

/** The ops that a {@link BenchSpec} can name. */
export const BENCH_OPS = Object.keys(FIELDS) as Array<BenchSpec['op']>

/** @throws ERR_INVALID_ARGUMENT */
export function checkSpec(spec: unknown): BenchSpec {
  const call = 'bench'
  const given = spec as Record<string, unknown> | null
  const op = typeof given === 'object' && given !== null ? given.op : undefined
  if (typeof op !== 'string' || !Object.hasOwn(FIELDS, op)) {
    throw invalidArgument(call, 'op', BENCH_OPS.map((name) => `'${name}'`).join(' or '), op)
  }
  const fields = FIELDS[op as BenchSpec['op']]
  for (const name of Object.keys(given!)) {
    if (name !== 'op' && !Object.hasOwn(fields, name)) {
      throw invalidArgument(call, `${op}'s spec`, `of op, ${Object.keys(fields).join(', ')}`, name)
    }
  }
  for (const [name, field] of Object.entries(fields)) {
    const value = given![name]
    if (value === undefined && OPTIONAL.includes(name)) continue
    // Types are the kernels' own to check.
    if (field === 'size' && !(Number.isSafeInteger(value) && (value as number) > 0)) {
      throw invalidArgument(call, name, 'an integer of at least 1', value)
    }
  }
  return spec as BenchSpec
}

/** Random tensors of a device, and their disposal. */
class Inputs {
  readonly #words = new RandomWords(1)
  readonly #weights = new RandomWeights(1)
  readonly #bytes = new Map<string, Float32Array | Uint8Array>()
  readonly #device: { device?: 'cpu' }
  readonly #made: Array<{ dispose(): void }> = []

  constructor({ device }: KernelOptions) {
    this.#device = (device === undefined ? {} : { device }) as { device?: 'cpu' }
  }

  keep<T extends { dispose(): void }>(resident: T): T {
    this.#made.push(resident)
    return resident
  }

  dispose(): void {
    for (const resident of this.#made.splice(0)) resident.dispose()
  }

  /** Uniform in ±1. */
  numbers(n: number): Float32Array {
    const key = `numbers ${n}`
    let found = this.#bytes.get(key) as Float32Array | undefined
    if (!found) {
      const words = new Uint32Array(n)
      this.#words.fill(words)
      found = Float32Array.from(words, (word) => word / 2 ** 31 - 1)
      this.#bytes.set(key, found)
    }
    return found
  }

  async floats(...shape: number[]): Promise<Tensor<'F32'>> {
    const n = shape.reduce((product, size) => product * size, 1)
    return this.keep(await upload(this.numbers(n), { shape, ...this.#device }))
  }

  async zeros(...shape: number[]): Promise<Tensor<'F32'>> {
    return this.keep(await allocate(shape, this.#device))
  }

  async matrix(dtype: DType, rows: number, cols: number): Promise<Tensor> {
    const key = `${dtype} ${rows} ${cols}`
    let data = this.#bytes.get(key)
    if (!data) {
      const bytes = new Uint8Array(bytesOf(dtype, rows * cols))
      const plan = { name: 'w', type: dtype as WeightType, dims: [cols, rows] }
      let at = 0
      for (const piece of this.#weights.dataOf(plan, bytes.length)) {
        bytes.set(piece, at)
        at += piece.length
      }
      data = bytes
      this.#bytes.set(key, data)
    }
    const array =
      dtype === 'F32'
        ? new Float32Array(data.buffer)
        : dtype === 'F16' || dtype === 'BF16'
          ? new Uint16Array(data.buffer)
          : data
    return this.keep(await upload(array, { dtype, shape: [rows, cols], ...this.#device }))
  }

  async cache(pages: number, kvHeads: number, headDim: number, dtype: 'F16' | 'F32' = 'F16') {
    const kv = this.keep(await kvCache({ pages, kvHeads, headDim, dtype, ...this.#device }))
    const values = this.numbers(kv.shape.slice(1).reduce((product, size) => product * size, 1))
    await writeKv(kv, { k: values, v: values })
    return kv
  }
}

export interface BenchInputs {
  plan(): Promise<Plan<unknown>>
  dispose(): void
}

/** Each `plan()` has inputs of its own. */
export function benchInputs(spec: BenchSpec, where: KernelOptions): BenchInputs {
  const inputs = new Inputs(where)
  return { plan: () => plan(spec, where, inputs), dispose: () => inputs.dispose() }
}

async function plan(spec: BenchSpec, where: KernelOptions, inputs: Inputs): Promise<Plan<unknown>> {
  const { op } = spec
  switch (op) {
    case 'rmsNorm':
    case 'addRmsNorm': {
      const { rows, cols } = spec
      const [x, weight, out] = [
        await inputs.floats(rows, cols),
        await inputs.floats(cols),
        await inputs.zeros(rows, cols),
      ]
      if (op === 'rmsNorm') return planRmsNorm(x, weight, { ...where, out })
      return planAddRmsNorm(x, await inputs.floats(rows, cols), weight, { ...where, out })
    }
    case 'siluMul':
    case 'softmax': {
      const { rows, cols } = spec
      const [x, out] = [await inputs.floats(rows, cols), await inputs.zeros(rows, cols)]
      if (op === 'softmax') return planSoftmax(x, { ...where, out })
      return planSiluMul(x, await inputs.floats(rows, cols), { ...where, out })
    }
    case 'rope': {
      const { tokens, heads, headDim, layout } = spec
      const [x, out] = [
        await inputs.floats(tokens, heads * headDim),
        await inputs.zeros(tokens, heads * headDim),
      ]
      return planRope(x, {
        ...where,
        out,
        headDim,
        layout,
        positions: Int32Array.from({ length: tokens }, (_, i) => i),
      })
    }
    case 'matmul': {
      const { dtype, rows, cols, tokens } = spec
      const out = await inputs.zeros(tokens, rows)
      return planMatmul(await inputs.floats(tokens, cols), await inputs.matrix(dtype, rows, cols), {
        ...where,
        out,
      })
    }
    case 'swiglu': {
      const { dtype, hidden, ffnHidden, tokens } = spec
      const weights = {
        norm: await inputs.floats(hidden),
        gate: await inputs.matrix(dtype, ffnHidden, hidden),
        up: await inputs.matrix(dtype, ffnHidden, hidden),
      }
      const out = await inputs.zeros(tokens, ffnHidden)
      return planSwiglu(await inputs.floats(tokens, hidden), weights, { ...where, out })
    }
    case 'attentionInput': {
      const { dtype, hidden, heads, kvHeads, headDim, tokens, kvDtype } = spec
      const weights = {
        norm: await inputs.floats(hidden),
        query: await inputs.matrix(dtype, heads * headDim, hidden),
        key: await inputs.matrix(dtype, kvHeads * headDim, hidden),
        value: await inputs.matrix(dtype, kvHeads * headDim, hidden),
      }
      const pages = Math.ceil(tokens / (await pageTokens(where)))
      const kv = await inputs.cache(pages, kvHeads, headDim, kvDtype)
      const out = await inputs.zeros(tokens, heads * headDim)
      const sequences = [{ position: 0, tokens, pages: Array.from({ length: pages }, (_, i) => i) }]
      return planAttentionInput(await inputs.floats(tokens, hidden), weights, kv, {
        ...where,
        out,
        sequences,
      })
    }
    case 'pagedAttention': {
      const { heads, kvHeads, headDim, tokens, context, sequences: count = 1, kvDtype } = spec
      if (tokens > context)
        throw invalidArgument('bench', 'context', `at least ${tokens}, the new tokens`, context)
      const each = Math.ceil(context / (await pageTokens(where)))
      const kv = await inputs.cache(count * each, kvHeads, headDim, kvDtype)
      const sequences = Array.from({ length: count }, (_, s) => ({
        position: context - tokens,
        tokens,
        pages: Array.from({ length: each }, (_, i) => s * each + i),
      }))
      const [q, out] = [
        await inputs.floats(count * tokens, heads * headDim),
        await inputs.zeros(count * tokens, heads * headDim),
      ]
      return planPagedAttention(q, kv, { ...where, out, sequences })
    }
    case 'quantize':
      return planQuantize(await inputs.floats(spec.rows, spec.cols), spec.dtype, where)
    case 'dequantize': {
      const { dtype, rows, cols } = spec
      return planDequantize(await inputs.matrix(dtype, rows, cols), {
        ...where,
        out: await inputs.zeros(rows, cols),
      })
    }
    case 'embed': {
      const { dtype, vocab, cols, tokens } = spec
      const random = new RandomWords(2)
      const ids = Uint32Array.from({ length: tokens }, () => random.below(vocab))
      return planEmbed(await inputs.matrix(dtype, vocab, cols), ids, {
        ...where,
        out: await inputs.zeros(tokens, cols),
      })
    }
    case 'sample':
      return planSample(await inputs.floats(spec.rows, spec.vocab), where)
  }
}

async function pageTokens(where: KernelOptions): Promise<number> {
  return (await describeDevice('bench', where)).pageTokens
}
