/** Methods of strings, as Python has them. */

import { type Budget, MAX_TEXT, TemplateError } from './budget'
import { withoutMarks } from './marks'
import { splitWords, strip } from './python'
import {
  arrayOf,
  booleanOf,
  type FunctionBody,
  integerOf,
  isArray,
  isInteger,
  isNull,
  isString,
  splitArguments,
  stringOf,
  type Value,
} from './values'

/** What `str.splitlines` splits at. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are line ends to Python
const LINE_ENDS = /\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]/

/** `old` replaced by `new`, at most `count` times (negative: all), without building more than allowed. */
export function replaceText(text: string, old: string, by: string, count: number, budget: Budget): string {
  budget.spendPieces(text.length)
  if (old === '') {
    const chars = [...text]
    const places = count < 0 ? chars.length + 1 : Math.min(count, chars.length + 1)
    guard(text.length + places * by.length)
    let result = ''
    chars.forEach((char, index) => {
      result += index < places ? by + char : char
    })
    return places > chars.length ? result + by : result
  }
  const parts = text.split(old)
  const places = count < 0 ? parts.length - 1 : Math.min(count, parts.length - 1)
  guard(text.length + places * (by.length - old.length))
  return (
    parts.slice(0, places + 1).join(by) +
    parts
      .slice(places + 1)
      .map((part) => old + part)
      .join('')
  )
}

function guard(length: number): void {
  if (length > MAX_TEXT) throw new TemplateError(`it built a text of more than ${MAX_TEXT} characters`)
}

function wantString(value: Value | undefined, what: string): string {
  if (!isString(value)) throw new TemplateError(`${what} must be a string`)
  return value.value
}

function splitText(text: string, args: Value[], fromRight: boolean, budget: Budget): Value {
  budget.spendPieces(text.length)
  const { positional, keywords } = splitArguments(args)
  const separator = positional[0] ?? keywords.get('sep')
  const limitValue = positional[1] ?? keywords.get('maxsplit')
  const limit = isInteger(limitValue) ? limitValue.value : -1
  if (separator === undefined || isNull(separator)) return arrayOf(splitWords(text, limit).map(stringOf))
  const by = wantString(separator, 'the separator of split')
  if (by === '') throw new TemplateError('split: the separator is empty')
  // A mark inside the separator's own spelling vanishes with it.
  const parts = unmark(text, by).split(by)
  if (limit >= 0 && parts.length > limit + 1) {
    if (fromRight) parts.unshift(parts.splice(0, parts.length - limit).join(by))
    else parts.push(parts.splice(limit).join(by))
  }
  return arrayOf(parts.map(stringOf))
}

/** Takes the marks out of the occurrences of `spelling` (a mark stands behind a spelling's first character). */
export function unmark(text: string, spelling: string): string {
  const first = String.fromCodePoint(spelling.codePointAt(0) ?? 0)
  const rest = spelling.slice(first.length)
  if (rest === '' || !/[\ufdd0-\ufdef]/.test(text)) return text
  return text.replace(/[\ufdd0-\ufdef]/g, (mark, at: number) =>
    text.startsWith(first, at - first.length) && text.startsWith(rest, at + 1) ? '' : mark,
  )
}

function affix(args: Value[], matches: (affix: string) => boolean): Value {
  const candidates = isArray(args[0]) ? args[0].value : [args[0]]
  return booleanOf(
    candidates.some((candidate) => matches(withoutMarks(wantString(candidate, 'the argument')))),
  )
}

function strippers(text: string, side: 'both' | 'left' | 'right'): FunctionBody {
  return ([characters]) => stringOf(strip(text, side, isString(characters) ? characters.value : undefined))
}

/** The method of that name, or undefined where the engine's own will do (upper, lower, title, capitalize). */
export function stringMethod(text: string, name: string, budget: Budget): FunctionBody | undefined {
  switch (name) {
    case 'strip':
      return strippers(text, 'both')
    case 'lstrip':
      return strippers(text, 'left')
    case 'rstrip':
      return strippers(text, 'right')
    case 'split':
      return (args) => splitText(text, args, false, budget)
    case 'rsplit':
      return (args) => splitText(text, args, true, budget)
    case 'splitlines':
      return () => {
        budget.spendPieces(text.length)
        const lines = text.split(LINE_ENDS)
        if (lines.at(-1) === '') lines.pop()
        return arrayOf(lines.map(stringOf))
      }
    case 'startswith':
      return (args) => affix(args, (prefix) => withoutMarks(text).startsWith(prefix))
    case 'endswith':
      return (args) => affix(args, (suffix) => withoutMarks(text).endsWith(suffix))
    case 'removeprefix':
      return ([prefix]) => {
        const cut = wantString(prefix, 'the prefix')
        const plain = unmark(text, cut)
        return stringOf(plain.startsWith(cut) ? plain.slice(cut.length) : text)
      }
    case 'removesuffix':
      return ([suffix]) => {
        const cut = wantString(suffix, 'the suffix')
        const plain = unmark(text, cut)
        return stringOf(cut !== '' && plain.endsWith(cut) ? plain.slice(0, -cut.length) : text)
      }
    case 'find':
      return ([wanted]) =>
        integerOf(withoutMarks(text).indexOf(withoutMarks(wantString(wanted, 'the argument'))))
    case 'count':
      return ([wanted]) => {
        budget.spendPieces(text.length)
        const what = wantString(wanted, 'the argument')
        return integerOf(what === '' ? text.length + 1 : unmark(text, what).split(what).length - 1)
      }
    case 'replace':
      return (args) => {
        const { positional, keywords } = splitArguments(args)
        const old = wantString(positional[0], 'the first argument of replace')
        const by = wantString(positional[1], 'the second argument of replace')
        const count = positional[2] ?? keywords.get('count')
        return stringOf(replaceText(unmark(text, old), old, by, isInteger(count) ? count.value : -1, budget))
      }
    case 'join':
      return ([items]) => {
        if (!isArray(items)) throw new TemplateError('join needs a list')
        return stringOf(
          joinTexts(
            items.value.map((item) => wantString(item, 'an item of join')),
            text,
          ),
        )
      }
    case 'isdigit':
      return () => booleanOf(/^\p{Nd}+$/u.test(text))
    case 'isspace':
      return () => booleanOf(text.length > 0 && strip(text) === '')
    default:
      return undefined
  }
}

export function joinTexts(texts: string[], separator: string): string {
  guard(texts.reduce((sum, text) => sum + text.length, 0) + separator.length * Math.max(0, texts.length - 1))
  return texts.join(separator)
}

/** Every line but the first (and the empty ones) indented, as the `indent` filter has it. */
export function indentText(
  text: string,
  width: string,
  first: boolean,
  blank: boolean,
  budget: Budget,
): string {
  budget.spendPieces(text.length)
  const lines = text.split('\n')
  guard(text.length + lines.length * width.length)
  return lines
    .map((line, i) => ((i === 0 && !first) || (line === '' && !blank) ? line : width + line))
    .join('\n')
}
