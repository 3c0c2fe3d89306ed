/** Measures a model through the public API: prompt and decode speed, load time, memory. */

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
  /** Tokens of the prompt whose speed is measured; 0: not measured. Default 512. */
  prompt?: number | undefined
  /** Tokens decoded one by one; 0: not measured. Default 64. */
  decode?: number | undefined
  /** Tokens in the cache when decoding begins. Default 0. */
  context?: number | undefined
  /** Requests that decode at once; the prompt is measured alone. Default 1. */
  batch?: number | undefined
  /** Rounds that count; one more comes before them to warm up. Default 5. */
  repeat?: number | undefined
  threads?: number | undefined
  kvDtype?: 'f16' | 'f32' | undefined
  mmap?: boolean | undefined
  /** Called with what is being done. */
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
  /** The most that the process held at once, before the machine itself was measured. */
  peak: number
  weights: number
  kv: number
  /** What is left of the peak: Node.js itself, activations, the vocabulary. */
  rest: number
}

export interface BenchResult {
  versions: Record<string, string>
  date: string
  /** Of the minute before: processes that wanted a core. Above 0 others were at work. */
  loadAverage: number
  machine: MachineInfo
  model: Pick<ModelInfo, 'name' | 'fileBytes' | 'parameters' | 'tensorTypes' | 'contextLength' | 'kvDtype'>
  settings: BenchSettings
  workload: Workload
  limits: Limits
  /** Speeds in tokens/s, times in ms. */
  figures: {
    prompt?: Figure
    decode?: Figure
    /** Loading, the file being in the page cache. */
    load: Figure
    /** Loading, and the first token after a prompt of one. */
    firstToken: Figure
  }
  memory: BenchMemory
}

/** A load is measured this often at most. */
const MAX_LOADS = 5

/**
 * Measures. Takes what the rounds take, and a few seconds for the machine's ceilings.
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
  // Now, since what follows takes memory of its own.
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
 * The options with their defaults.
 * @throws ERR_INVALID_ARGUMENT
 */
export function checkBenchOptions(options: BenchOptions) {
  const values = checkOptions('bench', options, rules)
  const { path, prompt = 512, decode = 64, context = 0, batch = 1, repeat = 5, signal } = values
  if (path === undefined) throw invalidArgument('bench', "option 'path'", rules.path.expected, path)
  if (prompt === 0 && decode === 0) {
    throw invalidArgument('bench', "option 'decode'", "more than 0, as option 'prompt' is 0", 0, {
      option: 'decode',
    })
  }
  const load: LoadModelOptions = {
    threads: values.threads,
    kvDtype: values.kvDtype,
    mmap: values.mmap,
    signal,
    // Room for both measurements and no more; each request that decodes has its own tokens.
    contextLength: Math.max(prompt + 1, decode > 0 ? batch * (Math.max(context, 1) + decode + 1) : 0),
  }
  return { path, prompt, decode, context, batch, repeat, load, signal, onPhase: values.onPhase ?? (() => {}) }
}

/** Milliseconds of loading a file that is in the page cache, and of the first token after that. */
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

/** Tokens per second in each round, after one that does not count. */
async function speeds(
  model: Model,
  { prompt, decode, context, batch, repeat }: Omit<BenchSettings, 'threads'>,
  onPhase: (phase: string) => void,
  signal: AbortSignal | undefined,
): Promise<{ prompt: number[]; decode: number[] }> {
  const random = new RandomWords(1)
  // Other tokens every time: nothing of them may be found in the KV cache.
  const ids = (length: number) => Uint32Array.from({ length }, () => random.below(model.info.vocabSize))
  // What is in the cache before decoding stays there: a long context is computed in the first round alone.
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
      // The first token ends the prompt; decodeMs spans the others.
      const decodeMs = Math.max(...usages.map((usage) => usage.decodeMs))
      if (round > 0) samples.decode.push((1e3 * batch * decode) / decodeMs)
    }
  }
  return samples
}

/** Runs a prompt and so many tokens, all of them. */
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
      `bench: expected ${tokens} tokens and none from the cache, got ${usage.generatedTokens} and ` +
        `${usage.cachedTokens}`,
    )
  }
  return usage
}
