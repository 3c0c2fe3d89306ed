/** A template is a program from a file of unknown origin. The budget ends it before it can hang or exhaust the process. */

/** Raised for every error of a template; carries no type of its own to the outside. */
export class TemplateError extends Error {}

/** The template itself refused its input, by `raise_exception`. */
export class RaisedByTemplate extends TemplateError {}

/** The longest text that a template may build, in UTF-16 units. */
export const MAX_TEXT = 2 ** 24
/** Deepest nesting of evaluations: keeps the interpreter, which recurses, away from the end of the stack. */
export const MAX_DEPTH = 400
export const MAX_TEMPLATE = 2 ** 18
/** The engine's preprocessing is quadratic in the longest run of white space. */
export const MAX_WHITESPACE_RUN = 256

/** Counts work in steps: an evaluation, an element, 64 characters. */
export class Budget {
  #left: number

  /** `inputSize`: values and characters of the messages; longer conversations may cost more. */
  constructor(inputValues: number, inputChars: number) {
    this.#left = 200_000 + 1000 * inputValues + inputChars
  }

  spend(steps: number): void {
    this.#left -= steps
    if (this.#left < 0) throw new TemplateError('it ran too long: too many steps')
  }

  /** Pays for cutting a text into pieces, before that is done: each becomes a value of some hundred bytes. */
  spendPieces(length: number): void {
    this.spend(length / 16)
  }

  spendText(length: number): void {
    if (length > MAX_TEXT) throw new TemplateError(`it built a text of more than ${MAX_TEXT} characters`)
    this.spend(length / 64)
  }
}
