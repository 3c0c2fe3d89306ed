/** The engines that are compared, as processes, and the files they are compared on. */

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'

export const ENGINES = ['cria', 'node-llama-cpp']
/** Between two turns: threads that spin while they wait for more work have gone to sleep. */
export const PAUSE_MS = 150

/** One engine in a process of its own. */
export class Engine {
  constructor(name) {
    this.name = name
    // Nothing that an engine prints belongs to the result.
    this.process = fork(fileURLToPath(new URL('./engine.mjs', import.meta.url)), [name], {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    })
    this.gone = new Promise((resolve) => this.process.once('exit', (...how) => resolve(how)))
    // A call to an engine that has ended: `gone` tells.
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

/** The files to measure, made where they are synthetic. */
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
