/**
 * The options of `generate` and `chat`. An option is added here, in the README's table and in
 * native/addon/requests.cc.
 */

import { type AdapterOptions, adapterList } from './adapters'
import { type OptionsOf, option } from './options'
import { type SamplingOptions, samplingOptions } from './sampling'
import {
  abortSignal,
  array,
  boolean,
  custom,
  integer,
  integerOrInfinity,
  nonEmptyStrings,
  oneOf,
} from './validate'

/** The options that `generate` and `chat` share. */
export interface CommonGenerationOptions extends SamplingOptions {
  /**
   * Maximum number of generated tokens; `Infinity` generates until the context is full. Default: 512; `chat`:
   * `Infinity`. (In a chat the model ends its own turn.)
   */
  maxTokens?: number | undefined
  /** Stop before this text, or one of these texts, which the result leaves out. Default: none. */
  stop?: string | string[] | undefined
  /** Stop at these token ids, as at the model's own end tokens. The text leaves them out. Default: none. */
  stopTokens?: Uint32Array | number[] | undefined
  /** Continue after the model's end tokens, for benchmarks. Default: false. */
  ignoreEos?: boolean | undefined
  /** Spell out special tokens in the text instead of leaving them out. Default: false. */
  showSpecial?: boolean | undefined
  /**
   * Requests of a higher priority run first, -1000 to 1000. Each level counts as much as having arrived 64
   * requests earlier, so no request waits forever. Default: 0.
   */
  priority?: number | undefined
  /**
   * Milliseconds from the call to the last token. A request that takes longer fails with `ERR_TIMEOUT`, whose
   * `partial` holds the text so far. Default: none.
   */
  timeout?: number | undefined
  /**
   * What to do when prompt and answer fill the context. `'stop'` ends with `finishReason: 'context'`,
   * `'error'` fails with `ERR_CONTEXT_FULL`. `'shift'` keeps the first `keepTokens` tokens, drops the older
   * half of the others and continues; `usage.droppedTokens` counts the dropped ones. Default: 'stop'.
   */
  onContextFull?: 'stop' | 'error' | 'shift' | undefined
  /**
   * Number of first tokens that `onContextFull: 'shift'` never drops.
   * Default: the prompt, at most half of the context.
   */
  keepTokens?: number | undefined
  /**
   * LoRA adapters of this request, among those of `loadModel`; `[]` is the model alone. Requests with
   * different adapters run together. Default: all of `loadModel`'s, with their scales.
   */
  adapters?: readonly AdapterOptions[] | undefined
  /**
   * Stops the request within one step. It fails with `ERR_ABORTED`, whose `partial` holds the text so far.
   */
  signal?: AbortSignal | undefined
}

export interface GenerateOptions extends CommonGenerationOptions {
  /** Begin a text prompt with the BOS token. Default: the vocabulary decides. */
  bos?: boolean | undefined
  /**
   * Parse spellings of special tokens in a text prompt, such as `<|eot_id|>`, as those tokens. Default:
   * false.
   */
  special?: boolean | undefined
}

const tokenIds = array<number>('')

/** Those of the request itself; `samplingOptions` has the others. */
export const requestOptions = {
  maxTokens: option(integerOrInfinity(1), {
    default: 512,
    defaultText: '512; chat: Infinity',
    flag: { short: 'n', help: 'maximum number of generated tokens, or inf' },
  }),
  stop: option(nonEmptyStrings(), {
    default: [],
    defaultText: 'none',
    flag: { help: 'stop before this text; may be repeated' },
  }),
  stopTokens: custom('a Uint32Array or an array of token ids', (value) =>
    ArrayBuffer.isView(value) ? (value as Uint32Array) : tokenIds.parse(value),
  ),
  ignoreEos: option(boolean(), {
    default: false,
    flag: { help: "continue after the model's end tokens" },
  }),
  showSpecial: option(boolean(), { default: false }),
  priority: option(integer(-1000, 1000), { default: 0 }),
  timeout: integer(1, undefined, ' milliseconds'),
  onContextFull: option(oneOf('stop', 'error', 'shift'), { default: 'stop' }),
  keepTokens: option(integer(0), {
    default: -1,
    defaultText: 'the prompt, at most half of the context',
  }),
  adapters: option(adapterList(), { defaultText: "all of loadModel's, with their scales" }),
  signal: abortSignal(),
} satisfies OptionsOf<Omit<CommonGenerationOptions, keyof SamplingOptions>>

export const commonOptions = { ...samplingOptions, ...requestOptions }

export const generateOptions = {
  ...commonOptions,
  bos: option(boolean(), { defaultText: 'the vocabulary decides' }),
  special: option(boolean(), { defaultText: 'false' }),
} satisfies OptionsOf<GenerateOptions>
