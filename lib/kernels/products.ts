/** Kernels that read matrices of weights: products, the fused SwiGLU, embeddings, and conversions of types. */

import { show } from '../errors'
import { checkArgument, checkOptions, checkTokenIds, custom, number, oneOf, type Rules } from '../validate'
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
import { ALL_TYPES, arithmeticOf, bytesOf, type DataOf, DTYPES, type DType, WEIGHT_TYPES } from './dtypes'
import { floats, type NormOptions } from './elementwise'
import {
  expectShape,
  type HostTensor,
  type Result,
  type Source,
  source,
  type Tensor,
  type TensorInput,
  wrong,
} from './tensor'

export interface MatmulOptions extends OutputOptions {
  /** F32 `[tokens, rows]` that the product is added to: a resident one in place. Not together with `out`. */
  addTo?: TensorInput | undefined
}

/** What SwiGLU reads: the norm's weight `[hidden]`, and two matrices `[ffnHidden, hidden]`. */
export interface SwigluWeights {
  norm: TensorInput
  gate: TensorInput
  up: TensorInput
}

const matmulRules = {
  ...outputRules,
  addTo: custom<TensorInput>('a tensor', (value) =>
    typeof value === 'object' && value ? (value as TensorInput) : undefined,
  ),
} satisfies Rules
const swigluRules = { ...outputRules, eps: number(0, 1e30) } satisfies Rules

/** A matrix of weights, of a type that products know. */
export function matrix(call: string, name: string, value: unknown): Source & { rows: number; cols: number } {
  const found = source(call, name, value)
  if (!WEIGHT_TYPES.includes(found.dtype as (typeof WEIGHT_TYPES)[number])) {
    throw wrong(call, `${name}.dtype`, `a type of weights (${WEIGHT_TYPES.join(', ')})`, found.dtype)
  }
  const [rows, cols] = found.shape as [number, number]
  if (found.shape.length !== 2 || rows < 1 || cols < 1) {
    throw wrong(call, name, 'a matrix of shape [rows, cols]', `shape [${found.shape.join(', ')}]`)
  }
  return { ...found, rows, cols }
}

/** Rows of x that have so many columns. */
export function tokensOf(call: string, x: Source, cols: number, of: string): number {
  if (x.elements % cols === 0 && (x.shape.length === 1 || x.shape.at(-1) === cols)) return x.elements / cols
  throw wrong(call, 'x', `rows of ${cols} columns, as ${of} has`, `shape [${x.shape.join(', ')}]`)
}

export function planMatmul<X extends TensorInput>(
  x: X,
  weight: HostTensor | Tensor,
  options?: MatmulOptions,
): Plan<Result<X>> {
  const call = 'kernels.matmul'
  const values = checkOptions(call, options, matmulRules)
  const [input] = floats(call, { x }) as [Source]
  const { rows, cols, native, dtype, ...rest } = matrix(call, 'weight', weight)
  const w = { ...rest, native, dtype }
  const tokens = tokensOf(call, input, cols, 'the weight')
  const shape = [...(input.shape.length > 1 ? input.shape.slice(0, -1) : [tokens]), rows]
  const { addTo, out } = values
  if (addTo && out) throw wrong(call, "option 'out'", "absent beside 'addTo', which is the result", show(out))
  let sum: Source | undefined
  if (addTo !== undefined) {
    sum = source(call, "option 'addTo'", addTo)
    expectShape(call, "option 'addTo'", sum, [tokens, rows])
    if (sum.dtype !== 'F32') throw wrong(call, "option 'addTo'", 'F32', sum.dtype)
    if ((sum.tensor === undefined) !== (input.tensor === undefined)) {
      throw wrong(call, "option 'addTo'", 'resident where x is, and only there', show(addTo))
    }
    expectApart(call, sum.tensor, { x: input, weight: w })
  }
  const target = outputOf(call, out, input, shape)
  expectApart(call, out, { x: input, weight: w })
  const bytes = bytesOf(dtype, rows * cols) + 4 * tokens * (cols + (sum ? 2 : 1) * rows)
  return {
    call,
    op: 'matmul',
    args: {
      ...{ tokens, rows, cols, x: input.native, weight: native },
      ...(sum ? { addTo: sum.native } : { out: target.native }),
    },
    where: placeOf(call, values, { x: input, weight: w, addTo: sum, out: target.target }),
    work: {
      bytes,
      written: 4 * tokens * rows,
      flops: 2 * tokens * rows * cols,
      arithmetic: arithmeticOf(dtype),
    },
    result: ({ outputs }) => resultOf(outputs[0]!, addTo ?? out),
  }
}

