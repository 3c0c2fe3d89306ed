/** How the next token is chosen: the options, and their values as the addon gets them. */

import { randomBytes } from 'node:crypto'
import { invalidArgument } from './errors'
import type { NativeSamplingParams } from './native'
import { addonValues, type OptionsOf, option } from './options'
import { custom, integer, integerOrInfinity, number, type Parsed } from './validate'

/** Additive changes to logits by token id; `-Infinity` forbids a token. */
export type LogitBias =
  | Readonly<Record<number, number>>
  | ReadonlyMap<number, number>
  | ReadonlyArray<readonly [id: number, bias: number]>

/**
 * How the next token is chosen. The stages apply in this order: logit bias, penalties, top-k, typical, top-p,
 * min-p, temperature.
 */
export interface SamplingOptions {
  /**
   * Divides the logits, 0 to 100. Higher values flatten the distribution, lower ones sharpen it; 0 always
   * takes the most likely token. Default: 0.8.
   */
  temperature?: number | undefined
  /** Keep only the k most likely tokens; 0 turns it off. Default: 40. */
  topK?: number | undefined
  /**
   * Keep the smallest set of tokens whose probabilities sum to at least this, 0 to 1; 1 turns it off.
   * Default: 0.95.
   */
  topP?: number | undefined
  /**
   * Drop tokens less likely than this fraction of the most likely one, 0 to 1; 0 turns it off. Default: 0.05.
   */
  minP?: number | undefined
  /**
   * Locally typical sampling: keep the tokens whose surprise is nearest the entropy, until their
   * probabilities sum to at least this, 0 to 1; 1 turns it off. Default: 1.
   */
  typicalP?: number | undefined
  /**
   * Divides the positive logits of tokens in the window and multiplies the negative ones, above 0 and up to
   * 10; 1 turns it off. Default: 1.
   */
  repetitionPenalty?: number | undefined
  /** Subtracted from a token's logit once for each occurrence in the window, -10 to 10. Default: 0. */
  frequencyPenalty?: number | undefined
  /** Subtracted once from the logit of a token that occurs in the window, -10 to 10. Default: 0. */
  presencePenalty?: number | undefined
  /** Number of last tokens, prompt included, that the penalties count; `Infinity` counts all. Default: 64. */
  penaltyWindow?: number | undefined
  /** Added to the logits before all other stages. Default: none. */
  logitBias?: LogitBias | undefined
  /**
   * The same model, prompt, options and seed give the same tokens. An integer from 0 to 2^53 - 1 or a bigint
   * from 0 to 2^64 - 1. Default: random, reported in the result.
   */
  seed?: number | bigint | undefined
  /**
   * Report the log-probability of each token, and those of this many most likely tokens, 0 to 100. They are
   * the model's own, before all stages. Default: none.
   */
  logprobs?: number | undefined
}

const penalty = custom(
  'a number above 0 and up to 10',
  (value) => (typeof value === 'number' && value > 0 && value <= 10 ? value : undefined),
  'number',
)

const seed = custom<number | bigint>(
  'an integer from 0 to 2^53 - 1 or a bigint from 0 to 2^64 - 1',
  (value) => {
    if (typeof value === 'bigint') return value >= 0n && value < 1n << 64n ? value : undefined
    return Number.isSafeInteger(value) && (value as number) >= 0 ? (value as number) : undefined
  },
  'seed',
)

/** Pairs whose elements `checkBias` checks. */
const bias = custom<Array<[number, number]>>('an object, a Map or an array of [id, bias]', (value) => {
  if (value instanceof Map) return [...value]
  if (Array.isArray(value)) {
    return value.every((pair) => Array.isArray(pair) && pair.length === 2) ? value : undefined
  }
  if (typeof value !== 'object' || value === null) return undefined
  return Object.entries(value).map(([key, added]) => [
    (/^\d+$/.test(key) ? Number(key) : key) as number,
    added,
  ])
})

export const samplingOptions = {
  temperature: option(number(0, 100), {
    default: 0.8,
    flag: { short: 't', help: 'higher is more varied; 0 always takes the most likely token' },
  }),
  topK: option(integer(0), {
    default: 40,
    flag: { help: 'keep only the k most likely tokens; 0 turns it off' },
  }),
  topP: option(number(0, 1), {
    default: 0.95,
    flag: { help: 'keep the most likely tokens up to this total probability; 1 turns it off' },
  }),
  minP: option(number(0, 1), {
    default: 0.05,
    flag: { help: 'drop tokens below this fraction of the most likely one; 0 turns it off' },
  }),
  typicalP: option(number(0, 1), {
    default: 1,
    flag: { help: 'locally typical sampling; 1 turns it off' },
  }),
  repetitionPenalty: option(penalty, {
    default: 1,
    flag: { help: 'makes recent tokens less likely; 1 turns it off' },
  }),
  frequencyPenalty: option(number(-10, 10), {
    default: 0,
    flag: { help: 'subtracted from a logit for each recent occurrence' },
  }),
  presencePenalty: option(number(-10, 10), {
    default: 0,
    flag: { help: 'subtracted from the logit of every recent token' },
  }),
  penaltyWindow: option(integerOrInfinity(0), { default: 64 }),
  logitBias: bias,
  seed: option(seed, {
    defaultText: 'random, reported in the result',
    flag: { short: 's', help: 'the same seed gives the same text' },
  }),
  logprobs: option(integer(0, 100), { default: -1, defaultText: 'none' }),
} satisfies OptionsOf<SamplingOptions>

function checkBias(
  call: string,
  entries: ReadonlyArray<readonly [unknown, unknown]>,
  vocabSize: number,
): Array<[number, number]> {
  const details = { option: 'logitBias' }
  return entries.map(([id, added]) => {
    if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id >= vocabSize) {
      const expected = `a token id from 0 to ${vocabSize - 1}`
      throw invalidArgument(call, "an id of option 'logitBias'", expected, id, details)
    }
    if (typeof added !== 'number' || Number.isNaN(added) || added === Infinity) {
      const expected = 'a finite number or -Infinity'
      throw invalidArgument(call, `option 'logitBias' of token ${id}`, expected, added, details)
    }
    return [id, added]
  })
}

/** A random seed that a plain number holds exactly, so that it survives JSON. */
export function randomSeed(): number {
  return randomBytes(6).readUIntBE(0, 6)
}

/** The checked values as the addon gets them, and the seed as the result reports it. */
export function samplingParams(
  call: string,
  values: Parsed<typeof samplingOptions>,
  vocabSize: number,
): { params: NativeSamplingParams; seed: number | bigint } {
  const chosen = values.seed ?? randomSeed()
  const params = {
    ...addonValues(samplingOptions, values),
    logitBias: checkBias(call, values.logitBias ?? [], vocabSize),
    seed: BigInt(chosen),
  }
  return { params, seed: chosen }
}
