/**
 * The kernels that `bench` can measure by description: how a description is checked and turned into a plan.
 */

import { RandomWords } from '../bench/random_weights'
import { invalidArgument } from '../errors'
import { checkArgument, integer, oneOf, type Rules } from '../validate'
import { planAttentionInput, planPagedAttention } from './attention'
import type { BenchInputs } from './bench_inputs'
import type { KernelOptions, Plan } from './call'
import { ALL_TYPES, type DType, QUANTIZABLE_TYPES, WEIGHT_TYPES, type WeightType } from './dtypes'
import { planAddRmsNorm, planRmsNorm, planRope, planSiluMul, planSoftmax } from './elementwise'
import { planDequantize, planEmbed, planMatmul, planQuantize, planSwiglu } from './products'
import { ropeRules } from './rope'
import { planSample } from './sample'

/** A kernel and the sizes of its random inputs. */
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
      /** New tokens per sequence: 1 in decoding. */
      tokens: number
      /** Tokens per sequence, including the new ones: what the last token attends to. */
      context: number
      /** Default 1. */
      sequences?: number
      /** Default `'F16'`. */
      kvDtype?: 'F16' | 'F32'
    }
  | { op: 'quantize' | 'dequantize'; dtype: DType; rows: number; cols: number }
  | { op: 'embed'; dtype: WeightType; vocab: number; cols: number; tokens: number }
  | { op: 'sample'; rows: number; vocab: number }

type BenchOp = BenchSpec['op']
type SpecOf<O extends BenchOp> = Extract<BenchSpec, { op: O }>

const size = integer(1, Number.MAX_SAFE_INTEGER)
const weightType = oneOf(...WEIGHT_TYPES)
const anyType = oneOf(...ALL_TYPES)
const quantizableType = oneOf(...QUANTIZABLE_TYPES)
const kvType = oneOf('F16', 'F32')

const FIELDS: Readonly<Record<BenchOp, Rules>> = {
  rmsNorm: { rows: size, cols: size },
  addRmsNorm: { rows: size, cols: size },
  siluMul: { rows: size, cols: size },
  softmax: { rows: size, cols: size },
  rope: { tokens: size, heads: size, headDim: size, layout: ropeRules.layout },
  matmul: { dtype: weightType, rows: size, cols: size, tokens: size },
  swiglu: { dtype: weightType, hidden: size, ffnHidden: size, tokens: size },
  attentionInput: {
    dtype: weightType,
    hidden: size,
    heads: size,
    kvHeads: size,
    headDim: size,
    tokens: size,
    kvDtype: kvType,
  },
  pagedAttention: {
    heads: size,
    kvHeads: size,
    headDim: size,
    tokens: size,
    context: size,
    sequences: size,
    kvDtype: kvType,
  },
  quantize: { dtype: quantizableType, rows: size, cols: size },
  dequantize: { dtype: anyType, rows: size, cols: size },
  embed: { dtype: weightType, vocab: size, cols: size, tokens: size },
  sample: { rows: size, vocab: size },
}
const OPTIONAL = ['layout', 'kvDtype', 'sequences']

/** The ops that a {@link BenchSpec} can name. */
export const BENCH_OPS = Object.keys(FIELDS) as BenchOp[]

/** @throws ERR_INVALID_ARGUMENT */
export function checkSpec(spec: unknown): BenchSpec {
  const call = 'bench'
  const given = spec as Record<string, unknown> | null
  const op = typeof given === 'object' && given !== null ? given.op : undefined
  if (typeof op !== 'string' || !Object.hasOwn(FIELDS, op)) {
    throw invalidArgument(call, 'op', BENCH_OPS.map((name) => `'${name}'`).join(' or '), op)
  }
  const fields = FIELDS[op as BenchOp]
  for (const name of Object.keys(given!)) {
    if (name !== 'op' && !Object.hasOwn(fields, name)) {
      throw invalidArgument(call, `a field of ${op}`, `one of op, ${Object.keys(fields).join(', ')}`, name)
    }
  }
  for (const [name, rule] of Object.entries(fields)) {
    const value = given![name]
    if (value !== undefined || !OPTIONAL.includes(name)) checkArgument(call, name, value, rule)
  }
  return spec as BenchSpec
}

/** Plans one call with inputs of its own. */
export function planSpec(spec: BenchSpec, where: KernelOptions, inputs: BenchInputs): Promise<Plan<unknown>> {
  const plan = PLANNERS[spec.op] as (
    spec: BenchSpec,
    where: KernelOptions,
    inputs: BenchInputs,
  ) => Promise<Plan<unknown>>
  return plan(spec, where, inputs)
}

type Planners = {
  [O in BenchOp]: (spec: SpecOf<O>, where: KernelOptions, inputs: BenchInputs) => Promise<Plan<unknown>>
}

