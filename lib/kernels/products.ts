/**
 * Kernels that read weight matrices (products, fused SwiGLU, embeddings), and conversions between storage
 * types.
 */

import { show } from '../errors'
import { checkArgument, checkOptions, checkTokenIds, custom, oneOf, type Rules } from '../validate'
import {
  execute,
  expectDistinct,
  type KernelOptions,
  kernelRules,
  type OutputOptions,
  outputOf,
  outputRules,
  type Plan,
  placeOf,
  singleOutput,
} from './call'
import {
  arithmeticOf,
  bytesOf,
  type DataOf,
  DTYPES,
  type DType,
  QUANTIZABLE_TYPES,
  WEIGHT_TYPES,
  type WeightType,
} from './dtypes'
import { DEFAULT_EPS, type NormOptions, normRules } from './elementwise'
import {
  expectShape,
  floats,
  type HostTensor,
  type Result,
  rowsIn,
  type Source,
  source,
  type Tensor,
  type TensorInput,
  wrong,
  wrongShape,
} from './tensor'

export interface MatmulOptions extends OutputOptions {
  /**
   * `[tokens, rows]` F32 that the product is added to; a resident tensor is updated in place. Excludes `out`.
   * Resident exactly if x is.
   */
  addTo?: TensorInput | undefined
}

/** The weights of `kernels.swiglu`. */
export interface SwigluWeights {
  /** `[hidden]`. */
  norm: TensorInput
  /** `[ffnHidden, hidden]`. */
  gate: TensorInput
  /** `[ffnHidden, hidden]`. */
  up: TensorInput
}

const matmulRules = {
  ...outputRules,
  addTo: custom<TensorInput>('a tensor', (value) =>
    typeof value === 'object' && value ? (value as TensorInput) : undefined,
  ),
} satisfies Rules

export type WeightMatrix = Source & { rows: number; cols: number }

/** Checks a weight matrix. */
export function matrix(call: string, name: string, value: unknown): WeightMatrix {
  const found = source(call, name, value)
  if (!WEIGHT_TYPES.includes(found.dtype as WeightType)) {
    throw wrong(call, `${name}.dtype`, `a weight type (${WEIGHT_TYPES.join(', ')})`, found.dtype)
  }
  const [rows, cols] = found.shape as [number, number]
  if (found.shape.length !== 2 || rows < 1 || cols < 1) {
    throw wrongShape(call, name, 'a matrix of shape [rows, cols]', found.shape)
  }
  return { ...found, rows, cols }
}

/** The shape of a product: that of x, with `rows` columns. */
function productShape(x: Source, tokens: number, rows: number): number[] {
  return [...(x.shape.length > 1 ? x.shape.slice(0, -1) : [tokens]), rows]
}

/** Checks the option `addTo` of a product. */
function addToSource(
  call: string,
  addTo: TensorInput,
  x: Source,
  weight: WeightMatrix,
  tokens: number,
): Source {
  const name = "option 'addTo'"
  const sum = source(call, name, addTo)
  expectShape(call, name, sum, [tokens, weight.rows])
  if (sum.dtype !== 'F32') throw wrong(call, name, 'F32', sum.dtype)
  if ((sum.tensor === undefined) !== (x.tensor === undefined)) {
    throw wrong(call, name, 'resident exactly if x is', show(addTo))
  }
  expectDistinct(call, sum.tensor, { x, weight })
  return sum
}

export function planMatmul<X extends TensorInput>(
  x: X,
  weight: HostTensor | Tensor,
  options?: MatmulOptions,
): Plan<Result<X>> {
  const call = 'kernels.matmul'
  const values = checkOptions(call, options, matmulRules)
  const [input] = floats(call, { x }) as [Source]
  const w = matrix(call, 'weight', weight)
  const { rows, cols, dtype } = w
  const tokens = rowsIn(call, input, cols, 'the weight')
  const { addTo, out } = values
  if (addTo && out) throw wrong(call, "option 'out'", "absent beside 'addTo', which is the result", show(out))
  const sum = addTo && addToSource(call, addTo, input, w, tokens)
  const target = outputOf(call, out, input, productShape(input, tokens, rows))
  expectDistinct(call, out, { x: input, weight: w })
  return {
    call,
    op: 'matmul',
    args: {
      tokens,
      rows,
      cols,
      x: input.native,
      weight: w.native,
      ...(sum ? { addTo: sum.native } : { out: target.native }),
    },
    where: placeOf(call, values, { x: input, weight: w, addTo: sum, out: target.target }),
    work: {
      bytes: bytesOf(dtype, rows * cols) + 4 * tokens * (cols + (sum ? 2 : 1) * rows),
      written: 4 * tokens * rows,
      flops: 2 * tokens * rows * cols,
      arithmetic: arithmeticOf(dtype),
    },
    result: singleOutput(addTo ?? out),
  }
}

