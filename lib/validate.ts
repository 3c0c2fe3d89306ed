/** Checks of what callers pass. A table of rules lists a call's options; everything else is refused. */

import { CriaError, invalidArgument } from './errors'

/** How the command line reads a value for a rule. */
export type TextKind =
  | 'text'
  | 'texts'
  | 'adapters'
  | 'flag'
  | 'number'
  | 'integer'
  | 'integerOrInfinity'
  | 'seed'

/** A check of one value. */
export interface Rule<T> {
  /** Completes "must be ...". */
  readonly expected: string
  /** Default: `'text'`. */
  readonly kind?: TextKind
  /** The value in the form that the library uses, or `undefined` if it does not fit. */
  parse(value: unknown): T | undefined
}

export type Rules = Record<string, Rule<unknown>>

/** The checked values of a table of rules. */
export type Parsed<R extends Rules> = { [K in keyof R]?: R[K] extends Rule<infer T> ? T : never }

export function custom<T>(
  expected: string,
  parse: (value: unknown) => T | undefined,
  kind: TextKind = 'text',
): Rule<T> {
  return { expected, kind, parse }
}

export function number(min: number, max: number, note = ''): Rule<number> {
  return custom(
    `a number from ${min} to ${max}${note}`,
    (value) => (typeof value === 'number' && value >= min && value <= max ? value : undefined),
    'number',
  )
}

/** Larger bounds are the addon's, not the user's: messages leave them out. */
const MAX_INT32 = 2 ** 31 - 1

export function integer(min: number, max: number = MAX_INT32, note = ''): Rule<number> {
  const range = max >= MAX_INT32 ? `an integer of at least ${min}` : `an integer from ${min} to ${max}`
  const fits = (value: unknown): value is number =>
    Number.isInteger(value) && (value as number) >= min && (value as number) <= max
  return custom(`${range}${note}`, (value) => (fits(value) ? value : undefined), 'integer')
}

/** An integer, or Infinity, which becomes -1: the addon's "no limit". */
export function integerOrInfinity(min: number): Rule<number> {
  return custom(
    `an integer of at least ${min}, or Infinity`,
    (value) => (value === Infinity ? -1 : integer(min).parse(value)),
    'integerOrInfinity',
  )
}

export function boolean(): Rule<boolean> {
  return custom('a boolean', (value) => (typeof value === 'boolean' ? value : undefined), 'flag')
}

export function string(note = ''): Rule<string> {
  return custom(`a string${note}`, (value) => (typeof value === 'string' ? value : undefined))
}

export function oneOf<T extends string>(...values: T[]): Rule<T> {
  return custom(values.map((value) => `'${value}'`).join(' or '), (value) =>
    values.find((one) => one === value),
  )
}

export function matching<T extends string>(expected: string, pattern: RegExp): Rule<T> {
  return custom(expected, (value) =>
    typeof value === 'string' && pattern.test(value) ? (value as T) : undefined,
  )
}

/** Any function; its parameters cannot be checked. */
// biome-ignore lint/complexity/noBannedTypes: the public types declare the parameters
export function callback<F extends Function>(): Rule<F> {
  return custom('a function', (value) => (typeof value === 'function' ? (value as unknown as F) : undefined))
}

export function abortSignal(): Rule<AbortSignal> {
  return custom('an AbortSignal', (value) =>
    // Not instanceof: the signal may come from another realm (jest, vm contexts).
    typeof value === 'object' &&
    value !== null &&
    typeof (value as AbortSignal).aborted === 'boolean' &&
    typeof (value as AbortSignal).addEventListener === 'function'
      ? (value as AbortSignal)
      : undefined,
  )
}

export function nonEmptyStrings(): Rule<string[]> {
  return custom(
    'a non-empty string or an array of non-empty strings',
    (value) => {
      const list = Array.isArray(value) ? value : [value]
      return list.every((item) => typeof item === 'string' && item.length > 0) ? [...list] : undefined
    },
    'texts',
  )
}

/** Any array; the caller checks its elements. */
export function array<T = unknown>(note: string): Rule<T[]> {
  return custom(`an array${note}`, (value) => (Array.isArray(value) ? value : undefined))
}

export function plainObject(note: string): Rule<Record<string, unknown>> {
  return custom(`an object${note}`, (value) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined,
  )
}

/** An object of options with rules of their own. */
export function nested<R extends Rules>(rules: R): Rule<Parsed<R>> {
  const names = Object.keys(rules)
  return custom(`an object with the options ${names.join(', ')}`, (value) => {
    const checked = plainObject('').parse(value)
    if (checked === undefined) return undefined
    const parsed: Record<string, unknown> = {}
    for (const [name, given] of Object.entries(checked)) {
      if (!names.includes(name)) return undefined
      if (given === undefined) continue
      parsed[name] = rules[name]!.parse(given)
      if (parsed[name] === undefined) return undefined
    }
    return parsed as Parsed<R>
  })
}

const UNITS: Record<string, number> = {
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KIB: 2 ** 10,
  MIB: 2 ** 20,
  GIB: 2 ** 30,
  TIB: 2 ** 40,
}