const PLANNERS: Planners = {
  async rmsNorm({ rows, cols }, where, inputs) {
    const x = await inputs.floats(rows, cols)
    const weight = await inputs.floats(cols)
    return planRmsNorm(x, weight, { ...where, out: await inputs.zeros(rows, cols) })
  },
  async addRmsNorm({ rows, cols }, where, inputs) {
    const x = await inputs.floats(rows, cols)
    const y = await inputs.floats(rows, cols)
    const weight = await inputs.floats(cols)
    return planAddRmsNorm(x, y, weight, { ...where, out: await inputs.zeros(rows, cols) })
  },
  async siluMul({ rows, cols }, where, inputs) {
    const gate = await inputs.floats(rows, cols)
    const up = await inputs.floats(rows, cols)
    return planSiluMul(gate, up, { ...where, out: await inputs.zeros(rows, cols) })
  },
  async softmax({ rows, cols }, where, inputs) {
    const x = await inputs.floats(rows, cols)
    return planSoftmax(x, { ...where, out: await inputs.zeros(rows, cols) })
  },
  async rope({ tokens, heads, headDim, layout }, where, inputs) {
    const x = await inputs.floats(tokens, heads * headDim)
    const out = await inputs.zeros(tokens, heads * headDim)
    return planRope(x, { ...where, out, headDim, layout, positions: range(0, tokens) })
  },
  async matmul({ dtype, rows, cols, tokens }, where, inputs) {
    const x = await inputs.floats(tokens, cols)
    const weight = await inputs.matrix(dtype, rows, cols)
    return planMatmul(x, weight, { ...where, out: await inputs.zeros(tokens, rows) })
  },
  async swiglu({ dtype, hidden, ffnHidden, tokens }, where, inputs) {
    const x = await inputs.floats(tokens, hidden)
    const weights = {
      norm: await inputs.floats(hidden),
      gate: await inputs.matrix(dtype, ffnHidden, hidden),
      up: await inputs.matrix(dtype, ffnHidden, hidden),
    }
    return planSwiglu(x, weights, { ...where, out: await inputs.zeros(tokens, ffnHidden) })
  },
  async attentionInput({ dtype, hidden, heads, kvHeads, headDim, tokens, kvDtype }, where, inputs) {
    const x = await inputs.floats(tokens, hidden)
    const weights = {
      norm: await inputs.floats(hidden),
      query: await inputs.matrix(dtype, heads * headDim, hidden),
      key: await inputs.matrix(dtype, kvHeads * headDim, hidden),
      value: await inputs.matrix(dtype, kvHeads * headDim, hidden),
    }
    const pages = await inputs.pagesFor(tokens)
    const kv = await inputs.cache(pages, kvHeads, headDim, kvDtype)
    const out = await inputs.zeros(tokens, heads * headDim)
    const sequences = [{ position: 0, tokens, pages: range(0, pages) }]
    return planAttentionInput(x, weights, kv, { ...where, out, sequences })
  },
  async pagedAttention(spec, where, inputs) {
    const { heads, kvHeads, headDim, tokens, context, sequences: count = 1, kvDtype } = spec
    if (tokens > context) {
      throw invalidArgument('bench', 'context', `at least ${tokens}, the new tokens`, context)
    }
    const q = await inputs.floats(count * tokens, heads * headDim)
    const pages = await inputs.pagesFor(context)
    const kv = await inputs.cache(count * pages, kvHeads, headDim, kvDtype)
    const out = await inputs.zeros(count * tokens, heads * headDim)
    const sequences = Array.from({ length: count }, (_, i) => ({
      position: context - tokens,
      tokens,
      pages: range(i * pages, pages),
    }))
    return planPagedAttention(q, kv, { ...where, out, sequences })
  },
  async quantize({ dtype, rows, cols }, where, inputs) {
    return planQuantize(await inputs.floats(rows, cols), dtype, where)
  },
  async dequantize({ dtype, rows, cols }, where, inputs) {
    const x = await inputs.matrix(dtype, rows, cols)
    return planDequantize(x, { ...where, out: await inputs.zeros(rows, cols) })
  },
  async embed({ dtype, vocab, cols, tokens }, where, inputs) {
    const table = await inputs.matrix(dtype, vocab, cols)
    const random = new RandomWords(2)
    const ids = Uint32Array.from({ length: tokens }, () => random.below(vocab))
    return planEmbed(table, ids, { ...where, out: await inputs.zeros(tokens, cols) })
  },
  async sample({ rows, vocab }, where, inputs) {
    return planSample(await inputs.floats(rows, vocab), where)
  },
}

function range(first: number, count: number): Int32Array {
  return Int32Array.from({ length: count }, (_, i) => first + i)
}
