/** Kernels that work row by row: normalization, rotation, activation, softmax. */

import { checkOptions, integer, number, type Rules } from '../validate'
import {
  execute,
  expectDistinct,
  type OutputOptions,
  outputOf,
  outputRules,
  type Plan,
  placeOf,
  resultOf,
  singleOutput,
} from './call'
import { headsOf, nonNegativeIntegers, type RopeOptions, ropeArgs, ropeRules } from './rope'
import {
  columnsOf,
  expectShape,
  floats,
  type Result,
  rowsIn,
  type Source,
  Tensor,
  type TensorInput,
  wrong,
} from './tensor'

export interface NormOptions extends OutputOptions {
  /** Added to the mean square. Default 1e-5. */
  eps?: number | undefined
}

/** Options of `kernels.rope`. */
export interface RopeKernelOptions extends OutputOptions, RopeOptions {
  /** Dimensions per head; even unless `ropeDim` is given. */
  headDim: number
  /** The position of each token, `[tokens]`. */
  positions: ArrayLike<number>
}

export const DEFAULT_EPS = 1e-5
export const normRules = { ...outputRules, eps: number(0, 1e30) } satisfies Rules
const ropeKernelRules = { ...outputRules, ...ropeRules, headDim: integer(2, 65536) } satisfies Rules

export function planRmsNorm<X extends TensorInput>(
  x: X,
  weight: TensorInput,
  options?: NormOptions,
): Plan<Result<X>> {
  const call = 'kernels.rmsNorm'
  const values = checkOptions(call, options, normRules)
  const [input, scale] = floats(call, { x, weight }) as [Source, Source]
  const cols = scale.elements
  const rows = rowsIn(call, input, cols, 'the weight')
  const out = outputOf(call, values.out, input, input.shape)
  expectDistinct(call, values.out, { weight: scale })
  return {
    call,
    op: 'rmsNorm',
    args: {
      rows,
      cols,
      eps: values.eps ?? DEFAULT_EPS,
      x: input.native,
      weight: scale.native,
      out: out.native,
    },
    where: placeOf(call, values, { x: input, weight: scale, out: out.target }),
    work: {
      bytes: 4 * (2 * rows + 1) * cols,
      written: 4 * rows * cols,
      flops: 4 * rows * cols,
      arithmetic: 'f32',
    },
    result: singleOutput(values.out),
  }
}

export interface AddRmsNormResult<X> {
  /** `x + y`. */
  sum: Result<X>
  /** `RMSNorm(sum)`. */
  out: Result<X>
}

export function planAddRmsNorm<X extends TensorInput>(
  x: X,
  y: TensorInput,
  weight: TensorInput,
  options?: NormOptions,
): Plan<AddRmsNormResult<X>> {
  const call = 'kernels.addRmsNorm'
  const values = checkOptions(call, options, normRules)
  const [input, other, scale] = floats(call, { x, y, weight }) as [Source, Source, Source]
  const cols = scale.elements
  const rows = rowsIn(call, input, cols, 'the weight')
  expectShape(call, 'y', other, input.shape)
  if (input.dtype !== 'F32') throw wrong(call, 'x.dtype', 'F32, since x becomes the sum', input.dtype)
  if (x instanceof Tensor) expectDistinct(call, x as Tensor, { y: other, weight: scale })
  const out = outputOf(call, values.out, input, input.shape)
  expectDistinct(call, values.out, { x: input, y: other, weight: scale })
  return {
    call,
    op: 'addRmsNorm',
    args: {
      rows,
      cols,
      eps: values.eps ?? DEFAULT_EPS,
      x: input.native,
      y: other.native,
      weight: scale.native,
      out: out.native,
    },
    where: placeOf(call, values, { x: input, y: other, weight: scale, out: out.target }),
    work: {
      bytes: 4 * (4 * rows + 1) * cols,
      written: 8 * rows * cols,
      flops: 5 * rows * cols,
      arithmetic: 'f32',
    },
    result: ({ outputs }) => ({ sum: resultOf(outputs[0]!, x), out: resultOf(outputs[1]!, values.out) }),
  }
}

export function planRope<X extends TensorInput>(x: X, options: RopeKernelOptions): Plan<Result<X>> {
  const call = 'kernels.rope'
  const { positions, ...rest } = options ?? {}
  const values = checkOptions(call, rest, ropeKernelRules)
  const [input] = floats(call, { x }) as [Source]
  const { headDim } = values
  if (headDim === undefined)
    throw wrong(call, "option 'headDim'", ropeKernelRules.headDim.expected, 'undefined')
  const checked = nonNegativeIntegers(call, "option 'positions'", positions)
  const tokens = checked.length
  const heads = headsOf(call, 'x', input, tokens, headDim)
  const table = ropeArgs(call, values, headDim)
  const out = outputOf(call, values.out, input, input.shape)
  return {
    call,
    op: 'rope',
    args: { ...table, heads, headDim, positions: checked, x: input.native, out: out.native },
    where: placeOf(call, values, { x: input, out: out.target }),
    work: {
      bytes: 8 * input.elements + 8 * tokens * table.frequencies.length,
      written: 4 * input.elements,
      flops: 6 * tokens * heads * table.frequencies.length,
      arithmetic: 'f32',
    },
    result: singleOutput(values.out),
  }
}

