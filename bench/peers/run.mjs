/**
 * Compares cria and node-llama-cpp on the same file. They take turns, A B A B, so that disturbances of the
 * machine affect both. Prints medians, spreads, and the ratio of each pair.
 *
 *   cd bench/peers && npm ci        once; 730 MB
 *   node bench/peers/run.mjs --synthetic llama-3.2-1b --types Q4_K_M,Q8_0,Q4_0,F16 --json bench/results/peers.json
 */

import { freemem } from 'node:os'
import { parseArgs } from 'node:util'
import {
  checkModelOption,
  compare,
  ENGINES,
  Engine,
  filesOf,
  integerOption,
  loadCria,
  PAUSE_MS,
  progress,
  resultHead,
  runProgram,
  saveJson,
  valueOptions,
} from './engines.mjs'
import { comparisonTable } from './report.mjs'

const usage = `usage: node bench/peers/run.mjs --synthetic <shape>[:<type>] | --model <file> [options]
  --types <a,b,...>   types of the synthetic model, one after the other
  --prompt <n>        length of the prompt in tokens (512)
  --decode <n>        decode steps (64)
  --rounds <n>        measured pairs of turns (5), after one to warm up
  --threads <n>       threads of both engines (default: cria's)
  --fresh             start a new process for every turn, for models that fit into memory only once
  --json <file>       write the result to a file
`

/** Both engines with one file. */
class Pair {
  #load
  #fresh
  #engines = new Map()
  loads = { cria: [], 'node-llama-cpp': [] }
  versions = {}

  constructor(load, fresh) {
    this.#load = load
    this.#fresh = fresh
  }

  async start() {
    if (!this.#fresh) for (const name of ENGINES) this.#engines.set(name, await this.#open(name))
  }

  /** Milliseconds of one call of one engine. A fresh process runs it once before, to warm up. */
  async turn(name, call, options) {
    const engine = this.#engines.get(name) ?? (await this.#open(name))
    try {
      if (this.#fresh) await engine.call(call, options)
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
      return await engine.call(call, options)
    } finally {
      if (this.#fresh) await engine.end()
    }
  }

  async #open(name) {
    const engine = new Engine(name)
    try {
      const { ms, versions } = await engine.call('load', this.#load)
      this.loads[name].push(ms)
      Object.assign(this.versions, versions)
      return engine
    } catch (error) {
      engine.process.kill()
      throw error
    }
  }

  async end() {
    for (const engine of this.#engines.values()) if (engine.process.connected) await engine.end()
  }
}

/** Tokens per second of each engine in each round, after one round to warm up. */
async function takeTurns(pair, { type, file }, { prompt, decode, rounds }, { RandomWords }) {
  const random = new RandomWords(1)
  const noSamples = () => Object.fromEntries(ENGINES.map((name) => [name, []]))
  const samples = { prompt: noSamples(), decode: noSamples() }
  for (let round = 0; round <= rounds; round++) {
    progress(`${type}: ${round === 0 ? 'warming up' : `round ${round} of ${rounds}`}`)
    // Both engines get the same tokens, and different ones in every round.
    const ids = Array.from({ length: prompt }, () => random.below(file.vocabSize))
    for (const name of ENGINES) {
      const ms = await pair.turn(name, 'prompt', { ids })
      if (round > 0) samples.prompt[name].push((1e3 * prompt) / ms)
    }
    for (const name of ENGINES) {
      const ms = await pair.turn(name, 'decode', { id: ids[0], count: decode })
      if (round > 0) samples.decode[name].push((1e3 * decode) / ms)
    }
  }
  return samples
}

async function measure({ type, file }, settings, cria) {
  const { prompt, decode, threads } = settings
  const fresh = settings.fresh || freemem() < 3 * file.bytes
  const pair = new Pair({ path: file.path, threads, contextLength: Math.max(prompt + 1, decode + 2) }, fresh)
  let samples
  try {
    await pair.start()
    samples = await takeTurns(pair, { type, file }, settings, cria)
  } finally {
    await pair.end()
  }
  progress(`${type}: measuring the machine`)
  const machine = await cria.measureMachine(threads)
  const workload = await cria.workloadOf(file.path)
  return {
    versions: pair.versions,
    machine,
    result: {
      type,
      model: { name: file.name, fileBytes: file.bytes },
      freshProcesses: fresh,
      workload,
      ceilings: machine.ceilings,
      limits: cria.limits(workload, machine.ceilings, 1 + decode / 2),
      prompt: compare(ENGINES, samples.prompt, cria),
      decode: compare(ENGINES, samples.decode, cria),
      load: Object.fromEntries(ENGINES.map((name) => [name, cria.figure('ms', pair.loads[name])])),
    },
  }
}

function readOptions() {
  const defaults = { prompt: '512', decode: '64', rounds: '5' }
  const optional = {
    synthetic: undefined,
    model: undefined,
    types: undefined,
    json: undefined,
    threads: undefined,
  }
  const { values } = parseArgs({
    options: { ...valueOptions({ ...optional, ...defaults }), fresh: { type: 'boolean', default: false } },
  })
  checkModelOption(values)
  if (values.model && values.types) throw new Error('--types is for --synthetic')
  const settings = { fresh: values.fresh }
  for (const name of [...Object.keys(defaults), 'threads']) {
    if (values[name] !== undefined) settings[name] = integerOption(name, values[name])
  }
  return { ...values, settings }
}

await runProgram(usage, readOptions, async (options) => {
  const cria = loadCria()
  const settings = { threads: cria.cpuInfo().threads, ...options.settings }
  const found = { ...resultHead('bench/peers/run.mjs', cria), machine: undefined, settings, results: [] }
  for await (const model of filesOf(options, cria)) {
    const { versions, machine, result } = await measure(model, settings, cria)
    Object.assign(found.versions, versions)
    found.machine ??= machine
    found.results.push(result)
  }
  progress('')
  saveJson(options.json, found)
  process.stdout.write(comparisonTable(found, cria))
})
