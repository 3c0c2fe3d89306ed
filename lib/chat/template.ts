/** Renders a chat template like Hugging Face's transformers with Python's jinja2, but within bounds. */

import { Budget, MAX_TEMPLATE, MAX_WHITESPACE_RUN, RaisedByTemplate, TemplateError } from './budget'
import { engine } from './engine'
import { BoundedInterpreter } from './interpreter'
import { type Node, prepareTree } from './nodes'
import { strftime } from './strftime'
import { functionOf, mapOf, splitArguments } from './values'

const LONG_WHITESPACE = new RegExp(`\\s{${MAX_WHITESPACE_RUN}}`)

const parsed = new Map<string, Node>()
const MAX_PARSED = 8

function parseTemplate(template: string): Node {
  const known = parsed.get(template)
  if (known) return known
  if (template.length > MAX_TEMPLATE) {
    throw new TemplateError(`it has ${template.length} characters, more than ${MAX_TEMPLATE}`)
  }
  if (LONG_WHITESPACE.test(template)) {
    throw new TemplateError(`it has a run of ${MAX_WHITESPACE_RUN} or more white-space characters`)
  }
  const tree = engine.parse(engine.tokenize(template, { lstrip_blocks: true, trim_blocks: true }))
  prepareTree(tree)
  if (parsed.size >= MAX_PARSED) parsed.delete(parsed.keys().next().value!)
  parsed.set(template, tree)
  return tree
}

/** Python's `range`. Spends from the budget before it builds the list. */
function rangeWithin(budget: Budget) {
  return (...args: unknown[]): number[] => {
    const numbers = args.filter((arg): arg is number => typeof arg === 'number')
    if (numbers.length === 0 || numbers.length > 3 || numbers.length !== args.length) {
      throw new TemplateError('range takes one to three integers')
    }
    const [start, stop, step] =
      numbers.length === 1 ? [0, numbers[0]!, 1] : [numbers[0]!, numbers[1]!, numbers[2] ?? 1]
    if (step === 0) throw new TemplateError('range needs a step other than 0')
    const length = Math.max(0, Math.ceil((stop - start) / step))
    budget.spend(length)
    return Array.from({ length }, (_, index) => start + index * step)
  }
}

/** Number of values and characters in the variables, which set the budget. */
function measure(value: unknown): { values: number; chars: number } {
  if (typeof value === 'string') return { values: 1, chars: value.length }
  const total = { values: 1, chars: 0 }
  if (typeof value === 'object' && value !== null) {
    for (const child of Object.values(value)) {
      const { values, chars } = measure(child)
      total.values += values
      total.chars += chars
    }
  }
  return total
}

/** @throws TemplateError, and errors of the engine; the caller converts both to one CriaError */
export function renderTemplate(
  template: string,
  variables: Record<string, unknown>,
  now: () => Date,
): string {
  const tree = parseTemplate(template)
  const { values, chars } = measure(variables)
  const budget = new Budget(values, chars)
  const environment = new engine.Environment()
  const globals: Record<string, unknown> = {
    true: true,
    True: true,
    false: false,
    False: false,
    none: null,
    None: null,
    range: rangeWithin(budget),
    strftime_now: (format: unknown) => strftime(now(), String(format)),
    raise_exception: (message: unknown) => {
      throw new RaisedByTemplate(String(message))
    },
  }
  environment.setVariable(
    'dict',
    functionOf((args) => mapOf(new Map(splitArguments(args).keywords))),
  )
  for (const [name, value] of Object.entries({ ...globals, ...variables })) environment.set(name, value)
  return String(new BoundedInterpreter(environment, budget).run(tree).value)
}
