/** Measures a model through the public API: the speed of prompts and decoding, load time, memory. */

import { loadavg } from 'node:os'
import { CriaError, invalidArgument } from '../errors'
import type { Usage } from '../generation'
import type { LoadModelOptions } from '../load_options'
import { loadModel, type Model, type ModelInfo } from '../model'
import { abortSignal, boolean, callback, checkOptions, integer, oneOf, type Rules, string } from '../validate'
import { type Figure, figure } from './figures'
import { type MachineInfo, measureMachine, versions } from './machine'
import { RandomWords } from './random_weights'
import { type Limits, limits, type Workload, workloadOf } from './workload'

export interface BenchOptions {
  /** The GGUF file. */
  path: string
  /** Length of the measured prompt in tokens; 0 skips it. Default 512. */
  prompt?: number | undefined
  /** Number of measured decode steps; 0 skips decoding. Default 64. */
  decode?: number | undefined
  /** Tokens in the KV cache when decoding begins. Default 0. */
  context?: number | undefined
  /** Requests that decode at the same time. The prompt is always measured with one request. Default 1. */
  batch?: number | undefined
  /** Counted rounds, after one to warm up. Default 5. */
  repeat?: number | undefined
  threads?: number | undefined
  kvDtype?: 'f16' | 'f32' | undefined
  mmap?: boolean | undefined
  /** Called with a description of each phase as it begins. */
  onPhase?: ((phase: string) => void) | undefined
  signal?: AbortSignal | undefined
}

const rules = {
  path: string(),
  prompt: integer(0, 2 ** 20),
  decode: integer(0, 2 ** 20),
  context: integer(0, 2 ** 20),
  batch: integer(1, 64),
  repeat: integer(1, 1000),
  threads: integer(1, 1024),
  kvDtype: oneOf('f16', 'f32'),
  mmap: boolean(),
  onPhase: callback<(phase: string) => void>(),
  signal: abortSignal(),
} satisfies Rules

export interface BenchSettings {
  prompt: number
  decode: number
  context: number
  batch: number
  repeat: number
  threads: number
}

/** Sizes in bytes. */
export interface BenchMemory {
  /** The peak of the process's resident memory, before the limits of the machine are measured. */
  peak: number
  weights: number
  kv: number
  /** The rest of the peak: Node.js, activations, the vocabulary. */
  rest: number
}

export interface BenchResult {
  versions: Record<string, string>
  date: string
  /** The load average of the minute before. Above 0, other processes were running. */
  loadAverage: number
  machine: MachineInfo
  model: Pick<ModelInfo, 'name' | 'fileBytes' | 'parameters' | 'tensorTypes' | 'contextLength' | 'kvDtype'>
  settings: BenchSettings
  workload: Workload
  limits: Limits
  /** Speeds in tokens/s, times in milliseconds. */
  figures: {
    prompt?: Figure
    decode?: Figure
    /** Loading, with the file in the page cache. */
    load: Figure
    /** From the start of loading to the first token after a prompt of one token. */
    firstToken: Figure
  }
  memory: BenchMemory
}

/** Loads measured at most. */
const MAX_LOADS = 5

/**
 * Measures a model. After the rounds, measuring the limits of the machine takes some seconds more.
 * @throws (rejects) ERR_INVALID_ARGUMENT, and what loading and generating throw
 */
export async function bench(options: BenchOptions): Promise<BenchResult> {
  const { path, onPhase, signal, load, ...rest } = checkBenchOptions(options)
  const { prompt, decode, context, repeat } = rest
  const before = loadavg()[0]!
  onPhase('loading')
  const model = await loadModel(path, load)
  const { info } = model
  let samples: { prompt: number[]; decode: number[] }
  try {
    samples = await speeds(model, rest, onPhase, signal)
  } finally {
    await model.dispose()
  }
  // Read now: what follows allocates memory of its own.
  const peak = process.resourceUsage().maxRSS * 1024
  const workload = await workloadOf(path, load.kvDtype, signal)
  const { loads, firstTokens } = await loadTimes(path, load, Math.min(repeat, MAX_LOADS), onPhase)
  onPhase('measuring the machine')
  const machine = await measureMachine(info.threads, signal)
  return {
    versions: versions(),
    date: new Date().toISOString(),
    loadAverage: before,
    machine,
    model: {
      name: info.name,
      fileBytes: info.fileBytes,
      parameters: info.parameters,
      tensorTypes: info.tensorTypes,
      contextLength: info.contextLength,
      kvDtype: info.kvDtype,
    },
    settings: { ...rest, threads: info.threads },
    workload,
    limits: limits(workload, machine.ceilings, Math.max(context, 1) + decode / 2, rest.batch),
    figures: {
      ...(prompt > 0 ? { prompt: figure('tokens/s', samples.prompt) } : {}),
      ...(decode > 0 ? { decode: figure('tokens/s', samples.decode) } : {}),
      load: figure('ms', loads),
      firstToken: figure('ms', firstTokens),
    },
    memory: {
      peak,
      weights: info.weightBytes,
      kv: info.kvBytes,
      rest: peak - info.weightBytes - info.kvBytes,
    },
  }
}

