/**
 * cria and node-llama-cpp turn by turn on the same file: A B A B, one computing while the other waits, so that whatever
 * else the machine does meets both. Prints medians, spreads, and the ratio of each pair.
 *
 *   cd bench/peers && npm ci        once; 730 MB
 *   node bench/peers/run.mjs --synthetic llama-3.2-1b --types Q4_K_M,Q8_0,Q4_0,F16 --json bench/results/peers.json
 */

import { mkdirSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { freemem, loadavg } from 'node:os'
import { dirname } from 'node:path'
import { parseArgs } from 'node:util'
import { ENGINES, Engine, filesOf, PAUSE_MS, progress } from './engines.mjs'
import { report } from './report.mjs'

const require = createRequire(import.meta.url)
const usage = `usage: node bench/peers/run.mjs --synthetic <shape>[:<type>] | --model <file> [options]
  --types <a,b,...>   types of the synthetic model, one after the other
  --prompt <n>        tokens of the prompt (512)
  --decode <n>        tokens decoded one by one (64)
  --rounds <n>        pairs of each figure (5), after one to warm up
  --threads <n>       for both (cria's default)
  --fresh             a new process for every turn, for models of which memory holds only one
  --json <file>       write the result there
`

/** Both engines on one file. */
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

  /** One figure of one engine, in milliseconds. A fresh process warms up first. */
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

async function measure(file, type, settings, cria) {
  const { figure, limits, measureMachine, RandomWords, workloadOf } = cria
  const { prompt, decode, rounds, threads } = settings
  const fresh = settings.fresh || freemem() < 3 * file.bytes
  const pair = new Pair({ path: file.path, threads, contextLength: Math.max(prompt + 1, decode + 2) }, fresh)
  const random = new RandomWords(1)
  const samples = { prompt: new Map(), decode: new Map() }
  for (const name of ENGINES) for (const by of Object.values(samples)) by.set(name, [])
  try {
    await pair.start()
    for (let round = 0; round <= rounds; round++) {
      // The same tokens for both, others in every round.
      const ids = Array.from({ length: prompt }, () => random.below(file.vocabSize))
      const [id] = ids
      progress(`${type}: ${round === 0 ? 'warming up' : `round ${round} of ${rounds}`}`)
      for (const name of ENGINES) {
        const ms = await pair.turn(name, 'prompt', { ids })
        if (round > 0) samples.prompt.get(name).push((1e3 * prompt) / ms)
      }
      for (const name of ENGINES) {
        const ms = await pair.turn(name, 'decode', { id, count: decode })
        if (round > 0) samples.decode.get(name).push((1e3 * decode) / ms)
      }
    }
  } finally {
    await pair.end()
  }
  progress(`${type}: measuring the machine`)
  const machine = await measureMachine(threads)
  const workload = await workloadOf(file.path)
  const [ours, theirs] = ENGINES
  const compare = (by) => ({
    [ours]: figure('tokens/s', by.get(ours)),
    [theirs]: figure('tokens/s', by.get(theirs)),
    ratio: figure(
      '',
      by.get(ours).map((value, i) => value / by.get(theirs)[i]),
    ),
  })
  return {
    versions: pair.versions,
    machine,
    result: {
      type,
      model: { name: file.name, fileBytes: file.bytes },
      freshProcesses: fresh,
      workload,
      ceilings: machine.ceilings,
      limits: limits(workload, machine.ceilings, 1 + decode / 2),
      prompt: compare(samples.prompt),
      decode: compare(samples.decode),
      load: Object.fromEntries(ENGINES.map((name) => [name, figure('ms', pair.loads[name])])),
    },
  }
}

function readOptions() {
  const text = (value) => ({ type: 'string', ...(value === undefined ? {} : { default: value }) })
  const { values } = parseArgs({
    options: {
      ...{ synthetic: text(), model: text(), types: text(), json: text(), threads: text() },
      ...{ prompt: text('512'), decode: text('64'), rounds: text('5') },
      fresh: { type: 'boolean', default: false },
    },
  })
  if (!values.model === !values.synthetic) throw new Error('name a model: --synthetic or --model')
  if (values.model && values.types) throw new Error('--types is for --synthetic')
  const count = (name, value) => {
    const number = Number(value)
    if (!Number.isSafeInteger(number) || number < 1)
      throw new Error(`--${name} needs a positive integer, got '${value}'`)
    return number
  }
  const settings = Object.fromEntries(
    ['prompt', 'decode', 'rounds'].map((name) => [name, count(name, values[name])]),
  )
  if (values.threads !== undefined) settings.threads = count('threads', values.threads)
  return { ...values, settings: { ...settings, fresh: values.fresh } }
}

async function main() {
  let options
  try {
    options = readOptions()
  } catch (error) {
    process.stderr.write(`${error.message}\n${usage}`)
    return 2
  }
  // What `cria bench` is made of; not part of the public API.
  const cria = {}
  for (const name of [
    'index',
    'bench/figures',
    'bench/machine',
    'bench/random_weights',
    'bench/synthetic',
    'bench/workload',
  ])
    Object.assign(cria, require(`../../dist/${name}.js`))
  const settings = { threads: cria.cpuInfo().threads, ...options.settings }
  const found = {
    command: ['node', 'bench/peers/run.mjs', ...process.argv.slice(2)].join(' '),
    date: new Date().toISOString(),
    loadAverage: loadavg()[0],
    versions: cria.versions(),
    machine: undefined,
    settings,
    results: [],
  }
  for await (const { type, file } of filesOf(options, cria)) {
    const { versions, machine, result } = await measure(file, type, settings, cria)
    Object.assign(found.versions, versions)
    found.machine ??= machine
    found.results.push(result)
  }
  progress('')
  if (options.json) {
    mkdirSync(dirname(options.json), { recursive: true })
    writeFileSync(options.json, `${JSON.stringify(found, null, 2)}\n`)
  }
  process.stdout.write(report(found))
  return 0
}

try {
  process.exitCode = await main()
} catch (error) {
  progress('')
  process.stderr.write(`${error.code ? `${error.code}: ` : ''}${error.message}\n`)
  if (error.code === 'MODULE_NOT_FOUND') process.stderr.write('first: npm run build\n')
  process.exitCode = 1
}
