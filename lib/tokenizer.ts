import { addon } from './binding'
import { type ChatMessage, type ChatVocabulary, type RenderChatOptions, renderChat } from './chat'
import { CriaError, disposedError, invalidArgument } from './errors'
import type { NativeTokenizer } from './native'
import { filePath } from './path'
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
  /** Begin with the BOS token. Default: as the vocabulary says (see {@link Tokenizer.addsBos}). */
  bos?: boolean | undefined
  /** End with the EOS token. Default false. */
  eos?: boolean | undefined
  /** Turn spellings of special tokens in the text, such as `<|eot_id|>`, into those tokens. Default false: text is text. */
  special?: boolean | undefined
  /** Stops the work; rejects with `ERR_ABORTED`. */
  signal?: AbortSignal | undefined
}

export interface DecodeOptions {
  /** Spell special tokens out rather than leave them out. Default false. */
  special?: boolean | undefined
  /** Stops the work; rejects with `ERR_ABORTED`. */
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
 * Text to token ids and back, exact to the reference tokenizers. Encoding and decoding run off the JS thread. From
 * `model.tokenizer`, or from {@link loadTokenizer} without a model.
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

  /** Number of tokens; ids run from 0 to one less. */
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

  /** Ids of all tokens that end a generation (end of text, of turn, of message). */
  get endOfGeneration(): number[] {
    return [...this.#native.info.endOfGeneration]
  }

  /** Whether a text begins with BOS unless told otherwise. */
  get addsBos(): boolean {
    return this.#native.info.addsBos
  }

  /** The file's own chat template (Jinja), or null. */
  get chatTemplate(): string | null {
    return this.#native.info.chatTemplate || null
  }

  /**
   * Token ids of a text. Lone surrogates count as U+FFFD.
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
   * Text of token ids. Bytes that form no character become U+FFFD.
   * @throws (rejects) ERR_INVALID_ARGUMENT (naming the first bad index), ERR_ABORTED, ERR_DISPOSED
   */
  async decode(ids: Uint32Array | readonly number[], options?: DecodeOptions): Promise<string> {
    const call = 'tokenizer.decode'
    this.#check(call)
    const checkedIds = checkTokenIds(call, 'ids', ids, this.vocabSize)
    const { special, signal } = checkOptions(call, options, decodeRules)
    return runTask(call, () => this.#native.decode(checkedIds, special ?? false), signal)
  }

  /** Id of a token by its exact spelling in the file, e.g. `'<|eot_id|>'`; null when there is none. */
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
   * The conversation as the chat template renders it: the text that `model.chat` would run.
   * @throws ERR_INVALID_ARGUMENT, ERR_CHAT_TEMPLATE, ERR_DISPOSED
   */
  renderChat(messages: readonly ChatMessage[], options?: RenderChatOptions): string {
    const call = 'tokenizer.renderChat'
    this.#check(call)
    return renderChat(call, this.chatVocabulary(), messages, options).text
  }

  /** @internal What rendering needs to know of the vocabulary. */
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
 * Loads the vocabulary of a file alone (also of a GGUF without tensors). It needs no dispose.
 * @throws (rejects) the same codes as `loadModel`
 */
export async function loadTokenizer(
  path: string | URL,
  options?: { signal?: AbortSignal | undefined },
): Promise<Tokenizer> {
  const call = 'loadTokenizer'
  const file = filePath(call, path)
  const { signal } = checkOptions(call, options, loadRules)
  const native = await runTask(call, () => addon().loadTokenizer(file), signal)
  return Tokenizer.create(native, () => false)
}

/** A prompt as the addon takes it: text in one piece, or checked ids. */
export function promptOf(call: string, prompt: unknown, special: boolean, vocabSize: number) {
  if (typeof prompt === 'string') return [[prompt, special]] as Array<[string, boolean]>
  if (!Array.isArray(prompt) && !ArrayBuffer.isView(prompt)) {
    throw invalidArgument(call, 'prompt', 'a string, a Uint32Array or an array of token ids', prompt)
  }
  const ids = checkTokenIds(call, 'prompt', prompt, vocabSize)
  if (ids.length === 0) {
    throw new CriaError('ERR_INVALID_ARGUMENT', `${call}: prompt must hold at least one token id, got none`, {
      details: { call, name: 'prompt' },
    })
  }
  return ids
}