export function planSiluMul<X extends TensorInput>(
  gate: X,
  up: TensorInput,
  options?: OutputOptions,
): Plan<Result<X>> {
  const call = 'kernels.siluMul'
  const values = checkOptions(call, options, outputRules)
  const [first, second] = floats(call, { gate, up }) as [Source, Source]
  expectShape(call, 'up', second, first.shape)
  const n = first.elements
  const out = outputOf(call, values.out, first, first.shape)
  return {
    call,
    op: 'siluMul',
    args: { n, gate: first.native, up: second.native, out: out.native },
    where: placeOf(call, values, { gate: first, up: second, out: out.target }),
    work: { bytes: 12 * n, written: 4 * n, flops: 5 * n, arithmetic: 'f32' },
    result: singleOutput(values.out),
  }
}

export function planSoftmax<X extends TensorInput>(x: X, options?: OutputOptions): Plan<Result<X>> {
  const call = 'kernels.softmax'
  const values = checkOptions(call, options, outputRules)
  const [input] = floats(call, { x }) as [Source]
  const cols = columnsOf(call, 'x', input, 'column')
  const n = input.elements
  const out = outputOf(call, values.out, input, input.shape)
  return {
    call,
    op: 'softmax',
    args: { rows: n / cols, cols, x: input.native, out: out.native },
    where: placeOf(call, values, { x: input, out: out.target }),
    work: { bytes: 8 * n, written: 4 * n, flops: 5 * n, arithmetic: 'f32' },
    result: singleOutput(values.out),
  }
}

/**
 * RMSNorm of each row: `out = x / sqrt(mean(x²) + eps) · weight` (Zhang & Sennrich 2019).
 *
 * @param x `[..., cols]` F32; F16 and BF16 are converted to F32
 * @param weight `[cols]`
 * @param options `out` may be `x`
 * @returns `[..., cols]` F32
 * @throws (rejects) ERR_INVALID_ARGUMENT for wrong shapes, types or devices; ERR_DISPOSED; ERR_OUT_OF_MEMORY
 */
export async function rmsNorm<X extends TensorInput>(
  x: X,
  weight: TensorInput,
  options?: NormOptions,
): Promise<Result<X>> {
  return execute(planRmsNorm(x, weight, options))
}

/**
 * A residual addition and the norm that follows it: `sum = x + y`, `out = RMSNorm(sum)`. A resident `x` is
 * overwritten with the sum; a host array is left unchanged.
 *
 * @param x `[..., cols]` F32
 * @param y the shape of x
 * @param weight `[cols]`
 * @param options `out` must not be an input
 * @returns `sum` and `out`, both of the shape of x
 * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_DISPOSED, ERR_OUT_OF_MEMORY
 */
export async function addRmsNorm<X extends TensorInput>(
  x: X,
  y: TensorInput,
  weight: TensorInput,
  options?: NormOptions,
): Promise<AddRmsNormResult<X>> {
  return execute(planAddRmsNorm(x, y, weight, options))
}

/**
 * Rotary position embedding (Su et al. 2021): each pair (a, b) of a head's first `ropeDim` dimensions becomes
 * (a cos θ - b sin θ, a sin θ + b cos θ), where θ = position · frequency.
 *
 * @param x `[tokens, heads · headDim]` F32, one token for each of `positions`
 * @param options `out` may be `x`
 * @returns the shape of x, F32
 * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_DISPOSED, ERR_OUT_OF_MEMORY
 */
export async function rope<X extends TensorInput>(x: X, options: RopeKernelOptions): Promise<Result<X>> {
  return execute(planRope(x, options))
}

/**
 * `SiLU(gate) · up`, the activation of SwiGLU (Shazeer 2020), where SiLU(g) = g / (1 + e^-g). A gate below
 * about -88.4 gives 0; the exact value would be less than 4e-37 · `up` in magnitude.
 *
 * @param gate any shape, F32
 * @param up the shape of gate
 * @param options `out` may be either input
 * @returns the shape of gate, F32
 * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_DISPOSED, ERR_OUT_OF_MEMORY
 */
export async function siluMul<X extends TensorInput>(
  gate: X,
  up: TensorInput,
  options?: OutputOptions,
): Promise<Result<X>> {
  return execute(planSiluMul(gate, up, options))
}

/**
 * Softmax of each row: `e^(x - max) / sum`. -Infinity gives 0. A row with a NaN, with an Infinity, or with
 * nothing but -Infinity becomes NaN.
 *
 * @param x `[..., cols]` F32
 * @param options `out` may be `x`
 * @returns the shape of x, F32
 * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_DISPOSED, ERR_OUT_OF_MEMORY
 */
export async function softmax<X extends TensorInput>(x: X, options?: OutputOptions): Promise<Result<X>> {
  return execute(planSoftmax(x, options))
}
