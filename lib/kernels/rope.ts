import { addon } from '../binding'
import { show } from '../errors'
import { callNative } from '../tasks'
import { checkOptions, custom, integer, number, oneOf, type Rules } from '../validate'
import { type Source, wrong } from './tensor'

/**
 * How the frequencies are stretched for longer contexts.
 *
 * - `linear`: all divided by `factor` (position interpolation, Chen et al. 2023).
 * - `llama3`: long waves divided by `factor`, short ones left, those between blended (Llama 3.1; Meta's
 *   `apply_scaling`).
 * - `yarn`: a ramp over dimensions between `betaFast` (32) and `betaSlow` (1) rotations within the original context,
 *   and cosine and sine times 0.1 ln(factor) + 1 (Peng et al. 2023, equations 17, 22).
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

/** Rotary position embedding (Su et al. 2021): the frequencies, and which dimensions make a pair. */
export interface RopeOptions {
  /** The base of the frequencies base^(-2i / ropeDim). Default 10000. */
  base?: number | undefined
  /** Leading dimensions of a head that are rotated: even, at most the head's. Default: all. */
  ropeDim?: number | undefined
  /** Pairs: `'interleaved'` (2i, 2i + 1), as in GGUF files of Llama; or `'half'` (i, i + ropeDim / 2). */
  layout?: 'interleaved' | 'half' | undefined
  scaling?: RopeScaling | undefined
  /** `[ropeDim / 2]`: each frequency is divided by its own, as by a file's tensor `rope_freqs.weight`. */
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
  scaling: custom<RopeScaling>(
    '{ type: ' +
      Object.keys(SCALINGS)
        .map((t) => `'${t}'`)
        .join(' | ') +
      ', ... }',
    (value) =>
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
  frequencies: Float32Array
  magnitude: number
}

/**
 * The table that the addon takes, for heads of `headDim`.
 * @throws ERR_INVALID_ARGUMENT
 */
export function ropeArgs(call: string, options: RopeOptions, headDim: number): RopeArgs {
  const { base = 10000, ropeDim = headDim, layout = 'interleaved', scaling, frequencyFactors } = options
  if (ropeDim % 2 !== 0 || ropeDim > headDim) {
    throw wrong(
      call,
      "option 'ropeDim'",
      `an even number of at most the head size ${headDim}`,
      String(ropeDim),
    )
  }
  if (frequencyFactors && frequencyFactors.length !== ropeDim / 2) {
    throw wrong(
      call,
      "option 'frequencyFactors'",
      `of ${ropeDim / 2} elements`,
      String(frequencyFactors.length),
    )
  }
  const { type = 'none', ...values } = (scaling ?? {}) as Record<string, unknown> & {
    type?: RopeScaling['type']
  }
  const rules = SCALINGS[type]!
  const checked = checkOptions(`${call}, option 'scaling'`, values, rules) as Record<string, number>
  for (const name of Object.keys(rules)) {
    if (checked[name] === undefined && !OPTIONAL.includes(name)) {
      throw wrong(call, `option 'scaling.${name}'`, rules[name]!.expected, show(undefined))
    }
  }
  if (type === 'llama3' && !(checked.highFreqFactor! > checked.lowFreqFactor!)) {
    throw wrong(
      call,
      "option 'scaling.highFreqFactor'",
      `more than lowFreqFactor ${checked.lowFreqFactor}`,
      String(checked.highFreqFactor),
    )
  }
  const { frequencies, magnitude } = callNative(() =>
    addon().kernels.ropeFrequencies({
      base,
      dim: ropeDim,
      scaling: type,
      factor: checked.factor ?? 1,
      lowFreqFactor: checked.lowFreqFactor ?? 1,
      highFreqFactor: checked.highFreqFactor ?? 4,
      originalContextLength: checked.originalContextLength ?? 1,
      betaFast: checked.betaFast ?? 32,
      betaSlow: checked.betaSlow ?? 1,
      factors: frequencyFactors ?? null,
    }),
  )
  return { halfLayout: layout === 'half', frequencies, magnitude }
}

/** Positions as the addon takes them. */
export function checkPositions(call: string, name: string, positions: unknown): Int32Array {
  const list = positions as ArrayLike<number>
  const isList =
    Array.isArray(positions) || (ArrayBuffer.isView(positions) && !(positions instanceof DataView))
  if (!isList) throw wrong(call, name, 'an array of positions', show(positions))
  const checked = new Int32Array(list.length)
  for (let i = 0; i < checked.length; i++) {
    const value = list[i]!
    if (!Number.isInteger(value) || value < 0 || value > 2 ** 31 - 1) {
      throw wrong(call, `${name}[${i}]`, 'an integer from 0 to 2147483647', show(value))
    }
    checked[i] = value
  }
  return checked
}

/** An input of whole heads. */
export function headsOf(call: string, name: string, x: Source, tokens: number, headDim: number): number {
  const heads = x.elements / (tokens * headDim)
  if (tokens > 0 && Number.isInteger(heads) && heads > 0) return heads
  throw wrong(
    call,
    name,
    `of ${tokens} positions times a whole number of heads of ${headDim}`,
    `shape [${x.shape.join(', ')}]`,
  )
}
