/** Filters that the engine lacks, or that in the engine differ from Python's jinja2 or have no bounds. */

import { type Budget, TemplateError } from './budget'
import type { Environment } from './engine'
import { withoutMarks } from './marks'
import { indentText, joinTexts, replaceText, unmark } from './methods'
import { equals, type JsonOptions, json, str, strip } from './python'
import {
  arrayOf,
  floatOf,
  integerOf,
  isArray,
  isBoolean,
  isInteger,
  isMap,
  isNamespace,
  isNull,
  isNumber,
  isString,
  isUndefined,
  itemsOf,
  stringOf,
  truthy,
  undefinedValue,
  type Value,
} from './values'

export interface FilterArguments {
  positional: Value[]
  keywords: Map<string, Value>
}

type Filter = (
  operand: Value,
  args: FilterArguments,
  environment: Environment,
  budget: Budget,
) => Value | undefined

const argument = (args: FilterArguments, index: number, name: string): Value | undefined =>
  args.positional[index] ?? args.keywords.get(name)

/** The elements of an iterable in Python's sense; undefined for any other value. */
function elements(value: Value, budget: Budget): Value[] | undefined {
  if (isArray(value)) return value.value
  if (isString(value)) {
    budget.spendPieces(value.value.length)
    return [...value.value].map(stringOf)
  }
  if (isMap(value)) return [...value.value.keys()].map(stringOf)
  if (isUndefined(value)) return []
  return undefined
}

function items(value: Value, filter: string, budget: Budget): Value[] {
  const list = elements(value, budget)
  if (!list) throw new TemplateError(`the filter '${filter}' needs an iterable`)
  return list
}

/** The attribute `path` of a value, such as `a.b.0`, by key and index. */
function attribute(value: Value, path: string): Value {
  let current = value
  for (const part of path.split('.')) {
    if (isMap(current) || isNamespace(current)) current = current.value.get(part) ?? undefinedValue()
    else if (isArray(current) && /^\d+$/.test(part)) current = current.value[Number(part)] ?? undefinedValue()
    else return undefinedValue()
  }
  return current
}

/** Python's len() of a text. */
function codePoints(text: string): number {
  let count = text.length
  for (const _ of text.matchAll(/[\ud800-\udbff][\udc00-\udfff]/g)) count--
  return count
}

const COMPARISONS: Record<string, (a: number | string, b: number | string) => boolean> = {
  lt: (a, b) => a < b,
  '<': (a, b) => a < b,
  lessthan: (a, b) => a < b,
  le: (a, b) => a <= b,
  '<=': (a, b) => a <= b,
  gt: (a, b) => a > b,
  '>': (a, b) => a > b,
  greaterthan: (a, b) => a > b,
  ge: (a, b) => a >= b,
  '>=': (a, b) => a >= b,
}

/** Applies a test by name, for `select` and similar filters. */
function passes(
  name: string,
  value: Value,
  args: Value[],
  environment: Environment,
  budget: Budget,
): boolean {
  const [other = undefinedValue()] = args
  switch (name) {
    case 'eq':
    case '==':
    case 'equalto':
      return equals(value, other, budget)
    case 'ne':
    case '!=':
      return !equals(value, other, budget)
    case 'in':
      return isString(other) && isString(value)
        ? withoutMarks(other.value).includes(withoutMarks(value.value))
        : items(other, 'in', budget).some((item) => equals(item, value, budget))
  }
  const comparison = COMPARISONS[name]
  if (comparison) {
    const a = value.value
    const b = other.value
    const comparable = (isNumber(value) && isNumber(other)) || (isString(value) && isString(other))
    if (!comparable) throw new TemplateError(`the test '${name}' cannot compare these values`)
    return comparison(a as number | string, b as number | string)
  }
  const test = environment.tests.get(name)
  if (!test) throw new TemplateError(`unknown test '${name}'`)
  return test(value, ...args)
}

function textArgument(value: Value | undefined, what: string): string {
  if (!isString(value)) throw new TemplateError(`${what} must be a string`)
  return value.value
}

