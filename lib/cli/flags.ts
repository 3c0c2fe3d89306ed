/** The flags of each command. Those for loading and generating come from the library's tables of options. */

import { convertOptions } from '../convert'
import { requestOptions } from '../generation_options'
import { imatrixOptions } from '../imatrix'
import { loadOptions } from '../load_options'
import type { Option, Options } from '../options'
import { perplexityOptions } from '../perplexity'
import { samplingOptions } from '../sampling'
import type { TextKind } from '../validate'

export type Command =
  | 'generate'
  | 'chat'
  | 'inspect'
  | 'convert'
  | 'perplexity'
  | 'imatrix'
  | 'pull'
  | 'ls'
  | 'rm'
  | 'bench'
  | 'bench kernels'

/** A part of the parsed command line. */
export type Group = 'load' | 'generation' | 'bench' | 'convert' | 'measure' | 'hub' | 'self'

export interface CliFlag {
  kind: TextKind
  /** Where the value goes: a part of the parsed command line, and the name in it. */
  to: [Group, string]
  short?: string
  help: string
}

type Flags = Readonly<Record<string, CliFlag>>

const kebabCase = (name: string) => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)

function withDefault(help: string, option: Option): string {
  const shown = option.defaultText ?? option.default
  if (shown === undefined || option.kind === 'flag' || option.kind === 'texts' || option.kind === 'adapters')
    return help
  return `${help} (default: ${shown})`
}

/** The flags of a table of options. */
function flagsOf(group: Group, options: Options): Flags {
  const flags: Record<string, CliFlag> = {}
  for (const [name, option] of Object.entries(options)) {
    const { kind = 'text', flag } = option
    if (!flag) continue
    flags[flag.name ?? kebabCase(name)] = {
      kind,
      to: [group, name],
      ...(flag.short ? { short: flag.short } : {}),
      help: withDefault(flag.help, option),
    }
  }
  return flags
}

const text = (to: [Group, string], help: string): CliFlag => ({ kind: 'text', to, help })
const integer = (to: [Group, string], help: string): CliFlag => ({ kind: 'integer', to, help })
const bench = (name: string): [Group, string] => ['bench', name]

const HELP: CliFlag = { kind: 'flag', to: ['self', 'help'], short: 'h', help: 'show this help' }
const JSON_OUTPUT: CliFlag = { kind: 'flag', to: ['self', 'json'], help: 'print one JSON object instead' }
const JSON_FILE = text(bench('json'), 'write the result to this file; - prints it instead of the table')

function modelFlag(help: string): CliFlag {
  return { kind: 'text', to: ['self', 'model'], short: 'm', help }
}

const MODEL: Flags = {
  model: modelFlag(
    'GGUF file, folder, or a name that cria pull takes (default: the demo model that comes with cria)',
  ),
  ...flagsOf('load', loadOptions),
}
const GENERATION: Flags = {
  ...flagsOf('generation', requestOptions),
  ...flagsOf('generation', samplingOptions),
}
const { threads, 'kv-dtype': kvDtype, mmap } = flagsOf('bench', loadOptions) as Record<string, CliFlag>

const CHAT: Flags = {
  system: text(['self', 'system'], 'a system message'),
  template: text(['self', 'templateFile'], "a Jinja file to use instead of the model's chat template"),
}

const CACHE: Flags = {
  'cache-dir': text(
    ['hub', 'cacheDir'],
    'the folder of the models (default: HF_HUB_CACHE, or ~/.cache/huggingface/hub)',
  ),
}

const PULL: Flags = {
  ...CACHE,
  endpoint: text(['hub', 'endpoint'], 'address of the hub (default: HF_ENDPOINT, or https://huggingface.co)'),
  offline: { kind: 'flag', to: ['hub', 'offline'], help: 'only look into the cache (HF_HUB_OFFLINE)' },
}

const BENCH: Flags = {
  model: modelFlag('GGUF file, folder, or a name that cria pull takes'),
  synthetic: text(bench('synthetic'), 'random weights of a known shape, such as llama-3.2-1b:Q4_K_M'),
  prompt: integer(bench('prompt'), 'tokens of the prompt; 0 skips it (default: 512)'),
  decode: integer(bench('decode'), 'tokens to decode; 0 skips it (default: 64)'),
  context: integer(bench('context'), 'tokens in the cache before decoding'),
  batch: integer(bench('batch'), 'requests that decode at once (default: 1)'),
  repeat: integer(bench('repeat'), 'measured rounds (default: 5)'),
  threads: threads!,
  'kv-dtype': kvDtype!,
  mmap: mmap!,
  json: JSON_FILE,
  'no-cache': {
    kind: 'flag',
    to: bench('noCache'),
    help: 'always write the synthetic file, and remove it afterwards',
  },
}

const BENCH_KERNELS: Flags = {
  op: text(bench('op'), 'kernels, such as rmsNorm,matmul (default: all)'),
  shape: text(bench('shape'), 'models whose sizes to measure (default: llama-3.1-8b)'),
  type: text(bench('type'), 'weight types (default: Q4_K,Q8_0,BF16)'),
  device: text(bench('device'), 'cpu, cuda or cuda:<n> (default: cpu)'),
  isa: text(bench('isa'), 'instruction-set levels (default: the one in use)'),
  filter: text(bench('filter'), 'only kernels whose name contains this'),
  threads: threads!,
  warmup: integer(bench('warmup'), 'runs before the measurement (default: 3)'),
  iterations: integer(bench('iterations'), 'measured runs (default: enough for half a second)'),
  json: JSON_FILE,
  csv: text(bench('csv'), 'write the table to this file'),
  svg: text(bench('svg'), 'write a roofline plot to this file'),
  compare: text(bench('compare'), 'file of an earlier --json; exit code 1 if a kernel became slower'),
  threshold: {
    kind: 'number',
    to: bench('threshold'),
    help: 'slowdown that --compare reports, as a fraction (default: 0.1)',
  },
}

export const FLAGS: Readonly<Record<Command, Flags>> = {
  generate: { ...MODEL, ...GENERATION, json: JSON_OUTPUT, help: HELP },
  chat: { ...MODEL, ...GENERATION, ...CHAT, json: JSON_OUTPUT, help: HELP },
  inspect: { model: MODEL.model!, json: JSON_OUTPUT, help: HELP },
  pull: { ...PULL, json: JSON_OUTPUT, help: HELP },
  ls: { ...CACHE, json: JSON_OUTPUT, help: HELP },
  rm: { ...CACHE, json: JSON_OUTPUT, help: HELP },
  convert: { ...flagsOf('convert', convertOptions), json: JSON_OUTPUT, help: HELP },
  perplexity: {
    model: MODEL.model!,
    ...flagsOf('measure', perplexityOptions),
    json: JSON_OUTPUT,
    help: HELP,
  },
  imatrix: { model: MODEL.model!, ...flagsOf('measure', imatrixOptions), json: JSON_OUTPUT, help: HELP },
  bench: { ...BENCH, help: HELP },
  'bench kernels': { ...BENCH_KERNELS, help: HELP },
}
