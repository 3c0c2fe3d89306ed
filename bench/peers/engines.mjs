/** What run.mjs and streams.mjs share: engines as processes, the models, options and results. */

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { loadavg } from 'node:os'
import { basename, dirname } from 'node:path'
import { fileURLToPath } from 'node:url'

export const ENGINES = ['cria', 'node-llama-cpp']
/** Pause between two turns, long enough for spinning worker threads to go to sleep. */
export const PAUSE_MS = 150

/** One engine in its own process. */
export class Engine {
  constructor(name) {
    this.name = name
    // What an engine prints is not part of the result.
    this.process = fork(fileURLToPath(new URL('./engine.mjs', import.meta.url)), [name], {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    })
    this.gone = new Promise((resolve) => this.process.once('exit', (...how) => resolve(how)))
    // Sending to an engine that has ended fails; `gone` reports it.
    this.process.on('error', () => {})
  }

  async call(call, options = {}) {
    this.process.send({ call, options })
    const [message, signal] = await Promise.race([once(this.process, 'message'), this.gone])
    if (typeof message !== 'object') throw new Error(`${this.name} ended in '${call}' (${message ?? signal})`)
    if (message.error) throw new Error(`${this.name}: ${message.error}`)
    return message.result
  }

  async end() {
    await this.call('end')
    await this.gone
  }
}

/** The models to measure; synthetic ones are written first. */
export async function* filesOf(options, { inspect, parseSynthetic, syntheticFile }) {
  const describe = async (path, name) => {
    const { fileBytes, tensors } = await inspect(path)
    const { shape } = tensors.find((tensor) => tensor.name === 'token_embd.weight')
    return { path, name, bytes: fileBytes, vocabSize: shape[1] }
  }
  if (options.model) {
    yield { type: basename(options.model), file: await describe(options.model, basename(options.model)) }
    return
  }
  const [shape, ownType] = options.synthetic.split(':')
  const types = options.types?.split(',') ?? [ownType ?? 'Q4_K_M']
  const models = types.map((type) => parseSynthetic(`${shape}:${type}`))
  for (const model of models) {
    progress(`${model.type}: preparing the file`)
    yield { type: model.type, file: await describe(await syntheticFile(model), model.spec) }
  }
}

export function progress(text) {
  if (process.stderr.isTTY) process.stderr.write(`\r${text}\x1b[K`)
}

/** Modules of `cria bench`; not part of the public API. */
export function loadCria() {
  const require = createRequire(import.meta.url)
  const modules = ['figures', 'machine', 'random_weights', 'synthetic', 'text', 'workload']
  const paths = ['index', ...modules.map((name) => `bench/${name}`)]
  return Object.assign({}, ...paths.map((path) => require(`../../dist/${path}.js`)))
}

/** Options for parseArgs that take a value. */
export const valueOptions = (defaults) =>
  Object.fromEntries(
    Object.entries(defaults).map(([name, value]) => [
      name,
      { type: 'string', ...(value === undefined ? {} : { default: value }) },
    ]),
  )

/** The integer of an option. */
export function integerOption(name, text, min = 1) {
  const number = Number(text)
  if (!Number.isSafeInteger(number) || number < min) {
    throw new Error(`--${name} needs an integer of at least ${min}, got '${text}'`)
  }
  return number
}

/** Exactly one of --synthetic and --model must name the model. */
export function checkModelOption({ model, synthetic }) {
  if (!model === !synthetic) throw new Error('name a model: --synthetic or --model')
}

/** Two medians, and the ratio of each pair of turns. */
export function compare([ours, theirs], samples, { figure }) {
  const ratios = samples[ours].map((value, turn) => value / samples[theirs][turn])
  return {
    [ours]: figure('tokens/s', samples[ours]),
    [theirs]: figure('tokens/s', samples[theirs]),
    ratio: figure('', ratios),
  }
}

/** Facts at the head of every result. */
export function resultHead(script, cria) {
  return {
    command: ['node', script, ...process.argv.slice(2)].join(' '),
    date: new Date().toISOString(),
    loadAverage: loadavg()[0],
    versions: cria.versions(),
  }
}

export function saveJson(path, result) {
  if (path === undefined) return
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, `${JSON.stringify(result, null, 2)}\n`)
}

/** Runs a program: 2 is the exit code of wrong options, 1 of any other error. */
export async function runProgram(usage, readOptions, measure) {
  let options
  try {
    options = readOptions()
  } catch (error) {
    process.stderr.write(`${error.message}\n${usage}`)
    process.exitCode = 2
    return
  }
  try {
    await measure(options)
  } catch (error) {
    progress('')
    process.stderr.write(`${error.code ? `${error.code}: ` : ''}${error.message}\n`)
    if (error.code === 'MODULE_NOT_FOUND') process.stderr.write('run npm run build first\n')
    process.exitCode = 1
  }
}
