/**
 * Printing and comparison as in Python: templates are written for Python's jinja2 and must render the same
 * text.
 */

import { type Budget, TemplateError } from './budget'
import { withoutMarks } from './marks'
import { isArray, isBoolean, isMap, isNamespace, isNumber, isString, type Value } from './values'

/** The white space of `str.strip()` as a regular-expression class. JavaScript's `trim()` has another set. */
const SPACE = '\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000'
const WIDE_SPACE = new RegExp(`[${SPACE}]`)
const isSpace = (char: string): boolean => {
  const code = char.charCodeAt(0)
  if (code < 0x80) return code === 0x20 || (code >= 0x09 && code <= 0x0d) || (code >= 0x1c && code <= 0x1f)
  return WIDE_SPACE.test(char)
}
const WORDS = new RegExp(`[^${SPACE}]+`, 'g')

export type Side = 'both' | 'left' | 'right'

/** `str.strip`, `lstrip` and `rstrip`. A regular expression `[...]+$` would take quadratic time. */
export function strip(text: string, side: Side = 'both', characters?: string): string {
  const stripped = characters === undefined ? isSpace : inSet(characters)
  let start = 0
  let end = text.length
  if (side !== 'right') while (start < end && stripped(text[start]!)) start++
  if (side !== 'left') while (end > start && stripped(text[end - 1]!)) end--
  return text.slice(start, end)
}

function inSet(characters: string): (char: string) => boolean {
  const set = new Set(characters.split(''))
  return (char) => set.has(char)
}

/** `str.split()` without a separator: the words, with at most `limit` cuts. */
export function splitWords(text: string, limit: number): string[] {
  if (limit < 0) return text.match(WORDS) ?? []
  const words: string[] = []
  for (const match of text.matchAll(WORDS)) {
    if (words.length === limit) {
      words.push(strip(text.slice(match.index), 'left'))
      break
    }
    words.push(match[0])
  }
  return words
}

function formatFloat(value: number, names: { nan: string; infinity: string }): string {
  if (Number.isNaN(value)) return names.nan
  if (!Number.isFinite(value)) return value > 0 ? names.infinity : `-${names.infinity}`
  if (Object.is(value, -0)) return '-0.0'
  const [digits, exponentText] = value.toExponential().split('e') as [string, string]
  const exponent = Number(exponentText)
  if (value !== 0 && (exponent < -4 || exponent >= 16)) {
    return `${digits}e${exponent < 0 ? '-' : '+'}${String(Math.abs(exponent)).padStart(2, '0')}`
  }
  const plain = String(value)
  return plain.includes('.') ? plain : `${plain}.0`
}

function formatNumber(value: Value & { value: number }, names = { nan: 'nan', infinity: 'inf' }): string {
  if (value.type === 'FloatValue') return formatFloat(value.value, names)
  // JavaScript cannot distinguish 10^21 from 1e21; a literal of that size is a float.
  return Math.abs(value.value) < 1e21
    ? BigInt(Math.trunc(value.value)).toString()
    : formatFloat(value.value, names)
}

const ESCAPES: Record<string, string> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' }
// Not printable in Python: the categories C and Z except the space. U+FDD0 to U+FDEF are the marks.
const UNPRINTABLE = /[\\\n\r\t]|(?![ \ufdd0-\ufdef])[\p{C}\p{Z}]/gu

function reprString(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'"
  const escaped = text.replace(UNPRINTABLE, (char) => {
    const known = ESCAPES[char]
    if (known) return known
    const code = char.codePointAt(0)!
    if (code < 0x100) return `\\x${code.toString(16).padStart(2, '0')}`
    return code < 0x10000
      ? `\\u${code.toString(16).padStart(4, '0')}`
      : `\\U${code.toString(16).padStart(8, '0')}`
  })
  return quote + (quote === "'" ? escaped.replaceAll("'", "\\'") : escaped) + quote
}

/** `str(value)`. */
export function str(value: Value, budget: Budget): string {
  if (isString(value)) return value.value
  if (value.type === 'UndefinedValue') return ''
  return repr(value, budget)
}

