/** Parses the command line of `cria`. */

import { type ParseArgsConfig, parseArgs } from 'node:util'
import { parseAdapter } from '../adapters'
import { closestOption, type TextKind } from '../validate'
import { type Command, FLAGS, type Group } from './flags'

/** A mistake on the command line: reported in one line, with exit code 2. */
export class UsageError extends Error {}

export interface CommandLine {
  command: Command | 'help' | 'version'
  /** The command that `help` explains. */
  topic?: Command
  prompt?: string
  model?: string
  /** The models of `pull` and `rm`. */
  models?: string[]
  system?: string
  templateFile?: string
  json: boolean
  load: Record<string, unknown>
  generation: Record<string, unknown>
  hub?: Record<string, unknown>
  bench?: Record<string, unknown>
  convert?: Record<string, unknown>
  measure?: Record<string, unknown>
  /** The paths of a command that takes several. */
  files?: string[]
}

export function parseCommandLine(argv: string[]): CommandLine {
  const line: CommandLine = {
    command: 'help',
    json: false,
    load: {},
    generation: {},
  }
  const [first, rest] = splitCommand(argv)
  if (first === undefined || first === '--help' || first === '-h' || first === 'help') {
    const [topic] = splitCommand(rest)
    if (isCommand(topic)) line.topic = topic
    return line
  }
  if (first === '--version' || first === '-v' || first === 'version') return { ...line, command: 'version' }
  if (!isCommand(first)) {
    const hint = closestOption(first, Object.keys(FLAGS))
    const advice = hint ? `did you mean '${hint}'?` : 'see cria --help'
    throw new UsageError(`unknown command '${first}'; ${advice}`)
  }
  const { values, positionals } = parseFlags(first, rest)
  if (values.help) return { ...line, topic: first }
  line.command = first
  takeValues(line, values)
  takePositionals(line, positionals)
  return line
}

/** The first word, or the two of `bench kernels`, and the rest. */
function splitCommand([first, ...rest]: string[]): [string | undefined, string[]] {
  return first === 'bench' && rest[0] === 'kernels' ? ['bench kernels', rest.slice(1)] : [first, rest]
}

function isCommand(name: string | undefined): name is Command {
  return name !== undefined && Object.hasOwn(FLAGS, name)
}

function parseFlags(
  command: Command,
  args: string[],
): { values: Record<string, unknown>; positionals: string[] } {
  const options: NonNullable<ParseArgsConfig['options']> = {}
  for (const [name, { kind, short }] of Object.entries(FLAGS[command])) {
    options[name] = {
      type: kind === 'flag' ? 'boolean' : 'string',
      ...(kind === 'texts' || kind === 'adapters' ? { multiple: true } : {}),
      ...(short ? { short } : {}),
    }
  }
  try {
    return parseArgs({ args, options, allowPositionals: true, strict: true })
  } catch (error) {
    throw new UsageError(explain(error, command))
  }
}

/**
 * node:util's messages have several lines. This is the first sentence, or the closest option to an unknown
 * one.
 */
function explain(error: unknown, command: Command): string {
  const message = error instanceof Error ? error.message : String(error)
  const [, dashes, name] = /Unknown option '(-+)([^']*)'/.exec(message) ?? []
  if (name === undefined) return message.split(/\.\s|\n/, 1)[0]!
  const hint = closestOption(name, Object.keys(FLAGS[command]))
  const advice = hint ? `did you mean '--${hint}'?` : `see cria ${command} --help`
  return `unknown option '${dashes}${name}'; ${advice}`
}

function takeValues(line: CommandLine, values: Record<string, unknown>): void {
  const command = line.command as Command
  if (command === 'bench' || command === 'bench kernels') line.bench = {}
  if (command === 'pull' || command === 'ls' || command === 'rm') line.hub = {}
  if (command === 'convert') line.convert = {}
  if (command === 'perplexity' || command === 'imatrix') line.measure = {}
  for (const [flag, value] of Object.entries(values)) {
    const { kind, to } = FLAGS[command][flag]!
    const [group, name] = to
    groupOf(line, group)[name] = convert(flag, kind, value)
  }
}

function groupOf(line: CommandLine, group: Group): Record<string, unknown> {
  if (group === 'self') return line as unknown as Record<string, unknown>
  return line[group]!
}

function convert(flag: string, kind: TextKind, value: unknown): unknown {
  if (kind === 'flag' || kind === 'texts' || kind === 'text') return value
  if (kind === 'adapters') {
    return (value as string[]).map((text) => {
      const adapter = parseAdapter(text)
      if (!adapter) throw new UsageError(`--${flag} needs <path> or <path>:<scale>, got '${text}'`)
      return adapter
    })
  }
  const text = String(value).trim()
  if (kind === 'integerOrInfinity' && /^(inf|infinity)$/i.test(text)) return Infinity
  if (kind === 'seed' && /^\d+$/.test(text)) {
    const seed = BigInt(text)
    return seed <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(seed) : seed
  }
  const number = text === '' ? Number.NaN : Number(text)
  const fits = kind === 'number' ? Number.isFinite(number) : Number.isSafeInteger(number)
  if (!fits) {
    throw new UsageError(`--${flag} needs ${kind === 'number' ? 'a number' : 'an integer'}, got '${text}'`)
  }
  return number
}

function takePositionals(line: CommandLine, positionals: string[]): void {
  const { command } = line
  const [first] = positionals
  if (command === 'convert' || command === 'perplexity' || command === 'imatrix') {
    line.files = positionals
    return
  }
  if (first === undefined) return
  if (command === 'pull' || command === 'rm') {
    line.models = positionals
    return
  }
  if (command === 'ls') throw new UsageError(`ls takes options only, got '${first}'`)
  if (command === 'bench kernels') throw new UsageError(`bench kernels takes options only, got '${first}'`)
  if (command === 'bench') {
    throw new UsageError(`bench takes options only, got '${first}'; name the file with --model`)
  }
  if (positionals.length > 1) {
    const kind = { inspect: 'file', chat: 'message' }[command as string] ?? 'prompt'
    throw new UsageError(`${command} takes one ${kind}, got ${positionals.length}; put it in quotes`)
  }
  if (command !== 'inspect') line.prompt = first
  else if (line.model === undefined) line.model = first
  else throw new UsageError(`inspect takes one file, got '${line.model}' and '${first}'`)
}