export function planSwiglu<X extends TensorInput>(
  x: X,
  weights: SwigluWeights,
  options?: NormOptions,
): Plan<Result<X>> {
  const call = 'kernels.swiglu'
  const values = checkOptions(call, options, swigluRules)
  const given = (weights ?? {}) as Partial<SwigluWeights>
  const [input, norm] = floats(call, { x, 'weights.norm': given.norm }) as [Source, Source]
  const gate = matrix(call, 'weights.gate', given.gate)
  const up = matrix(call, 'weights.up', given.up)
  const { rows: ffnHidden, cols: hidden } = gate
  expectShape(call, 'weights.norm', norm, [hidden])
  expectShape(call, 'weights.up', up, [ffnHidden, hidden])
  const tokens = tokensOf(call, input, hidden, 'weights.gate')
  const shape = [...(input.shape.length > 1 ? input.shape.slice(0, -1) : [tokens]), ffnHidden]
  const out = outputOf(call, values.out, input, shape)
  expectApart(call, values.out, { x: input, 'weights.norm': norm, 'weights.gate': gate, 'weights.up': up })
  const matrices = bytesOf(gate.dtype, ffnHidden * hidden) + bytesOf(up.dtype, ffnHidden * hidden)
  return {
    call,
    op: 'swiglu',
    args: {
      ...{ tokens, hidden, ffnHidden, eps: values.eps ?? 1e-5, x: input.native, norm: norm.native },
      ...{ gate: gate.native, up: up.native, out: out.native },
    },
    where: placeOf(call, values, {
      x: input,
      'weights.norm': norm,
      'weights.gate': gate,
      'weights.up': up,
      out: out.target,
    }),
    work: {
      bytes: matrices + 4 * (tokens * (hidden + ffnHidden) + hidden),
      written: 4 * tokens * ffnHidden,
      flops: 4 * tokens * hidden * ffnHidden,
      arithmetic: arithmeticOf(gate.dtype),
    },
    result: ({ outputs }) => resultOf(outputs[0]!, values.out),
  }
}

export function planEmbed<T extends HostTensor | Tensor>(
  table: T,
  ids: Uint32Array | readonly number[],
  options?: OutputOptions,
): Plan<Result<T>> {
  const call = 'kernels.embed'
  const values = checkOptions(call, options, outputRules)
  const { rows: vocab, cols, ...from } = matrix(call, 'table', table)
  const checked = checkTokenIds(call, 'ids', ids, vocab)
  const out = outputOf(call, values.out, from, [checked.length, cols])
  expectApart(call, values.out, { table: from })
  return {
    call,
    op: 'embed',
    args: { vocab, cols, table: from.native, ids: checked, out: out.native },
    where: placeOf(call, values, { table: from, out: out.target }),
    work: {
      bytes: bytesOf(from.dtype, checked.length * cols) + 4 * checked.length * cols,
      written: 4 * checked.length * cols,
      flops: checked.length * cols,
      arithmetic: 'f32',
    },
    result: ({ outputs }) => resultOf(outputs[0]!, values.out),
  }
}

/** Quantized: resident for a resident input, else its bits. */
export type Quantized<X, D extends DType> = X extends Tensor ? Tensor<D> : DataOf<D>

export function planQuantize<X extends TensorInput, D extends DType>(
  x: X,
  dtype: D,
  options?: KernelOptions,
): Plan<Quantized<X, D>> {
  const call = 'kernels.quantize'
  const values = checkOptions(call, options, kernelRules)
  const type = checkArgument(call, 'dtype', dtype, oneOf(...ALL_TYPES))
  const [input] = floats(call, { x }) as [Source]
  const { block } = DTYPES[type]
  const cols = input.shape.at(-1)!
  if (cols % block !== 0 || cols === 0) {
    throw wrong(
      call,
      'x',
      `rows of a multiple of ${block} columns for ${type}`,
      `shape [${input.shape.join(', ')}]`,
    )
  }
  return {
    call,
    op: 'quantize',
    args: {
      ...{ dtype: type, rows: input.elements / cols, cols, x: input.native },
      out: { resident: input.tensor !== undefined, shape: [...input.shape] },
    },
    where: placeOf(call, values, { x: input }),
    work: {
      bytes: 4 * input.elements + bytesOf(type, input.elements),
      written: bytesOf(type, input.elements),
      flops: 3 * input.elements,
      arithmetic: 'f32',
    },
    result: ({ outputs }) => resultOf(outputs[0]!, undefined),
  }
}

