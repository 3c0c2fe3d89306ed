import { type ParseArgsConfig, parseArgs } from 'node:util'
import { FILE_TYPES, SHAPE_NAMES } from '../bench/shapes'
import { closestOption } from '../validate'

/** A mistake on the command line: told in one line, with exit code 2. */
export class UsageError extends Error {}

type Command = 'generate' | 'chat' | 'inspect' | 'bench' | 'bench kernels'

export interface CommandLine {
  command: Command | 'help' | 'version'
  /** The command that `help` was asked about. */
  topic?: Command
  prompt?: string
  model?: string
  system?: string
  templateFile?: string
  json: boolean
  load: Record<string, unknown>
  generation: Record<string, unknown>
  bench?: Record<string, unknown>
}

type Kind = 'integer' | 'number' | 'text' | 'texts' | 'flag' | 'seed' | 'limit'

interface Option {
  kind: Kind
  /** Where the value goes: a group of the command line and the name there. */
  to: ['load' | 'generation' | 'bench' | 'self', string]
  short?: string
  help: string
}

const MODEL: Record<string, Option> = {
  model: {
    kind: 'text',
    to: ['self', 'model'],
    short: 'm',
    help: 'GGUF file (default: the demo model that comes with cria)',
  },
  device: { kind: 'text', to: ['load', 'device'], help: 'auto, cpu, cuda or cuda:<n> (default: auto)' },
  'gpu-layers': {
    kind: 'integer',
    to: ['load', 'gpuLayers'],
    help: 'last layers that run on the CUDA device (default: all that fit)',
  },
  threads: { kind: 'integer', to: ['load', 'threads'], help: 'CPU threads (default: physical cores)' },
  ctx: {
    kind: 'integer',
    to: ['load', 'contextLength'],
    help: "context length in tokens (default: the model's)",
  },
  'kv-memory': {
    kind: 'text',
    to: ['load', 'kvMemory'],
    help: "KV cache memory, e.g. '512MB' (default: automatic)",
  },
  'kv-dtype': { kind: 'text', to: ['load', 'kvDtype'], help: 'f16 or f32 (default: f16)' },
  mmap: { kind: 'flag', to: ['load', 'mmap'], help: 'map the file rather than read it' },
}

const SAMPLING: Record<string, Option> = {
  'max-tokens': {
    kind: 'limit',
    to: ['generation', 'maxTokens'],
    short: 'n',
    help: 'at most this many tokens, or inf',
  },
  temperature: {
    kind: 'number',
    to: ['generation', 'temperature'],
    short: 't',
    help: '0: always the likeliest (default: 0.8)',
  },
  'top-k': {
    kind: 'integer',
    to: ['generation', 'topK'],
    help: 'keep the k likeliest tokens (default: 40; 0: off)',
  },
  'top-p': {
    kind: 'number',
    to: ['generation', 'topP'],
    help: 'keep this much probability (default: 0.95; 1: off)',
  },
  'min-p': {
    kind: 'number',
    to: ['generation', 'minP'],
    help: 'relative to the likeliest (default: 0.05; 0: off)',
  },
  'typical-p': {
    kind: 'number',
    to: ['generation', 'typicalP'],
    help: 'locally typical sampling (default: 1, off)',
  },
  'repetition-penalty': { kind: 'number', to: ['generation', 'repetitionPenalty'], help: 'default: 1, off' },
  'frequency-penalty': { kind: 'number', to: ['generation', 'frequencyPenalty'], help: 'default: 0, off' },
  'presence-penalty': { kind: 'number', to: ['generation', 'presencePenalty'], help: 'default: 0, off' },
  seed: {
    kind: 'seed',
    to: ['generation', 'seed'],
    short: 's',
    help: 'same seed, same text (default: random)',
  },
  stop: {
    kind: 'texts',
    to: ['generation', 'stop'],
    help: 'stop before this text; may be given several times',
  },
  'ignore-eos': { kind: 'flag', to: ['generation', 'ignoreEos'], help: "go on after the model's end token" },
}

const BENCH: Record<string, Option> = {
  model: { ...MODEL.model!, help: 'GGUF file' },
  synthetic: {
    kind: 'text',
    to: ['bench', 'synthetic'],
    help: 'random weights in a known shape, e.g. llama-3.2-1b:Q4_K_M',
  },
  prompt: { kind: 'integer', to: ['bench', 'prompt'], help: 'tokens of the prompt (default: 512; 0: none)' },
  decode: { kind: 'integer', to: ['bench', 'decode'], help: 'tokens to decode (default: 64; 0: none)' },
  context: { kind: 'integer', to: ['bench', 'context'], help: 'tokens in the cache before decoding' },
  batch: { kind: 'integer', to: ['bench', 'batch'], help: 'requests that decode at once (default: 1)' },
  repeat: { kind: 'integer', to: ['bench', 'repeat'], help: 'rounds that count (default: 5)' },
  threads: { ...MODEL.threads!, to: ['bench', 'threads'] },
  'kv-dtype': { ...MODEL['kv-dtype']!, to: ['bench', 'kvDtype'] },
  mmap: { ...MODEL.mmap!, to: ['bench', 'mmap'] },
  json: {
    kind: 'text',
    to: ['bench', 'json'],
    help: 'write the result to this file; -: instead of the table',
  },
  'no-cache': {
    kind: 'flag',
    to: ['bench', 'noCache'],
    help: 'make the synthetic file anew, and remove it afterwards',
  },
}

