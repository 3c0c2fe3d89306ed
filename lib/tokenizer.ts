import { addon } from './binding'
import { type ChatMessage, type ChatVocabulary, type RenderChatOptions, renderChat } from './chat'
import { CriaError, disposedError, invalidArgument } from './errors'
import { modelPath } from './hub/download'
import type { NativeText, NativeTokenizer } from './native'
import { callNative, runTask } from './tasks'
import {
  abortSignal,
  boolean,
  checkArgument,
  checkOptions,
  checkTokenIds,
  integer,
  type Rules,
  string,
} from './validate'

export interface EncodeOptions {
  /** Begin with the BOS token. Default: {@link Tokenizer.addsBos}. */
  bos?: boolean | undefined
  /** End with the EOS token. Default: false. */
  eos?: boolean | undefined
  /** Parse spellings of special tokens in the text, such as `<|eot_id|>`, as those tokens. Default: false. */
  special?: boolean | undefined
  /** Stops the work, which then rejects with `ERR_ABORTED`. */
  signal?: AbortSignal | undefined
}

export interface DecodeOptions {
  /** Spell out special tokens instead of leaving them out. Default: false. */
  special?: boolean | undefined
  /** Stops the work, which then rejects with `ERR_ABORTED`. */
  signal?: AbortSignal | undefined
}

const encodeRules = {
  bos: boolean(),
  eos: boolean(),
  special: boolean(),
  signal: abortSignal(),
} satisfies Rules
const decodeRules = { special: boolean(), signal: abortSignal() } satisfies Rules
const loadRules = { signal: abortSignal() } satisfies Rules

/**
 * Converts text to token ids and back, with the same results as the reference tokenizers. Encoding and
 * decoding run off the JS thread. `model.tokenizer` is one; {@link loadTokenizer} makes one without a model.
 */
export class Tokenizer {
  readonly #native: NativeTokenizer
  readonly #isDisposed: () => boolean

  private constructor(native: NativeTokenizer, isDisposed: () => boolean) {
    this.#native = native
    this.#isDisposed = isDisposed
  }

  /** @internal */
  static create(native: NativeTokenizer, isDisposed: () => boolean): Tokenizer {
    return new Tokenizer(native, isDisposed)
  }

  /** `'sentencepiece'` (Llama 1 and 2) or `'bpe'` (Llama 3). */
  get kind(): 'sentencepiece' | 'bpe' {
    return this.#native.info.kind
  }

  /** Number of tokens; ids run from 0 to `vocabSize - 1`. */
  get vocabSize(): number {
    return this.#native.info.vocabSize
  }

  /** Id of the token that begins a text, or null. */
  get bos(): number | null {
    return this.#native.info.bos
  }

  /** Id of the token that ends a text, or null. */
  get eos(): number | null {
    return this.#native.info.eos
  }