/** Bytes as a number, or as text: '512MB' (10^6), '2GB' (10^9), '2GiB' (2^30). */
export function bytes(): Rule<number> {
  return custom("a positive number of bytes or text such as '512MB' or '2GiB'", (value) => {
    let amount = value
    if (typeof value === 'string') {
      const match = /^\s*(\d+(?:\.\d+)?)\s*([KMGT]i?B|B)\s*$/i.exec(value)
      if (!match) return undefined
      amount = Math.round(Number(match[1]) * UNITS[match[2]!.toUpperCase()]!)
    }
    return Number.isSafeInteger(amount) && (amount as number) > 0 ? (amount as number) : undefined
  })
}

/** Spellings from other libraries, without separators and in lower case. */
const ALIASES: Record<string, string> = {
  maxnewtokens: 'maxTokens',
  numpredict: 'maxTokens',
  npredict: 'maxTokens',
  nctx: 'contextLength',
  contextsize: 'contextLength',
  numctx: 'contextLength',
  nthreads: 'threads',
  ngpulayers: 'gpuLayers',
  ngl: 'gpuLayers',
  repeatpenalty: 'repetitionPenalty',
  repeatlastn: 'penaltyWindow',
  stopsequences: 'stop',
  abortsignal: 'signal',
  usemmap: 'mmap',
  lora: 'adapters',
  loras: 'adapters',
}

/** The known option that a misspelt name most likely stands for. */
export function closestOption(name: string, known: string[]): string | undefined {
  const plain = (text: string) => text.replace(/[_\-\s]/g, '').toLowerCase()
  const wanted = plain(name)
  const alias = ALIASES[wanted]
  if (alias && known.includes(alias)) return alias
  let best: string | undefined
  let bestDistance = Math.min(3, Math.ceil(wanted.length / 3) + 1)
  for (const candidate of known) {
    const distance = editDistance(wanted, plain(candidate))
    if (distance < bestDistance) {
      best = candidate
      bestDistance = distance
    }
  }
  return best
}

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const substitution = previous[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)
      row.push(Math.min(previous[j]! + 1, row[j - 1]! + 1, substitution))
    }
    previous = row
  }
  return previous[b.length]!
}

/**
 * Checks an options object against its table. `undefined` counts as absent.
 * @throws ERR_INVALID_ARGUMENT, which names the option, the expected value and the one found, or, for an
 * unknown option, the closest known one
 */
export function checkOptions<R extends Rules>(call: string, options: unknown, rules: R): Parsed<R> {
  if (options === undefined) return {}
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw invalidArgument(call, 'options', 'an object', options)
  }
  const parsed: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(options)) {
    const known = Object.hasOwn(rules, name) ? rules[name] : undefined
    if (!known) throw unknownOption(call, name, Object.keys(rules))
    if (value === undefined) continue
    const result = known.parse(value)
    if (result === undefined) {
      throw invalidArgument(call, `option '${name}'`, known.expected, value, { option: name })
    }
    parsed[name] = result
  }
  return parsed as Parsed<R>
}

function unknownOption(call: string, name: string, known: string[]): CriaError {
  const suggestion = closestOption(name, known)
  const hint = suggestion ? `did you mean '${suggestion}'?` : `known options: ${known.join(', ')}`
  return new CriaError('ERR_INVALID_ARGUMENT', `${call}: unknown option '${name}'; ${hint}`, {
    details: { call, option: name, known, ...(suggestion ? { suggestion } : {}) },
  })
}

/** Checks one argument. */
export function checkArgument<T>(call: string, name: string, value: unknown, wanted: Rule<T>): T {
  const result = wanted.parse(value)
  if (result === undefined) throw invalidArgument(call, name, wanted.expected, value)
  return result
}

/**
 * A copy of token ids, as the addon takes them.
 * @throws ERR_INVALID_ARGUMENT, which names the first element that is no id of the vocabulary
 */
export function checkTokenIds(call: string, name: string, ids: unknown, vocabSize: number): Uint32Array {
  if (!(Array.isArray(ids) || (ArrayBuffer.isView(ids) && !(ids instanceof DataView)))) {
    throw invalidArgument(call, name, 'a Uint32Array or an array of token ids', ids)
  }
  const list = ids as ArrayLike<unknown>
  // Not instanceof: the array may come from another realm. Copied, so that the caller cannot change it later.
  const trusted = Object.prototype.toString.call(ids) === '[object Uint32Array]'
  const checked = trusted ? new Uint32Array(ids as Uint32Array) : new Uint32Array(list.length)
  const bad = trusted ? firstAbove(checked, vocabSize) : copyIds(list, checked, vocabSize)
  if (bad >= 0) {
    const expected = `a token id from 0 to ${vocabSize - 1}`
    throw invalidArgument(call, `${name}[${bad}]`, expected, list[bad], { index: bad, vocabSize })
  }
  return checked
}

// Plain loops without calls: a megabyte of text is hundreds of thousands of ids, and this is the JS thread.

/** Index of the first id outside the vocabulary, or -1. */
function firstAbove(ids: Uint32Array, vocabSize: number): number {
  for (let index = 0; index < ids.length; index++) if (ids[index]! >= vocabSize) return index
  return -1
}

/** Copies ids. Returns the index of the first element that is no id of the vocabulary, or -1. */
function copyIds(list: ArrayLike<unknown>, into: Uint32Array, vocabSize: number): number {
  for (let index = 0; index < into.length; index++) {
    const id = list[index] as number
    if (typeof id !== 'number' || id >>> 0 !== id || id >= vocabSize) return index
    into[index] = id
  }
  return -1
}
