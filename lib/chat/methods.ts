/** Python's string methods. */

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

/** Line ends of `str.splitlines`. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: Python counts these as line ends
const LINE_ENDS = /\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]/

/** Replaces `old` by `by`, at most `count` times (negative: always). */
export function replaceText(text: string, old: string, by: string, count: number, budget: Budget): string {
  budget.spendPieces(text.length)
  if (old === '') {
    const chars = [...text]
    const places = count < 0 ? chars.length + 1 : Math.min(count, chars.length + 1)
    checkLength(text.length + places * by.length)
    let result = ''
    chars.forEach((char, index) => {
      result += index < places ? by + char : char
    })
    return places > chars.length ? result + by : result
  }
  const parts = text.split(old)
  const places = count < 0 ? parts.length - 1 : Math.min(count, parts.length - 1)
  checkLength(text.length + places * (by.length - old.length))
  return (
    parts.slice(0, places + 1).join(by) +
    parts
      .slice(places + 1)
      .map((part) => old + part)
      .join('')
  )
}

function checkLength(length: number): void {
  if (length > MAX_TEXT)
    throw new TemplateError(`it built a text of ${length} characters, more than ${MAX_TEXT}`)
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
  // A separator that a mark divides still separates.
  const parts = unmark(text, by).split(by)
  if (limit >= 0 && parts.length > limit + 1) {
    if (fromRight) parts.unshift(parts.splice(0, parts.length - limit).join(by))
    else parts.push(parts.splice(limit).join(by))
  }
  return arrayOf(parts.map(stringOf))
}

/** Removes the marks in occurrences of `spelling`. A mark follows the first character of a spelling. */
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

function stripper(text: string, side: 'both' | 'left' | 'right'): FunctionBody {
  return ([characters]) => stringOf(strip(text, side, isString(characters) ? characters.value : undefined))
}

type Method = (text: string, budget: Budget) => FunctionBody

const METHODS: Record<string, Method> = {
  strip: (text) => stripper(text, 'both'),
  lstrip: (text) => stripper(text, 'left'),
  rstrip: (text) => stripper(text, 'right'),
  split: (text, budget) => (args) => splitText(text, args, false, budget),
  rsplit: (text, budget) => (args) => splitText(text, args, true, budget),
  splitlines: (text, budget) => () => {
    budget.spendPieces(text.length)
    const lines = text.split(LINE_ENDS)
    if (lines.at(-1) === '') lines.pop()
    return arrayOf(lines.map(stringOf))
  },
  startswith: (text) => (args) => affix(args, (prefix) => withoutMarks(text).startsWith(prefix)),
  endswith: (text) => (args) => affix(args, (suffix) => withoutMarks(text).endsWith(suffix)),
  removeprefix:
    (text) =>
    ([prefix]) => {
      const cut = wantString(prefix, 'the prefix')
      const plain = unmark(text, cut)
      return stringOf(plain.startsWith(cut) ? plain.slice(cut.length) : text)
    },
  removesuffix:
    (text) =>
    ([suffix]) => {
      const cut = wantString(suffix, 'the suffix')
      const plain = unmark(text, cut)
      return stringOf(cut !== '' && plain.endsWith(cut) ? plain.slice(0, -cut.length) : text)
    },
  find:
    (text) =>
    ([wanted]) =>
      integerOf(withoutMarks(text).indexOf(withoutMarks(wantString(wanted, 'the argument')))),
  count:
    (text, budget) =>
    ([wanted]) => {
      budget.spendPieces(text.length)
      const what = wantString(wanted, 'the argument')
      return integerOf(what === '' ? text.length + 1 : unmark(text, what).split(what).length - 1)
    },
  replace: (text, budget) => (args) => {
    const { positional, keywords } = splitArguments(args)
    const old = wantString(positional[0], 'the first argument of replace')
    const by = wantString(positional[1], 'the second argument of replace')
    const count = positional[2] ?? keywords.get('count')
    return stringOf(replaceText(unmark(text, old), old, by, isInteger(count) ? count.value : -1, budget))
  },
  join:
    (text) =>
    ([items]) => {
      if (!isArray(items)) throw new TemplateError('join needs a list')
      const texts = items.value.map((item) => wantString(item, 'an item of join'))
      return stringOf(joinTexts(texts, text))
    },
  isdigit: (text) => () => booleanOf(/^\p{Nd}+$/u.test(text)),
  isspace: (text) => () => booleanOf(text.length > 0 && strip(text) === ''),
}

/**
 * A method of `text`, or undefined if the engine has it in the same form (upper, lower, title, capitalize).
 */
export function stringMethod(text: string, name: string, budget: Budget): FunctionBody | undefined {
  const method = Object.hasOwn(METHODS, name) ? METHODS[name] : undefined
  return method?.(text, budget)
}

export function joinTexts(texts: string[], separator: string): string {
  checkLength(
    texts.reduce((sum, text) => sum + text.length, 0) + separator.length * Math.max(0, texts.length - 1),
  )
  return texts.join(separator)
}

/** jinja2's `indent`: `first` and `blank` include the first line and the empty ones. */
export function indentText(
  text: string,
  width: string,
  first: boolean,
  blank: boolean,
  budget: Budget,
): string {
  budget.spendPieces(text.length)
  const lines = text.split('\n')
  checkLength(text.length + lines.length * width.length)
  return lines
    .map((line, i) => ((i === 0 && !first) || (line === '' && !blank) ? line : width + line))
    .join('\n')
}