const BENCH_KERNELS: Record<string, Option> = {
  op: { kind: 'text', to: ['bench', 'op'], help: 'kernels, e.g. rmsNorm,matmul (default: all)' },
  shape: { kind: 'text', to: ['bench', 'shape'], help: 'models whose sizes to run (default: llama-3.1-8b)' },
  type: { kind: 'text', to: ['bench', 'type'], help: 'weight types (default: Q4_K,Q8_0,BF16)' },
  device: { kind: 'text', to: ['bench', 'device'], help: 'cpu, cuda or cuda:<n> (default: cpu)' },
  isa: { kind: 'text', to: ['bench', 'isa'], help: 'instruction-set levels (default: the one in use)' },
  filter: { kind: 'text', to: ['bench', 'filter'], help: 'only what has this in its name' },
  threads: { ...MODEL.threads!, to: ['bench', 'threads'] },
  warmup: { kind: 'integer', to: ['bench', 'warmup'], help: 'runs that do not count (default: 3)' },
  iterations: {
    kind: 'integer',
    to: ['bench', 'iterations'],
    help: 'runs that count (default: half a second)',
  },
  json: {
    kind: 'text',
    to: ['bench', 'json'],
    help: 'write the result to this file; -: instead of the table',
  },
  csv: { kind: 'text', to: ['bench', 'csv'], help: 'write the table to this file' },
  svg: { kind: 'text', to: ['bench', 'svg'], help: 'write a roofline plot to this file' },
  compare: {
    kind: 'text',
    to: ['bench', 'compare'],
    help: 'an earlier --json; exit code 1 when a kernel got slower',
  },
  threshold: { kind: 'number', to: ['bench', 'threshold'], help: 'by more than this share (default: 0.1)' },
}

const JSON_OPTION: Option = { kind: 'flag', to: ['self', 'json'], help: 'print one JSON object instead' }
const HELP: Option = { kind: 'flag', to: ['self', 'help'], short: 'h', help: 'show this' }

const OPTIONS: Record<Command, Record<string, Option>> = {
  generate: { ...MODEL, ...SAMPLING, json: JSON_OPTION, help: HELP },
  chat: {
    ...MODEL,
    ...SAMPLING,
    system: { kind: 'text', to: ['self', 'system'], help: 'a system message' },
    template: {
      kind: 'text',
      to: ['self', 'templateFile'],
      help: "a Jinja file in the place of the model's chat template",
    },
    json: JSON_OPTION,
    help: HELP,
  },
  inspect: { model: MODEL.model!, json: JSON_OPTION, help: HELP },
  bench: { ...BENCH, help: HELP },
  'bench kernels': { ...BENCH_KERNELS, help: HELP },
}

const USAGE = {
  generate:
    'cria generate [options] [prompt]\n\nContinues a text. With - the prompt is read from standard input.',
  chat:
    'cria chat [options] [message]\n\nA conversation; with a message, or with standard input from a file, one answer.\n' +
    'In a conversation: /clear forgets it, /exit leaves, Ctrl-C stops an answer.',
  inspect: 'cria inspect [options] [file]\n\nShows the metadata and tensors of a GGUF file.',
  bench:
    'cria bench --model <file> | --synthetic <shape>:<type> [options]\n\nMeasures a model, and this machine beside it. ' +
    `Medians, of one request at a time.\nShapes: ${SHAPE_NAMES.join(', ')}.\n` +
    `Types: ${FILE_TYPES.slice(0, 12).join(', ')},\n  ${FILE_TYPES.slice(12).join(', ')}.\n` +
    'They are made once, and kept in ~/.cache/cria/bench.\n' +
    'cria bench kernels measures the kernels alone.',
  'bench kernels':
    'cria bench kernels [options]\n\nMeasures the kernels in the sizes of known models, beside what this machine can do.\n' +
    `Shapes: ${SHAPE_NAMES.join(', ')}. Lists are separated by commas.`,
}

