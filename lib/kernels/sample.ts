import type { SamplingOptions } from '../sampling'
import { samplingOptions } from '../sampling'
import { checkOptions, type Rules } from '../validate'
import { execute, type KernelOptions, kernelRules, type Plan, placeOf } from './call'
import { floats } from './elementwise'
import { checkPositions } from './rope'
import { type Source, type TensorInput, wrong } from './tensor'

/** The filters are those of generation, and all off unless asked for; temperature is 0. */
export interface SampleOptions
  extends KernelOptions,
    Pick<SamplingOptions, 'temperature' | 'topK' | 'topP' | 'minP' | 'typicalP' | 'seed'> {
  /** Of the token to be chosen in each row: with the seed, the key of the random bits. Default: 0. */
  positions?: ArrayLike<number> | undefined
}

export interface SampleResult {
  /** One a row. */
  tokens: Uint32Array
  /** ln Σ e^logit of each row, which log-probabilities need; NaN when a logit is NaN or Infinity. */
  logSumExp: Float32Array
}

const { temperature, topK, topP, minP, typicalP, seed } = samplingOptions
const rules = { ...kernelRules, temperature, topK, topP, minP, typicalP, seed } satisfies Rules

export function planSample(logits: TensorInput, options?: SampleOptions): Plan<SampleResult> {
  const call = 'kernels.sample'
  const { positions, ...rest } = options ?? {}
  const values = checkOptions(call, rest, rules)
  const [input] = floats(call, { logits }) as [Source]
  const cols = input.shape.at(-1)!
  if (cols < 1) throw wrong(call, 'logits', 'rows of at least one logit', `shape [${input.shape.join(', ')}]`)
  const rows = input.elements / cols
  const at =
    positions === undefined ? new Int32Array(rows) : checkPositions(call, "option 'positions'", positions)
  if (at.length !== rows)
    throw wrong(call, "option 'positions'", `one for each of ${rows} rows`, `${at.length}`)
  return {
    call,
    op: 'sample',
    args: {
      ...{ rows, cols, logits: input.native, positions: at, seed: BigInt(values.seed ?? 0) },
      ...{ temperature: values.temperature ?? 0, topK: values.topK ?? 0, topP: values.topP ?? 1 },
      ...{ minP: values.minP ?? 0, typicalP: values.typicalP ?? 1 },
    },
    where: placeOf(call, values, { logits: input }),
    work: { bytes: 4 * input.elements, written: 0, flops: 4 * input.elements, arithmetic: 'f32' },
    result: ({ ids, floats: sums }) => ({ tokens: ids, logSumExp: sums }),
  }
}

/**
 * Chooses a token in each row of logits: the greatest, the lowest id among equals; with a `temperature` above 0 a
 * random one, after the filters, the same for the same seed and position (Philox; docs/numerics.md).
 *
 * @param logits `[rows, vocab]`, or one row, F32
 * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_DISPOSED; ERR_INVALID_MODEL when a logit is NaN or Infinity and the
 *   temperature above 0
 */
export async function sample(logits: TensorInput, options?: SampleOptions): Promise<SampleResult> {
  return execute(planSample(logits, options))
}