/** `repr(value)`. */
export function repr(value: Value, budget: Budget, depth = 0): string {
  budget.spend(1)
  if (depth > 100) throw new TemplateError('a value is nested too deeply to be printed')
  if (isString(value)) {
    budget.spendText(value.value.length)
    return reprString(value.value)
  }
  if (isNumber(value)) return formatNumber(value)
  if (isBoolean(value)) return value.value ? 'True' : 'False'
  if (value.type === 'NullValue') return 'None'
  if (value.type === 'UndefinedValue') return 'Undefined'
  if (isArray(value)) {
    const items = value.value.map((item) => repr(item, budget, depth + 1))
    if (value.type === 'TupleValue') return items.length === 1 ? `(${items[0]},)` : `(${items.join(', ')})`
    return `[${items.join(', ')}]`
  }
  if (isMap(value) || isNamespace(value)) {
    const entries = [...value.value].map(
      ([key, item]) => `${reprString(key)}: ${repr(item, budget, depth + 1)}`,
    )
    return `{${entries.join(', ')}}`
  }
  throw new TemplateError('a function cannot be printed')
}

export interface JsonOptions {
  indent?: number | string | undefined
  ensureAscii?: boolean | undefined
  sortKeys?: boolean | undefined
  separators?: [item: string, key: string] | undefined
}

/**
 * `json.dumps(value, ensure_ascii=False)` with its options: the `tojson` of transformers, which does not
 * escape HTML.
 */
export function json(value: Value, options: JsonOptions, budget: Budget): string {
  const indent =
    typeof options.indent === 'number' ? ' '.repeat(Math.min(options.indent, 64)) : options.indent
  const [comma, colon] = options.separators ?? [indent === undefined ? ', ' : ',', ': ']
  const text = (string: string) => {
    budget.spendText(string.length)
    const quoted = JSON.stringify(string)
    if (!options.ensureAscii) return quoted
    return quoted.replace(
      /[^ -~\ufdd0-\ufdef]/g,
      (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
    )
  }
  const block = (open: string, items: string[], close: string, depth: number) => {
    if (items.length === 0) return open + close
    if (indent === undefined) return open + items.join(comma) + close
    const line = `\n${indent.repeat(depth + 1)}`
    budget.spendText(line.length * items.length)
    return `${open}${line}${items.join(comma + line)}\n${indent.repeat(depth)}${close}`
  }
  const write = (item: Value, depth: number): string => {
    budget.spend(1)
    if (depth > 100) throw new TemplateError('a value is nested too deeply for tojson')
    if (isString(item)) return text(item.value)
    if (isNumber(item)) return formatNumber(item, { nan: 'NaN', infinity: 'Infinity' })
    if (isBoolean(item)) return String(item.value)
    if (item.type === 'NullValue') return 'null'
    if (isArray(item)) {
      const items = item.value.map((one) => write(one, depth + 1))
      return block('[', items, ']', depth)
    }
    if (isMap(item) || isNamespace(item)) {
      const entries = [...item.value]
      if (options.sortKeys) entries.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
      const lines = entries.map(([key, one]) => text(key) + colon + write(one, depth + 1))
      return block('{', lines, '}', depth)
    }
    const kind = item.type === 'UndefinedValue' ? 'an undefined value' : 'a function'
    throw new TemplateError(`tojson cannot write ${kind}`)
  }
  return write(value, 0)
}

/** `a == b`: by value. Values of different types differ, except that True is 1. */
export function equals(a: Value, b: Value, budget: Budget, depth = 0): boolean {
  budget.spend(1)
  if (depth > 100) throw new TemplateError('values are nested too deeply to be compared')
  if (isString(a) && isString(b)) return withoutMarks(a.value) === withoutMarks(b.value)
  if ((isNumber(a) || isBoolean(a)) && (isNumber(b) || isBoolean(b)))
    return Number(a.value) === Number(b.value)
  if (isArray(a) && isArray(b)) {
    const other = b.value
    return (
      a.value.length === other.length &&
      a.value.every((item, i) => equals(item, other[i]!, budget, depth + 1))
    )
  }
  if (isMap(a) && isMap(b)) {
    const other = b.value
    return (
      a.value.size === other.size &&
      [...a.value].every(([key, item]) => {
        const match = other.get(key)
        return match !== undefined && equals(item, match, budget, depth + 1)
      })
    )
  }
  if (a.type !== b.type) return false
  return a.type === 'NullValue' || a.type === 'UndefinedValue' || a === b
}