/** select, reject, selectattr and rejectattr. */
function selection(keep: boolean, byAttribute: boolean): Filter {
  return (operand, { positional }, environment, budget) => {
    const rest = [...positional]
    const path = byAttribute ? textArgument(rest.shift(), 'the attribute') : undefined
    const name = rest.length > 0 ? textArgument(rest.shift(), 'the name of a test') : undefined
    const list = items(operand, keep ? 'select' : 'reject', budget)
    budget.spend(list.length)
    return arrayOf(
      list.filter((item) => {
        const value = path === undefined ? item : attribute(item, path)
        return (name === undefined ? truthy(value) : passes(name, value, rest, environment, budget)) === keep
      }),
    )
  }
}

function jsonOptions(args: FilterArguments): JsonOptions {
  // The order of transformers: tojson(x, ensure_ascii, indent, separators, sort_keys).
  const indent = argument(args, 1, 'indent')
  const separators = argument(args, 2, 'separators')
  const flag = (index: number, name: string) => {
    const value = argument(args, index, name)
    return value !== undefined && truthy(value)
  }
  let pair: [string, string] | undefined
  if (separators && !isNull(separators)) {
    const [comma, colon] = isArray(separators) ? separators.value : []
    pair = [textArgument(comma, 'a separator'), textArgument(colon, 'a separator')]
  }
  return {
    indent: isInteger(indent)
      ? Math.max(0, indent.value)
      : isString(indent)
        ? indent.value.slice(0, 64)
        : undefined,
    ensureAscii: flag(0, 'ensure_ascii'),
    sortKeys: flag(3, 'sort_keys'),
    separators: pair,
  }
}

const onText =
  (apply: (text: string, args: FilterArguments, budget: Budget) => string): Filter =>
  (operand, args, _environment, budget) =>
    stringOf(apply(str(operand, budget), args, budget))

const HTML: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&#34;', "'": '&#39;' }

/** The maximum or minimum of numbers or of texts. */
function extreme(list: Value[], better: (a: number | string, b: number | string) => boolean): Value {
  if (!list.every(isNumber) && !list.every(isString)) {
    throw new TemplateError('max and min need numbers or texts')
  }
  let best: Value | undefined
  for (const item of list) {
    if (!best || better(item.value as number | string, best.value as number | string)) best = item
  }
  return best ?? undefinedValue()
}

