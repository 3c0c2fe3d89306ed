/** Kernels that pass over rows: normalisation, rotation, activation, softmax. */

import { checkOptions, integer, number, type Rules } from '../validate'
import {
  execute,
  expectApart,
  type OutputOptions,
  outputOf,
  outputRules,
  type Plan,
  placeOf,
  resultOf,
} from './call'
import { elementsOf } from './dtypes'
import { checkPositions, headsOf, type RopeOptions, ropeArgs, ropeRules } from './rope'
import {
  expectFloats,
  expectShape,
  type Result,
  type Source,
  source,
  Tensor,
  type TensorInput,
  wrong,
} from './tensor'

export interface NormOptions extends OutputOptions {
  /** Added to the mean of the squares. Default 1e-5. */
  eps?: number | undefined
}

/** Options of `kernels.rope`. */
export interface RopeKernelOptions extends OutputOptions, RopeOptions {
  /** Dimensions of a head; even. */
  headDim: number
  /** The position of each token, `[tokens]`. */
  positions: ArrayLike<number>
}

const eps = number(0, 1e30)
const normRules = { ...outputRules, eps } satisfies Rules
const addNormRules = { ...normRules } satisfies Rules
const ropeKernelRules = { ...outputRules, ...ropeRules, headDim: integer(2, 65536) } satisfies Rules

/** Float inputs by their names. */
export function floats(call: string, inputs: Record<string, unknown>): Source[] {
  return Object.entries(inputs).map(([name, value]) => {
    const found = source(call, name, value)
    expectFloats(call, name, found)
    return found
  })
}

/** A norm's weight gives the columns; x is whole rows of them. */
function rowsOf(call: string, x: Source, weight: Source): { rows: number; cols: number } {
  const cols = weight.elements
  if (cols > 0 && x.elements % cols === 0 && (x.shape.length === 1 || x.shape.at(-1) === cols)) {
    return { rows: x.elements / cols, cols }
  }
  throw wrong(call, 'x', `rows of ${cols} columns, as the weight has`, `shape [${x.shape.join(', ')}]`)
}

export function planRmsNorm<X extends TensorInput>(
  x: X,
  weight: TensorInput,
  options?: NormOptions,
): Plan<Result<X>> {
  const call = 'kernels.rmsNorm'
  const values = checkOptions(call, options, normRules)
  const [input, scale] = floats(call, { x, weight }) as [Source, Source]
  const { rows, cols } = rowsOf(call, input, scale)
  const out = outputOf(call, values.out, input, input.shape)
  expectApart(call, values.out, { weight: scale })
  return {
    call,
    op: 'rmsNorm',
    args: { rows, cols, eps: values.eps ?? 1e-5, x: input.native, weight: scale.native, out: out.native },
    where: placeOf(call, values, { x: input, weight: scale, out: out.target }),
    work: {
      bytes: 4 * (2 * rows + 1) * cols,
      written: 4 * rows * cols,
      flops: 4 * rows * cols,
      arithmetic: 'f32',
    },
    result: ({ outputs }) => resultOf(outputs[0]!, values.out),
  }
}

/** The sum `x + y`, and its norm. */
export interface AddRmsNormResult<X> {
  sum: Result<X>
  out: Result<X>
}

