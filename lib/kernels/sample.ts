/** Choosing tokens from logits. */

import type { SamplingOptions } from '../sampling'
import { samplingOptions } from '../sampling'
import { checkOptions, type Rules } from '../validate'
import { execute, type KernelOptions, kernelRules, type Plan, placeOf } from './call'
import { nonNegativeIntegers } from './rope'
import { columnsOf, floats, type Source, type TensorInput, wrong } from './tensor'

/** The filters of generation. By default all of them are off and the temperature is 0. */
export interface SampleOptions
  extends KernelOptions,
    Pick<SamplingOptions, 'temperature' | 'topK' | 'topP' | 'minP' | 'typicalP' | 'seed'> {
  /**
   * `[rows]`: the position of each token to choose. Seed and position determine the random bits. Default: all
   * 0.
   */
  positions?: ArrayLike<number> | undefined
}

export interface SampleResult {
  /** `[rows]`. */
  tokens: Uint32Array
  /**
   * `[rows]`: ln Σ e^logit, the normalizer of log-probabilities; NaN if a logit of the row is NaN or
   * Infinity.
   */
  logSumExp: Float32Array
}

const { temperature, topK, topP, minP, typicalP, seed } = samplingOptions
const rules = { ...kernelRules, temperature, topK, topP, minP, typicalP, seed } satisfies Rules

export function planSample(logits: TensorInput, options?: SampleOptions): Plan<SampleResult> {
  const call = 'kernels.sample'
  const { positions, ...rest } = options ?? {}
  const values = checkOptions(call, rest, rules)
  const [input] = floats(call, { logits }) as [Source]
  const cols = columnsOf(call, 'logits', input, 'logit')
  const rows = input.elements / cols
  const name = "option 'positions'"
  const checked = positions === undefined ? new Int32Array(rows) : nonNegativeIntegers(call, name, positions)
  if (checked.length !== rows) throw wrong(call, name, `one for each of ${rows} rows`, `${checked.length}`)
  return {
    call,
    op: 'sample',
    args: {
      rows,
      cols,
      logits: input.native,
      positions: checked,
      seed: BigInt(values.seed ?? 0),
      temperature: values.temperature ?? 0,
      topK: values.topK ?? 0,
      topP: values.topP ?? 1,
      minP: values.minP ?? 0,
      typicalP: values.typicalP ?? 1,
    },
    where: placeOf(call, values, { logits: input }),
    work: { bytes: 4 * input.elements, written: 0, flops: 4 * input.elements, arithmetic: 'f32' },
    result: ({ ids, floats: sums }) => ({ tokens: ids, logSumExp: sums }),
  }
}

/**
 * Chooses a token from each row of logits. At temperature 0 it is the one with the largest logit, and the
 * lowest id among equals. Above 0 it is drawn at random after the filters; the same seed and position give
 * the same token (Philox; docs/numerics.md).
 *
 * @param logits `[rows, vocab]`, or one row, F32
 * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_DISPOSED; ERR_INVALID_MODEL when the temperature is above 0 and
 *   a logit is NaN or Infinity
 */
export async function sample(logits: TensorInput, options?: SampleOptions): Promise<SampleResult> {
  return execute(planSample(logits, options))
}