const FILTERS: Record<string, Filter> = {
  trim: onText((text, args) => {
    const characters = argument(args, 0, 'chars')
    return strip(text, 'both', isString(characters) ? characters.value : undefined)
  }),
  upper: onText((text) => text.toUpperCase()),
  lower: onText((text) => text.toLowerCase()),
  capitalize: onText((text) => text.charAt(0).toUpperCase() + text.slice(1).toLowerCase()),
  string: onText((text) => text),
  replace: onText((text, args, budget) => {
    const old = textArgument(argument(args, 0, 'old'), 'the first argument of replace')
    const by = textArgument(argument(args, 1, 'new'), 'the second argument of replace')
    const count = argument(args, 2, 'count')
    return replaceText(unmark(text, old), old, by, isInteger(count) ? count.value : -1, budget)
  }),
  indent: onText((text, args, budget) => {
    const width = argument(args, 0, 'width')
    const flag = (index: number, name: string) => {
      const value = argument(args, index, name)
      return value !== undefined && truthy(value)
    }
    const by = isString(width)
      ? width.value
      : ' '.repeat(isInteger(width) ? Math.min(Math.max(0, width.value), 1000) : 4)
    return indentText(text, by, flag(1, 'first'), flag(2, 'blank'), budget)
  }),
  tojson: (operand, args, _environment, budget) => stringOf(json(operand, jsonOptions(args), budget)),
  join: (operand, args, _environment, budget) => {
    const separator = argument(args, 0, 'd')
    const path = argument(args, 1, 'attribute')
    const list = items(operand, 'join', budget).map((item) =>
      str(isString(path) ? attribute(item, path.value) : item, budget),
    )
    return stringOf(joinTexts(list, separator === undefined ? '' : str(separator, budget)))
  },
  length: (operand, _args, _environment, budget) => {
    if (isString(operand)) return integerOf(codePoints(withoutMarks(operand.value)))
    if (isUndefined(operand)) return integerOf(0)
    const list = elements(operand, budget)
    if (!list) throw new TemplateError("the filter 'length' needs a text, a list or a mapping")
    return integerOf(list.length)
  },
  default: (operand, args) => {
    const other = argument(args, 0, 'default_value') ?? stringOf('')
    const boolean = argument(args, 1, 'boolean')
    const missing = isUndefined(operand) || (boolean !== undefined && truthy(boolean) && !truthy(operand))
    return missing ? other : operand
  },
  list: (operand, _args, _environment, budget) => arrayOf([...items(operand, 'list', budget)]),
  first: (operand, _args, _environment, budget) => items(operand, 'first', budget)[0] ?? undefinedValue(),
  last: (operand, _args, _environment, budget) => items(operand, 'last', budget).at(-1) ?? undefinedValue(),
  select: selection(true, false),
  reject: selection(false, false),
  selectattr: selection(true, true),
  rejectattr: selection(false, true),
  reverse: (operand, _args, _environment, budget) => {
    const reversed = [...items(operand, 'reverse', budget)].reverse()
    return isString(operand) ? stringOf(reversed.map((char) => char.value).join('')) : arrayOf(reversed)
  },
  sum: (operand, args, _environment, budget) => {
    const path = args.keywords.get('attribute')
    const numbers = items(operand, 'sum', budget).map((item) =>
      isString(path) ? attribute(item, path.value) : item,
    )
    if (!numbers.every(isNumber)) throw new TemplateError("the filter 'sum' needs numbers")
    const total = numbers.reduce((sum, number) => sum + number.value, 0)
    return numbers.every(isInteger) ? integerOf(total) : floatOf(total)
  },
  max: (operand, _args, _environment, budget) => extreme(items(operand, 'max', budget), (a, b) => a > b),
  min: (operand, _args, _environment, budget) => extreme(items(operand, 'min', budget), (a, b) => a < b),
  round: (operand, args) => {
    const digits = argument(args, 0, 'precision')
    if (!isNumber(operand)) throw new TemplateError("the filter 'round' needs a number")
    return floatOf(
      Number(operand.value.toFixed(isInteger(digits) ? Math.min(Math.max(digits.value, 0), 20) : 0)),
    )
  },
  escape: onText((text) => text.replace(/[&<>"']/g, (char) => HTML[char]!)),
  map: (operand, args, environment, budget) => {
    const list = items(operand, 'map', budget)
    budget.spend(list.length)
    const path = args.keywords.get('attribute')
    if (path !== undefined) {
      const other = args.keywords.get('default')
      return arrayOf(
        list.map((item) => {
          const value = attribute(item, str(path, budget))
          return isUndefined(value) && other ? other : value
        }),
      )
    }
    const [name, ...rest] = args.positional
    const filter = textArgument(name, 'the name of a filter')
    return arrayOf(
      list.map((item) => {
        const value = applyFilter(
          filter,
          item,
          { positional: rest, keywords: args.keywords },
          environment,
          budget,
        )
        if (!value) throw new TemplateError(`unknown filter '${filter}' of map`)
        return value
      }),
    )
  },
  items: (operand) => {
    if (isUndefined(operand)) return arrayOf([])
    if (!isMap(operand)) throw new TemplateError("the filter 'items' needs a mapping")
    return itemsOf(operand)
  },
  int: (operand, args) => {
    if (isBoolean(operand)) return integerOf(Number(operand.value))
    if (isNumber(operand)) return integerOf(Math.trunc(operand.value))
    const other = argument(args, 0, 'default') ?? integerOf(0)
    if (!isString(operand)) return other
    const number = Number(strip(operand.value))
    return strip(operand.value) !== '' && Number.isFinite(number) ? integerOf(Math.trunc(number)) : other
  },
  float: (operand, args) => {
    if (isBoolean(operand) || isNumber(operand)) return floatOf(Number(operand.value))
    const other = argument(args, 0, 'default') ?? floatOf(0)
    if (!isString(operand)) return other
    const number = Number(strip(operand.value))
    return strip(operand.value) !== '' && Number.isFinite(number) ? floatOf(number) : other
  },
}
FILTERS.d = FILTERS.default!
FILTERS.e = FILTERS.escape!
FILTERS.count = FILTERS.length!

/** The result, or undefined if the engine has the filter. */
export function applyFilter(
  name: string,
  operand: Value,
  args: FilterArguments,
  environment: Environment,
  budget: Budget,
): Value | undefined {
  const filter = Object.hasOwn(FILTERS, name) ? FILTERS[name] : undefined
  return filter?.(operand, args, environment, budget)
}
