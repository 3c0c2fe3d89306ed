import { randomBytes } from 'node:crypto'
import { invalidArgument } from './errors'
import type { NativeSamplingParams } from './native'
import { custom, integer, integerOrInfinity, number, type Rules } from './validate'

/** Additive changes to logits by token id; `-Infinity` forbids a token. */
export type LogitBias =
  | Readonly<Record<number, number>>
  | ReadonlyMap<number, number>
  | ReadonlyArray<readonly [id: number, bias: number]>

/** How the next token is chosen. The filters apply in this order: penalties and bias, top-k, typical, top-p, min-p, temperature. */
export interface SamplingOptions {
  /** Sharpness of the choice, 0 to 100; 0 always takes the most likely token. Default 0.8. */
  temperature?: number | undefined
  /** Keep only the k most likely tokens; 0: off. Default 40. */
  topK?: number | undefined
  /** Keep the smallest set of tokens whose probabilities reach this sum, 0 to 1; 1: off. Default 0.95. */
  topP?: number | undefined
  /** Drop tokens less likely than this share of the most likely one, 0 to 1; 0: off. Default 0.05. */
  minP?: number | undefined
  /** Locally typical sampling: keep this mass of tokens nearest the expected surprise, 0 to 1; 1: off. Default 1. */
  typicalP?: number | undefined
  /** Divides (or multiplies) the logits of tokens in the window, above 0 and up to 10; 1: off. Default 1. */
  repetitionPenalty?: number | undefined
  /** Subtracted from a logit for each occurrence in the window, -10 to 10. Default 0. */
  frequencyPenalty?: number | undefined
  /** Subtracted once from the logit of a token that occurs in the window, -10 to 10. Default 0. */
  presencePenalty?: number | undefined
  /** How many last tokens, prompt included, the penalties look at; `Infinity`: all. Default 64. */
  penaltyWindow?: number | undefined
  /** Added to the logits before anything else. Default: none. */
  logitBias?: LogitBias | undefined
  /**
   * Same model, prompt, options and seed: same tokens. An integer from 0 to 2^53 - 1 or a bigint from 0 to 2^64 - 1.
   * Default: drawn at random and reported in the result.
   */
  seed?: number | bigint | undefined
  /**
   * Report the log-probability of each token and of this many most likely alternatives, 0 to 100; from the same pass,
   * before temperature and filters. Default: none reported.
   */
  logprobs?: number | undefined
}

const unit = (note: string) => number(0, 1, note)

export const samplingRules = {
  temperature: number(0, 100),
  topK: integer(0, 2 ** 31 - 1),
  topP: unit(''),
  minP: unit(''),
  typicalP: unit(''),
  repetitionPenalty: custom('a number above 0 and up to 10', (value) =>
    typeof value === 'number' && value > 0 && value <= 10 ? value : undefined,
  ),
  frequencyPenalty: number(-10, 10),
  presencePenalty: number(-10, 10),
  penaltyWindow: integerOrInfinity(0),
  logitBias: custom('an object, a Map or an array of [id, bias]', biasEntries),
  seed: custom('an integer from 0 to 2^53 - 1 or a bigint from 0 to 2^64 - 1', (value) => {
    if (typeof value === 'bigint') return value >= 0n && value < 1n << 64n ? value : undefined
    return Number.isSafeInteger(value) && (value as number) >= 0 ? (value as number) : undefined
  }),
  logprobs: integer(0, 100),
} satisfies Rules

type SamplingValues = { [K in keyof typeof samplingRules]?: ReturnType<(typeof samplingRules)[K]['parse']> }

function biasEntries(value: unknown): Array<[unknown, unknown]> | undefined {
  if (value instanceof Map) return [...value]
  if (Array.isArray(value))
    return value.every((pair) => Array.isArray(pair) && pair.length === 2) ? value : undefined
  if (typeof value !== 'object' || value === null) return undefined
  return Object.entries(value).map(([key, bias]) => [/^\d+$/.test(key) ? Number(key) : key, bias])
}

function checkBias(
  call: string,
  entries: Array<[unknown, unknown]>,
  vocabSize: number,
): Array<[number, number]> {
  return entries.map(([id, bias]) => {
    if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id >= vocabSize) {
      throw invalidArgument(
        call,
        "an id of option 'logitBias'",
        `a token id from 0 to ${vocabSize - 1}`,
        id,
        {
          option: 'logitBias',
        },
      )
    }
    if (typeof bias !== 'number' || Number.isNaN(bias) || bias === Infinity) {
      throw invalidArgument(call, `option 'logitBias' of token ${id}`, 'a finite number or -Infinity', bias, {
        option: 'logitBias',
      })
    }
    return [id, bias]
  })
}

/** A seed that a plain number holds exactly, so that a result's seed can be written down and given back. */
export function randomSeed(): number {
  return randomBytes(6).readUIntBE(0, 6)
}

/** Checked values and defaults as the addon takes them, and the seed as the result reports it. */
export function samplingParams(
  call: string,
  values: SamplingValues,
  vocabSize: number,
): { params: NativeSamplingParams; seed: number | bigint } {
  const seed = values.seed ?? randomSeed()
  const params: NativeSamplingParams = {
    temperature: values.temperature ?? 0.8,
    topK: values.topK ?? 40,
    topP: values.topP ?? 0.95,
    minP: values.minP ?? 0.05,
    typicalP: values.typicalP ?? 1,
    repetitionPenalty: values.repetitionPenalty ?? 1,
    frequencyPenalty: values.frequencyPenalty ?? 0,
    presencePenalty: values.presencePenalty ?? 0,
    penaltyWindow: values.penaltyWindow ?? 64,
    logitBias: checkBias(call, values.logitBias ?? [], vocabSize),
    seed: BigInt(seed),
    logprobs: values.logprobs ?? -1,
  }
  return { params, seed }
}