export function helpText(topic?: Command): string {
  if (!topic) {
    return [
      'cria: Llama models on this machine',
      '',
      '  cria generate [prompt]   continue a text',
      '  cria chat [message]      converse',
      '  cria inspect [file]      show what is in a GGUF file',
      '  cria bench               measure a model on this machine',
      '  cria bench kernels       measure its kernels alone',
      '  cria <command> --help    options of a command',
      '  cria --version',
      '',
      'Without --model the small demo model is used.',
      '',
    ].join('\n')
  }
  const lines = Object.entries(OPTIONS[topic]).map(([name, { short, kind, help }]) => {
    const left = `${short ? `-${short}, ` : '    '}--${name}${kind === 'flag' ? '' : ' <value>'}`
    return `  ${left.padEnd(34)}${help}`
  })
  return `Usage: ${USAGE[topic]}\n\n${lines.join('\n')}\n`
}

function convert(name: string, kind: Kind, value: unknown): unknown {
  if (kind === 'flag' || kind === 'texts' || kind === 'text') return value
  const text = String(value).trim()
  if (kind === 'limit' && /^(inf|infinity)$/i.test(text)) return Infinity
  if (kind === 'seed' && /^\d+$/.test(text)) {
    const seed = BigInt(text)
    return seed <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(seed) : seed
  }
  const number = text === '' ? Number.NaN : Number(text)
  const fits = kind === 'number' ? Number.isFinite(number) : Number.isSafeInteger(number)
  if (!fits) {
    throw new UsageError(`--${name} needs ${kind === 'number' ? 'a number' : 'an integer'}, got '${text}'`)
  }
  return number
}

export function parseCommandLine(argv: string[]): CommandLine {
  const line: CommandLine = { command: 'help', json: false, load: {}, generation: {} }
  let [first, ...rest] = argv
  if (first === 'bench' && rest[0] === 'kernels') {
    first = 'bench kernels'
    rest = rest.slice(1)
  }
  if (first === undefined || first === '--help' || first === '-h' || first === 'help') {
    const topic = rest[0] === 'bench' && rest[1] === 'kernels' ? 'bench kernels' : rest[0]
    if (topic !== undefined && Object.hasOwn(OPTIONS, topic)) line.topic = topic as keyof typeof OPTIONS
    return line
  }
  if (first === '--version' || first === '-v' || first === 'version') return { ...line, command: 'version' }
  if (!Object.hasOwn(OPTIONS, first)) {
    const hint = closestOption(first, Object.keys(OPTIONS))
    throw new UsageError(
      `unknown command '${first}'${hint ? `; did you mean '${hint}'?` : '; see cria --help'}`,
    )
  }
  const command = first as keyof typeof OPTIONS
  const options = OPTIONS[command]
  const config: NonNullable<ParseArgsConfig['options']> = {}
  for (const [name, { kind, short }] of Object.entries(options)) {
    config[name] = {
      type: kind === 'flag' ? 'boolean' : 'string',
      ...(kind === 'texts' ? { multiple: true } : {}),
      ...(short ? { short } : {}),
    }
  }
  let parsed: { values: Record<string, unknown>; positionals: string[] }
  try {
    parsed = parseArgs({ args: rest, options: config, allowPositionals: true, strict: true })
  } catch (error) {
    throw new UsageError(explain(error, command, rest))
  }
  if (parsed.values.help) return { ...line, topic: command }
  line.command = command
  const groups = { self: {}, bench: {}, load: line.load, generation: line.generation }
  for (const [name, value] of Object.entries(parsed.values)) {
    const { kind, to } = options[name]!
    const [group, key] = to
    const target: Record<string, unknown> = groups[group]
    target[key] = convert(name, kind, value)
  }
  Object.assign(line, groups.self)
  if (command === 'bench' || command === 'bench kernels') line.bench = groups.bench
  const { positionals } = parsed
  if (command === 'bench kernels' && positionals.length > 0)
    throw new UsageError(`bench kernels takes options only, got '${positionals[0]}'`)
  if (command === 'bench' && positionals.length > 0)
    throw new UsageError(`bench takes options only, got '${positionals[0]}'; the file goes after --model`)
  if (positionals.length > 1) {
    throw new UsageError(
      `one ${command === 'inspect' ? 'file' : 'prompt'} at most, got ${positionals.length}; put it in quotes`,
    )
  }
  const [positional] = positionals
  if (positional !== undefined) {
    if (command === 'inspect') {
      if (line.model !== undefined) throw new UsageError('inspect: the file was given twice')
      line.model = positional
    } else line.prompt = positional
  }
  return line
}

/** node:util's messages run over several lines; ours say the same in one, with the option that was perhaps meant. */
function explain(error: unknown, command: keyof typeof OPTIONS, argv: string[]): string {
  const message = error instanceof Error ? error.message : String(error)
  const unknown = /Unknown option '(-+)([^']*)'/.exec(message)
  if (unknown) {
    const hint = closestOption(unknown[2]!, Object.keys(OPTIONS[command]))
    return `unknown option '${unknown[1]}${unknown[2]}'${hint ? `; did you mean '--${hint}'?` : `; see cria ${command} --help`}`
  }
  return message.split(/\.\s|\n/, 1)[0] ?? argv.join(' ')
}