export function planSwiglu<X extends TensorInput>(
  x: X,
  weights: SwigluWeights,
  options?: NormOptions,
): Plan<Result<X>> {
  const call = 'kernels.swiglu'
  const values = checkOptions(call, options, normRules)
  const given = (weights ?? {}) as Partial<SwigluWeights>
  const [input, norm] = floats(call, { x, 'weights.norm': given.norm }) as [Source, Source]
  const gate = matrix(call, 'weights.gate', given.gate)
  const up = matrix(call, 'weights.up', given.up)
  const { rows: ffnHidden, cols: hidden } = gate
  expectShape(call, 'weights.norm', norm, [hidden])
  expectShape(call, 'weights.up', up, [ffnHidden, hidden])
  const tokens = rowsIn(call, input, hidden, 'weights.gate')
  const out = outputOf(call, values.out, input, productShape(input, tokens, ffnHidden))
  const inputs = { x: input, 'weights.norm': norm, 'weights.gate': gate, 'weights.up': up }
  expectDistinct(call, values.out, inputs)
  const weightBytes = bytesOf(gate.dtype, ffnHidden * hidden) + bytesOf(up.dtype, ffnHidden * hidden)
  return {
    call,
    op: 'swiglu',
    args: {
      tokens,
      hidden,
      ffnHidden,
      eps: values.eps ?? DEFAULT_EPS,
      x: input.native,
      norm: norm.native,
      gate: gate.native,
      up: up.native,
      out: out.native,
    },
    where: placeOf(call, values, { ...inputs, out: out.target }),
    work: {
      bytes: weightBytes + 4 * (tokens * (hidden + ffnHidden) + hidden),
      written: 4 * tokens * ffnHidden,
      flops: 4 * tokens * hidden * ffnHidden,
      arithmetic: arithmeticOf(gate.dtype),
    },
    result: singleOutput(values.out),
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
  expectDistinct(call, values.out, { table: from })
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
    result: singleOutput(values.out),
  }
}

/** The result of `kernels.quantize`: a resident tensor if the input was one, otherwise the bits. */
export type Quantized<X, D extends DType> = X extends Tensor ? Tensor<D> : DataOf<D>

export function planQuantize<X extends TensorInput, D extends DType>(
  x: X,
  dtype: D,
  options?: KernelOptions,
): Plan<Quantized<X, D>> {
  const call = 'kernels.quantize'
  const values = checkOptions(call, options, kernelRules)
  const type = checkArgument(call, 'dtype', dtype, oneOf(...QUANTIZABLE_TYPES)) as D
  const [input] = floats(call, { x }) as [Source]
  const { block } = DTYPES[type]
  const cols = input.shape.at(-1)!
  if (cols % block !== 0 || cols === 0) {
    throw wrongShape(call, 'x', `rows of a multiple of ${block} columns for ${type}`, input.shape)
  }
  return {
    call,
    op: 'quantize',
    args: {
      dtype: type,
      rows: input.elements / cols,
      cols,
      x: input.native,
      out: { resident: input.tensor !== undefined, shape: [...input.shape] },
    },
    where: placeOf(call, values, { x: input }),
    work: {
      bytes: 4 * input.elements + bytesOf(type, input.elements),
      written: bytesOf(type, input.elements),
      flops: 3 * input.elements,
      arithmetic: 'f32',
    },
    result: singleOutput(),
  }
}

export function planDequantize<X extends TensorInput>(x: X, options?: OutputOptions): Plan<Result<X>> {
  const call = 'kernels.dequantize'
  const values = checkOptions(call, options, outputRules)
  const input = source(call, 'x', x)
  const out = outputOf(call, values.out, input, input.shape)
  expectDistinct(call, values.out, { x: input })
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
    result: singleOutput(values.out),
  }
}

/**
 * `y = x · Wᵀ`, or `y = addTo + x · Wᵀ`. As in a model, x is first converted to the type that llama.cpp pairs
 * with the weight's: Q8_0, Q8_1 or Q8_K for quantized weights, F16 for F16, BF16 for BF16 (docs/numerics.md).
 *
 * @param x `[tokens, cols]` F32
 * @param weight `[rows, cols]` of any weight type; row r gives output r
 * @param options `out` must not be an input
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
 * The first half of Llama's feed-forward block in one kernel: `SiLU(n · gateᵀ) · (n · upᵀ)`, where `n =
 * RMSNorm(x)` (SwiGLU, Shazeer 2020). Gives the same bits as `rmsNorm`, two calls of `matmul`, and `siluMul`.
 *
 * @param x `[tokens, hidden]` F32
 * @param options `out` must not be an input
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
 * Looks up rows of a table and dequantizes them: `out[i] = table[ids[i]]`.
 *
 * @param table `[vocab, cols]` of any weight type
 * @param ids token ids, each less than vocab
 * @param options `out` must not be the table
 * @returns `[ids.length, cols]` F32
 * @throws (rejects) ERR_INVALID_ARGUMENT (for ids, it names the first bad index), ERR_DISPOSED,
 *   ERR_OUT_OF_MEMORY
 */
export async function embed<T extends HostTensor | Tensor>(
  table: T,
  ids: Uint32Array | readonly number[],
  options?: OutputOptions,
): Promise<Result<T>> {
  return execute(planEmbed(table, ids, options))
}

/**
 * Converts values to another storage type. For F16, BF16, Q8_0, Q8_1 and Q8_K, which activations are
 * converted to, the bits are llama.cpp's. For other types, a simple fit that does not search for the smallest
 * error: good enough for tests, not for models.
 *
 * @param x `[..., cols]` F32, cols a multiple of the type's block size
 * @returns the shape of x, in the block format of the GGUF specification
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
 * Converts values of any storage type to float32, bit for bit as the format defines them (GGUF specification,
 * ggml).
 *
 * @param x `[..., cols]` of any type
 * @param options `out` must not be x
 * @returns the shape of x, F32
 * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_DISPOSED, ERR_OUT_OF_MEMORY
 */
export async function dequantize<X extends TensorInput>(x: X, options?: OutputOptions): Promise<Result<X>> {
  return execute(planDequantize(x, options))
}
