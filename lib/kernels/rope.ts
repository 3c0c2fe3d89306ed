/** The options of rotary position embedding, and the table of frequencies that kernels take. */

import { addon } from '../binding'
import { show } from '../errors'
import { callNative } from '../tasks'
import { checkOptions, custom, integer, number, oneOf, type Rules } from '../validate'
import { type Source, wrong, wrongShape } from './tensor'

/**
 * How RoPE's frequencies are scaled for a longer context.
 *
 * - `linear`: divides every frequency by `factor` (position interpolation, Chen et al. 2023).
 * - `llama3`: divides the frequencies of long wavelengths by `factor`, keeps those of short ones, and blends
 *   between (Llama 3.1; Meta's `apply_scaling`).
 * - `yarn`: blends from the original to the divided frequencies over the dimensions that make `betaFast`
 *   (default 32) to `betaSlow` (default 1) rotations within the original context, and multiplies cosine and
 *   sine by 0.1 ln(factor) + 1 (Peng et al. 2023, equations 17 and 22).
 */
export type RopeScaling =
  | { type: 'none' }
  | { type: 'linear'; factor: number }
  | {
      type: 'llama3'
      factor: number
      lowFreqFactor: number
      highFreqFactor: number
      originalContextLength: number
    }
  | {
      type: 'yarn'
      factor: number
      originalContextLength: number
      betaFast?: number | undefined
      betaSlow?: number | undefined
    }

/** Rotary position embedding (Su et al. 2021): the frequencies, and the layout of the rotated pairs. */
export interface RopeOptions {
  /** Pair i rotates by base^(-2i / ropeDim) radians per position. Default 10000. */
  base?: number | undefined
  /** How many of a head's first dimensions are rotated; even, at most the head size. Default: all. */
  ropeDim?: number | undefined
  /**
   * The dimensions of pair i: `'interleaved'` is (2i, 2i + 1), as in GGUF files of Llama; `'half'` is
   * (i, i + ropeDim / 2). Default: `'interleaved'`.
   */
  layout?: 'interleaved' | 'half' | undefined
  scaling?: RopeScaling | undefined
  /** `[ropeDim / 2]`: divisors of the frequencies, like the tensor `rope_freqs.weight` of a GGUF file. */
  frequencyFactors?: Float32Array | undefined
}

const SCALINGS: Record<string, Rules> = {
  none: {},
  linear: { factor: number(1e-3, 1e6) },
  llama3: {
    factor: number(1e-3, 1e6),
    lowFreqFactor: number(1e-3, 1e6),
    highFreqFactor: number(1e-3, 1e6),
    originalContextLength: number(1, 2 ** 31),
  },
  yarn: {
    factor: number(1e-3, 1e6),
    originalContextLength: number(1, 2 ** 31),
    betaFast: number(1e-3, 1e6),
    betaSlow: number(1e-3, 1e6),
  },
}
const OPTIONAL = ['betaFast', 'betaSlow']

export const ropeRules = {
  base: number(1, 1e12),
  ropeDim: integer(2, 65536),
  layout: oneOf('interleaved', 'half'),
  scaling: custom<RopeScaling>(`{ type: '${Object.keys(SCALINGS).join("' | '")}', ... }`, (value) =>
    typeof value === 'object' &&
    value !== null &&
    Object.hasOwn(SCALINGS, String((value as RopeScaling).type))
      ? (value as RopeScaling)
      : undefined,
  ),
  frequencyFactors: custom<Float32Array>('a Float32Array', (value) =>
    Object.prototype.toString.call(value) === '[object Float32Array]' ? (value as Float32Array) : undefined,
  ),
} satisfies Rules

export interface RopeArgs {
  halfLayout: boolean
  /** `[ropeDim / 2]`, radians per position. */
  frequencies: Float32Array
  /** Multiplies cosine and sine. */
  magnitude: number
}

/**
 * Checks the options and computes the frequencies, for heads of `headDim`.
 * @throws ERR_INVALID_ARGUMENT
 */
export function ropeArgs(call: string, options: RopeOptions, headDim: number): RopeArgs {
  const { base = 10000, ropeDim = headDim, layout = 'interleaved', scaling, frequencyFactors } = options
  if (ropeDim % 2 !== 0 || ropeDim > headDim) {
    const expected = `an even number of at most the head size ${headDim}`
    throw wrong(call, "option 'ropeDim'", expected, String(ropeDim))
  }
  if (frequencyFactors && frequencyFactors.length !== ropeDim / 2) {
    const found = String(frequencyFactors.length)
    throw wrong(call, "option 'frequencyFactors'", `of ${ropeDim / 2} elements`, found)
  }
  const { type, values } = scalingValues(call, scaling ?? { type: 'none' })
  const { frequencies, magnitude } = callNative(() =>
    addon().kernels.ropeFrequencies({
      base,
      dim: ropeDim,
      scaling: type,
      factor: values.factor ?? 1,
      lowFreqFactor: values.lowFreqFactor ?? 1,
      highFreqFactor: values.highFreqFactor ?? 4,
      originalContextLength: values.originalContextLength ?? 1,
      betaFast: values.betaFast ?? 32,
      betaSlow: values.betaSlow ?? 1,
      factors: frequencyFactors ?? null,
    }),
  )
  return { halfLayout: layout === 'half', frequencies, magnitude }
}

/** Checks the numbers of a scaling whose `type` is known. */
function scalingValues(
  call: string,
  { type, ...numbers }: RopeScaling,
): { type: RopeScaling['type']; values: Record<string, number> } {
  const rules = SCALINGS[type]!
  const values = checkOptions(`${call}, option 'scaling'`, numbers, rules) as Record<string, number>
  for (const name of Object.keys(rules)) {
    if (values[name] === undefined && !OPTIONAL.includes(name)) {
      throw wrong(call, `option 'scaling.${name}'`, rules[name]!.expected, show(undefined))
    }
  }
  const { lowFreqFactor, highFreqFactor } = values
  if (type === 'llama3' && !(highFreqFactor! > lowFreqFactor!)) {
    const expected = `more than lowFreqFactor ${lowFreqFactor}`
    throw wrong(call, "option 'scaling.highFreqFactor'", expected, String(highFreqFactor))
  }
  return { type, values }
}

/**
 * Copies an array of positions or page numbers.
 * @throws ERR_INVALID_ARGUMENT
 */
export function nonNegativeIntegers(call: string, name: string, values: unknown): Int32Array {
  const isList = Array.isArray(values) || (ArrayBuffer.isView(values) && !(values instanceof DataView))
  if (!isList) throw wrong(call, name, 'an array of integers', show(values))
  const list = values as ArrayLike<number>
  const checked = new Int32Array(list.length)
  for (let i = 0; i < checked.length; i++) {
    const value = list[i]!
    if (!isNonNegativeInt32(value)) {
      throw wrong(call, `${name}[${i}]`, 'an integer from 0 to 2147483647', show(value))
    }
    checked[i] = value
  }
  return checked
}

export function isNonNegativeInt32(value: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= 2 ** 31 - 1
}

/** The heads of an input `[tokens, heads · headDim]`. */
export function headsOf(call: string, name: string, x: Source, tokens: number, headDim: number): number {
  const heads = x.elements / (tokens * headDim)
  if (tokens > 0 && Number.isInteger(heads) && heads > 0) return heads
  const expected = `of ${tokens} positions times a whole number of heads of ${headDim}`
  throw wrongShape(call, name, expected, x.shape)
}