/**
 * Checks the options and fills in the defaults.
 * @throws ERR_INVALID_ARGUMENT
 */
export function checkBenchOptions(options: BenchOptions) {
  const values = checkOptions('bench', options, rules)
  const { path, prompt = 512, decode = 64, context = 0, batch = 1, repeat = 5, signal } = values
  if (path === undefined) throw invalidArgument('bench', "option 'path'", rules.path.expected, path)
  if (prompt === 0 && decode === 0) {
    throw invalidArgument('bench', "option 'decode'", "more than 0 when option 'prompt' is 0", 0, {
      option: 'decode',
    })
  }
  const load: LoadModelOptions = {
    threads: values.threads,
    kvDtype: values.kvDtype,
    mmap: values.mmap,
    signal,
    // Just enough for both measurements. Each decoding request has tokens of its own.
    contextLength: Math.max(prompt + 1, decode > 0 ? batch * (Math.max(context, 1) + decode + 1) : 0),
  }
  return { path, prompt, decode, context, batch, repeat, load, signal, onPhase: values.onPhase ?? (() => {}) }
}

/** Milliseconds to load a file that is in the page cache, and to the first token. */
async function loadTimes(
  path: string,
  options: LoadModelOptions,
  count: number,
  onPhase: (phase: string) => void,
): Promise<{ loads: number[]; firstTokens: number[] }> {
  const loads: number[] = []
  const firstTokens: number[] = []
  for (let round = 1; round <= count; round++) {
    onPhase(`load ${round} of ${count}`)
    const begin = performance.now()
    const model = await loadModel(path, options)
    try {
      loads.push(performance.now() - begin)
      await run(model, Uint32Array.of(model.tokenizer.bos ?? 0), 1, options.signal)
      firstTokens.push(performance.now() - begin)
    } finally {
      await model.dispose()
    }
  }
  return { loads, firstTokens }
}

/** Tokens per second in each round, after one round to warm up. */
async function speeds(
  model: Model,
  { prompt, decode, context, batch, repeat }: Omit<BenchSettings, 'threads'>,
  onPhase: (phase: string) => void,
  signal: AbortSignal | undefined,
): Promise<{ prompt: number[]; decode: number[] }> {
  const random = new RandomWords(1)
  // Different tokens every time: the KV cache must not hold a prefix of them.
  const ids = (length: number) => Uint32Array.from({ length }, () => random.below(model.info.vocabSize))
  // The contexts stay in the KV cache, so a long context is computed in the first round only.
  const contexts = Array.from({ length: batch }, () => ids(Math.max(context, 1)))
  const samples = { prompt: [] as number[], decode: [] as number[] }
  for (let round = 0; round <= repeat; round++) {
    onPhase(round === 0 ? 'warming up' : `round ${round} of ${repeat}`)
    if (prompt > 0) {
      const { prefillMs } = await run(model, ids(prompt), 1, signal)
      if (round > 0) samples.prompt.push((1e3 * prompt) / prefillMs)
    }
    if (decode > 0) {
      const usages = await Promise.all(contexts.map((tokens) => run(model, tokens, decode + 1, signal, true)))
      // The first token belongs to the prompt; decodeMs covers the others.
      const decodeMs = Math.max(...usages.map((usage) => usage.decodeMs))
      if (round > 0) samples.decode.push((1e3 * batch * decode) / decodeMs)
    }
  }
  return samples
}

/** Runs a prompt and generates exactly `tokens` tokens. */
async function run(
  model: Model,
  ids: Uint32Array,
  tokens: number,
  signal: AbortSignal | undefined,
  mayBeCached = false,
): Promise<Usage> {
  const { usage } = await model.generate(ids, { maxTokens: tokens, ignoreEos: true, temperature: 0, signal })
  if (usage.generatedTokens !== tokens || (usage.cachedTokens !== 0 && !mayBeCached)) {
    throw new CriaError(
      'ERR_INTERNAL',
      `bench: expected ${tokens} generated and no cached tokens, ` +
        `got ${usage.generatedTokens} and ${usage.cachedTokens}`,
    )
  }
  return usage
}