  /** Ids of all tokens that end a generation: end of text, of turn, of message. */
  get endOfGeneration(): number[] {
    return [...this.#native.info.endOfGeneration]
  }

  /** Whether `encode` begins with BOS by default. */
  get addsBos(): boolean {
    return this.#native.info.addsBos
  }

  /** The chat template in the file (Jinja), or null. */
  get chatTemplate(): string | null {
    return this.#native.info.chatTemplate || null
  }

  /** What was ignored or assumed about the vocabulary, in full sentences; empty for most files. */
  get warnings(): string[] {
    return [...this.#native.info.warnings]
  }

  /**
   * Encodes a text. Lone surrogates count as U+FFFD.
   * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_ABORTED, ERR_DISPOSED
   */
  async encode(text: string, options?: EncodeOptions): Promise<Uint32Array> {
    const call = 'tokenizer.encode'
    const checkedText = checkArgument(call, 'text', text, string())
    const { bos, eos, special, signal } = checkOptions(call, options, encodeRules)
    this.#check(call)
    return runTask(
      call,
      () => this.#native.encode([[checkedText, special ?? false]], bos ?? null, eos ?? false),
      signal,
    )
  }

  /**
   * Decodes token ids. Bytes that form no character become U+FFFD.
   * @throws (rejects) ERR_INVALID_ARGUMENT (names the first bad index), ERR_ABORTED, ERR_DISPOSED
   */
  async decode(ids: Uint32Array | readonly number[], options?: DecodeOptions): Promise<string> {
    const call = 'tokenizer.decode'
    this.#check(call)
    const checkedIds = checkTokenIds(call, 'ids', ids, this.vocabSize)
    const { special, signal } = checkOptions(call, options, decodeRules)
    return runTask(call, () => this.#native.decode(checkedIds, special ?? false), signal)
  }

  /** Id of the token with this exact spelling in the file, e.g. `'<|eot_id|>'`; null if there is none. */
  find(spelling: string): number | null {
    const call = 'tokenizer.find'
    const checked = checkArgument(call, 'spelling', spelling, string())
    this.#check(call)
    return callNative(() => this.#native.find(checked))
  }

  /** A token's exact spelling in the file (SentencePiece writes a space as U+2581). */
  spelling(id: number): string {
    const call = 'tokenizer.spelling'
    this.#check(call)
    const checked = checkArgument(call, 'id', id, integer(0, this.vocabSize - 1))
    return callNative(() => this.#native.spelling(checked))
  }

  /**
   * Renders a conversation with the chat template: the text that `model.chat` runs.
   * @throws ERR_INVALID_ARGUMENT, ERR_CHAT_TEMPLATE, ERR_DISPOSED
   */
  renderChat(messages: readonly ChatMessage[], options?: RenderChatOptions): string {
    const call = 'tokenizer.renderChat'
    this.#check(call)
    return renderChat(call, this.chatVocabulary(), messages, options).text
  }

  /** @internal The parts of the vocabulary that rendering needs. */
  chatVocabulary(): ChatVocabulary {
    const { bos, eos, chatTemplate, specialSpellings } = this.#native.info
    const spell = (id: number | null) => (id === null ? '' : callNative(() => this.#native.spelling(id)))
    return { template: chatTemplate || null, bos: spell(bos), eos: spell(eos), specials: specialSpellings }
  }

  #check(call: string): void {
    if (this.#isDisposed()) throw disposedError(call)
  }
}

/**
 * Loads only a vocabulary: of a GGUF file, which may lack tensors; of `tokenizer.json`; of `tokenizer.model`
 * (SentencePiece, or Llama 3's rank file); of `tekken.json`; or of a folder with one of these. What a
 * `tokenizer_config.json` beside it says of special tokens and of the chat template counts as well. Takes
 * the names that `loadModel` takes. The tokenizer needs no dispose.
 * @throws (rejects) the same codes as `loadModel`
 */
export async function loadTokenizer(
  path: string | URL,
  options?: { signal?: AbortSignal | undefined },
): Promise<Tokenizer> {
  const call = 'loadTokenizer'
  const { signal } = checkOptions(call, options, loadRules)
  const located = modelPath(call, path, { signal })
  const file = typeof located === 'string' ? located : await located
  const native = await runTask(call, () => addon().loadTokenizer(file), signal)
  return Tokenizer.create(native, () => false)
}

/** A prompt as the addon takes it: text in one piece, or checked ids. */
export function promptOf(
  call: string,
  prompt: unknown,
  special: boolean,
  vocabSize: number,
): NativeText | Uint32Array {
  if (typeof prompt === 'string') return [[prompt, special]]
  if (!Array.isArray(prompt) && !ArrayBuffer.isView(prompt)) {
    throw invalidArgument(call, 'prompt', 'a string, a Uint32Array or an array of token ids', prompt)
  }
  const ids = checkTokenIds(call, 'prompt', prompt, vocabSize)
  if (ids.length === 0) throw noTokenIds(call, 'prompt')
  return ids
}

export function noTokenIds(call: string, name: string): CriaError {
  const message = `${call}: ${name} must hold at least one token id, got none`
  return new CriaError('ERR_INVALID_ARGUMENT', message, { details: { call, name } })
}