export function planDequantize<X extends TensorInput>(x: X, options?: OutputOptions): Plan<Result<X>> {
  const call = 'kernels.dequantize'
  const values = checkOptions(call, options, outputRules)
  const input = source(call, 'x', x)
  const out = outputOf(call, values.out, input, input.shape)
  expectApart(call, values.out, { x: input })
  return {
    call,
    op: 'dequantize',
    args: { x: input.native, out: out.native },
    where: placeOf(call, values, { x: input, out: out.target }),
    work: {
      bytes: bytesOf(input.dtype, input.elements) + 4 * input.elements,
      written: 4 * input.elements,
      flops: input.elements,
      arithmetic: 'f32',
    },
    result: ({ outputs }) => resultOf(outputs[0]!, values.out),
  }
}

/**
 * `y = x · Wᵀ`, or `y = addTo + x · Wᵀ`. Activations become what llama.cpp multiplies the weight's type with (Q8_0 or
 * Q8_K for quantized weights, F16 and BF16 for theirs), as in a model: docs/numerics.md.
 *
 * @param x `[tokens, cols]` F32
 * @param weight `[rows, cols]` of any weight type; row r is the r-th output
 * @param options `out` is none of the inputs
 * @returns `[tokens, rows]` F32
 * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_DISPOSED, ERR_OUT_OF_MEMORY
 */
export async function matmul<X extends TensorInput>(
  x: X,
  weight: HostTensor | Tensor,
  options?: MatmulOptions,
): Promise<Result<X>> {
  return execute(planMatmul(x, weight, options))
}

/**
 * The first half of a Llama's feed-forward block in one kernel (Shazeer 2020): `SiLU(n · gateᵀ) · (n · upᵀ)` with
 * `n = RMSNorm(x)`. The same bits as rmsNorm, two matmul and siluMul.
 *
 * @param x `[tokens, hidden]` F32
 * @param options `out` is none of the inputs
 * @returns `[tokens, ffnHidden]` F32
 * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_DISPOSED, ERR_OUT_OF_MEMORY
 */
export async function swiglu<X extends TensorInput>(
  x: X,
  weights: SwigluWeights,
  options?: NormOptions,
): Promise<Result<X>> {
  return execute(planSwiglu(x, weights, options))
}

/**
 * Rows of a table as float32: `out[i] = table[ids[i]]`.
 *
 * @param table `[vocab, cols]` of any weight type
 * @param ids each below vocab
 * @returns `[ids, cols]` F32
 * @throws (rejects) ERR_INVALID_ARGUMENT (naming the first bad index), ERR_DISPOSED, ERR_OUT_OF_MEMORY
 */
export async function embed<T extends HostTensor | Tensor>(
  table: T,
  ids: Uint32Array | readonly number[],
  options?: OutputOptions,
): Promise<Result<T>> {
  return execute(planEmbed(table, ids, options))
}

/**
 * Values in another storage type, row by row. Activations' types (F16, BF16, Q8_0, Q8_1, Q8_K) are llama.cpp's bits;
 * the others are plain fits, good for tests and not for models: they do not search for the least error.
 *
 * @param x `[..., cols]` F32, cols a multiple of the type's block
 * @returns the blocks of the GGUF specification, one after the other
 * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_DISPOSED, ERR_OUT_OF_MEMORY
 */
export async function quantize<X extends TensorInput, D extends DType>(
  x: X,
  dtype: D,
  options?: KernelOptions,
): Promise<Quantized<X, D>> {
  return execute(planQuantize(x, dtype, options))
}

/**
 * The float32 values of any storage type, bit for bit as the format defines them (the GGUF specification; ggml).
 *
 * @param x `[..., cols]` of any type
 * @returns as x, F32
 * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_DISPOSED, ERR_OUT_OF_MEMORY
 */
export async function dequantize<X extends TensorInput>(x: X, options?: OutputOptions): Promise<Result<X>> {
  return execute(planDequantize(x, options))
}
