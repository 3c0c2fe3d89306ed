/**
 * Adapter for node-llama-cpp's low-level API: `evaluate` on token ids, which runs them in one batch, samples
 * greedily, and then runs every sampled token alone. Checks by the package's counters that all tokens were
 * evaluated and none came from its cache.
 */

import { readFileSync } from 'node:fs'
import { getLlama } from 'node-llama-cpp'

export async function load({ path, threads, contextLength }) {
  const llama = await getLlama({
    gpu: false,
    build: 'never',
    progressLogs: false,
    logLevel: 'error',
    maxThreads: threads,
  })
  const model = await llama.loadModel({ modelPath: path })
  return new Adapter(llama, model, { contextSize: contextLength, threads })
}

/** One context for single requests, created at the first, and one for the last number of streams. */
class Adapter {
  #llama
  #model
  /** Batch size (512) and flash attention ('auto') are the package's defaults. */
  #contextOptions
  #single
  #shared

  constructor(llama, model, contextOptions) {
    this.#llama = llama
    this.#model = model
    this.#contextOptions = contextOptions
  }

  get versions() {
    return { 'node-llama-cpp': ownVersion(), 'llama.cpp': this.#llama.llamaCppRelease.release }
  }

  prompt(ids) {
    return this.#generate(ids, 1, timed)
  }

  decode(id, count) {
    return this.#generate([id], count + 1, async (next) => {
      await next()
      return timed(async () => {
        for (let i = 0; i < count; i++) await next()
      })
    })
  }

  async streams(prompts, count) {
    const sequences = await this.#sequences(prompts.length)
    for (const sequence of sequences) await sequence.clearHistory()
    const begin = performance.now()
    const firstMs = await Promise.all(
      prompts.map(async (ids, i) => {
        const tokens = evaluate(sequences[i], ids)
        let first
        for (let n = 0; n < count; n++) {
          await nextToken(tokens)
          first ??= performance.now() - begin
        }
        await tokens.return()
        return first
      }),
    )
    return { ms: performance.now() - begin, firstMs }
  }

  async dispose() {
    await this.#llama.dispose()
  }

  /** Clears the sequence and calls `measure(next)`, which must take `generated` tokens by `next`. */
  async #generate(ids, generated, measure) {
    const { context, sequence } = await this.#singleSequence()
    await sequence.clearHistory()
    const before = sequence.tokenMeter.getState()
    const tokens = evaluate(sequence, ids)
    const ms = await measure(() => nextToken(tokens))
    const { usedInputTokens, usedOutputTokens } = sequence.tokenMeter.diff(before)
    await tokens.return()
    // The last sampled token is not evaluated.
    const expected = ids.length + generated - 1
    const evaluated = sequence.contextTokens.length
    if (evaluated !== expected || usedInputTokens + usedOutputTokens !== expected) {
      throw new Error(`node-llama-cpp: expected ${expected} evaluated tokens, got ${evaluated}`)
    }
    const { threads } = this.#contextOptions
    if (context.currentThreads !== threads) {
      throw new Error(`node-llama-cpp: expected ${threads} threads, got ${context.currentThreads}`)
    }
    return ms
  }

  async #singleSequence() {
    if (!this.#single) {
      const context = await this.#model.createContext(this.#contextOptions)
      this.#single = { context, sequence: context.getSequence() }
    }
    return this.#single
  }

  async #sequences(count) {
    if (this.#shared?.sequences.length !== count) {
      await this.#shared?.context.dispose()
      const context = await this.#model.createContext({ ...this.#contextOptions, sequences: count })
      this.#shared = { context, sequences: Array.from({ length: count }, () => context.getSequence()) }
    }
    return this.#shared.sequences
  }
}

function evaluate(sequence, ids) {
  return sequence.evaluate(ids, { temperature: 0, yieldEogToken: true })
}

async function nextToken(tokens) {
  const { done } = await tokens.next()
  if (done) throw new Error('node-llama-cpp: generation ended early')
}

async function timed(run) {
  const begin = performance.now()
  await run()
  return performance.now() - begin
}

function ownVersion() {
  const file = new URL('./node_modules/node-llama-cpp/package.json', import.meta.url)
  return JSON.parse(readFileSync(file, 'utf8')).version
}
