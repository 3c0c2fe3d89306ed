/**
 * Options as data. The table of a call says for each option how to check it, its default, and its flag on the
 * command line. The checks, the values that the addon gets, their types in native.ts, and the flags and
 * `--help` of the command `cria` come from the table; a test compares the docstrings and the README with it.
 */

import type { Parsed, Rule } from './validate'

/** An option of the command `cria`. */
export interface Flag {
  /** Default: the option's name in kebab case. */
  readonly name?: string
  /** One letter. */
  readonly short?: string
  /** For `--help`, which adds the default. */
  readonly help: string
}

export interface OptionFacts<T> {
  /**
   * The value that the addon gets if the option is absent. Options without one do not reach the addon as they
   * are.
   */
  readonly default?: T
  /** The default in words, where `default` is missing or a sentinel by which the addon decides. */
  readonly defaultText?: string
  readonly flag?: Flag
}

export type Option<T = unknown> = Rule<T> & OptionFacts<T>

export type Options = Readonly<Record<string, Option>>

/** A table that lists exactly the options of the public type `T`, with rules that yield its values. */
export type OptionsOf<T> = { readonly [K in keyof T]-?: Option<Exclude<T[K], undefined>> }

/** The values that the addon gets: those of the options with a `default`. */
export type AddonValues<O extends Options> = {
  [K in keyof O as O[K] extends { default: unknown } ? K : never]: O[K] extends Rule<infer T> ? T : never
}

export function option<T, F extends OptionFacts<NoInfer<T>>>(rule: Rule<T>, facts: F): Rule<T> & F {
  return { ...rule, ...facts }
}

/** Checked values as the addon gets them, completed by the defaults. */
export function addonValues<O extends Options>(options: O, values: Parsed<O>): AddonValues<O> {
  const completed: Record<string, unknown> = {}
  for (const [name, { default: fallback }] of Object.entries(options)) {
    if (fallback !== undefined) completed[name] = values[name] ?? fallback
  }
  return completed as AddonValues<O>
}
