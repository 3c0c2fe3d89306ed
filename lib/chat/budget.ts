/**
 * A template is a program from an untrusted file. The budget ends it before it hangs or exhausts the process.
 */

/** An error of a template. Callers of the library get a CriaError instead. */
export class TemplateError extends Error {}

/** The template refused its input with `raise_exception`. */
export class RaisedByTemplate extends TemplateError {}

/** Maximum length of a text that a template builds, in UTF-16 units. */
export const MAX_TEXT = 2 ** 24
/** Maximum nesting of evaluations: the interpreter recurses, and must not overflow the stack. */
export const MAX_DEPTH = 400
/** Maximum length of a template, in UTF-16 units. */
export const MAX_TEMPLATE = 2 ** 18
/** The engine's preprocessor takes time quadratic in the longest run of white space. */
export const MAX_WHITESPACE_RUN = 256

/** Counts work in steps. A step is one evaluation, one element or 64 characters. */
export class Budget {
  #left: number

  /** Values and characters of the messages: longer conversations may cost more. */
  constructor(inputValues: number, inputChars: number) {
    this.#left = 200_000 + 1000 * inputValues + inputChars
  }

  spend(steps: number): void {
    this.#left -= steps
    if (this.#left < 0) throw new TemplateError('it took too many steps')
  }

  /** To be called before a text is cut into pieces, each a value of some hundred bytes. */
  spendPieces(length: number): void {
    this.spend(length / 16)
  }

  spendText(length: number): void {
    if (length > MAX_TEXT)
      throw new TemplateError(`it built a text of ${length} characters, more than ${MAX_TEXT}`)
    this.spend(length / 64)
  }
}