export function planAddRmsNorm<X extends TensorInput>(
  x: X,
  y: TensorInput,
  weight: TensorInput,
  options?: NormOptions,
): Plan<AddRmsNormResult<X>> {
  const call = 'kernels.addRmsNorm'
  const values = checkOptions(call, options, addNormRules)
  const [input, other, scale] = floats(call, { x, y, weight }) as [Source, Source, Source]
  const { rows, cols } = rowsOf(call, input, scale)
  expectShape(call, 'y', other, input.shape)
  if (input.dtype !== 'F32') throw wrong(call, 'x.dtype', 'F32, since x becomes the sum', input.dtype)
  if (x instanceof Tensor) expectApart(call, x as Tensor, { y: other, weight: scale })
  const out = outputOf(call, values.out, input, input.shape)
  expectApart(call, values.out, { x: input, y: other, weight: scale })
  return {
    call,
    op: 'addRmsNorm',
    args: {
      ...{ rows, cols, eps: values.eps ?? 1e-5 },
      ...{ x: input.native, y: other.native, weight: scale.native, out: out.native },
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
  if (values.headDim === undefined)
    throw wrong(call, "option 'headDim'", ropeKernelRules.headDim.expected, 'undefined')
  const { headDim } = values
  const at = checkPositions(call, "option 'positions'", positions)
  const heads = headsOf(call, 'x', input, at.length, headDim)
  const table = ropeArgs(call, values, headDim)
  const out = outputOf(call, values.out, input, input.shape)
  return {
    call,
    op: 'rope',
    args: { ...table, heads, headDim, positions: at, x: input.native, out: out.native },
    where: placeOf(call, values, { x: input, out: out.target }),
    work: {
      bytes: 8 * input.elements + 8 * at.length * table.frequencies.length,
      written: 4 * input.elements,
      flops: 6 * at.length * heads * table.frequencies.length,
      arithmetic: 'f32',
    },
    result: ({ outputs }) => resultOf(outputs[0]!, values.out),
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
    result: ({ outputs }) => resultOf(outputs[0]!, values.out),
  }
}

export function planSoftmax<X extends TensorInput>(x: X, options?: OutputOptions): Plan<Result<X>> {
  const call = 'kernels.softmax'
  const values = checkOptions(call, options, outputRules)
  const [input] = floats(call, { x }) as [Source]
  const cols = input.shape.at(-1)!
  if (cols < 1) throw wrong(call, 'x', 'rows of at least one column', `shape [${input.shape.join(', ')}]`)
  const out = outputOf(call, values.out, input, input.shape)
  const n = elementsOf(input.shape)
  return {
    call,
    op: 'softmax',
    args: { rows: n / cols, cols, x: input.native, out: out.native },
    where: placeOf(call, values, { x: input, out: out.target }),
    work: { bytes: 8 * n, written: 4 * n, flops: 5 * n, arithmetic: 'f32' },
    result: ({ outputs }) => resultOf(outputs[0]!, values.out),
  }
}

/**
 * RMSNorm of each row: `out = x / sqrt(mean(x²) + eps) · weight` (Zhang & Sennrich 2019).
 *
 * @param x `[..., cols]` F32 (or F16, BF16: converted first)
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
 * A residual addition and the norm after it: `sum = x + y`, `out = RMSNorm(sum)`. A resident `x` becomes the sum; a
 * plain array stays as it is.
 *
 * @param x `[..., cols]` F32
 * @param y as x
 * @param weight `[cols]`
 * @param options `out` is none of the inputs
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
 * Rotary position embedding (Su et al. 2021): each pair (a, b) of a head's leading `ropeDim` dimensions becomes
 * (a cos θ - b sin θ, a sin θ + b cos θ), θ = position · frequency.
 *
 * @param x `[tokens, heads · headDim]` F32, tokens as `positions` has
 * @param options `out` may be `x`
 * @returns as x
 * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_DISPOSED, ERR_OUT_OF_MEMORY
 */
export async function rope<X extends TensorInput>(x: X, options: RopeKernelOptions): Promise<Result<X>> {
  return execute(planRope(x, options))
}

/**
 * `SiLU(gate) · up`, the activation of SwiGLU (Shazeer 2020), with SiLU(g) = g / (1 + e^-g); a gate below about -88.4 gives 0,
 * where the value is less than 4e-37 of `up`.
 *
 * @param gate any shape, F32
 * @param up as gate
 * @param options `out` may be either
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
 * Softmax of each row: `e^(x - max) / sum`. -Infinity gives 0; a NaN or an Infinity makes its row NaN.
 *
 * @param x `[..., cols]` F32
 * @param options `out` may be `x`
 * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_DISPOSED, ERR_OUT_OF_MEMORY
 */
export async function softmax<X extends TensorInput>(x: X, options?: OutputOptions): Promise<Result<X>> {
  return execute(planSoftmax(x, options))
}
