/**
 * node-llama-cpp through its low-level API: `evaluate` on token ids, which runs them in one batch, samples greedily and
 * then runs every sampled token alone. Its counters are checked: all tokens were evaluated, none came from its cache.
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
  // One context for the figures of a single stream, made when it is first asked for, and one for the last number of
  // streams. Batch size (512) and flash attention ('auto') are the package's defaults.
  let context
  let sequence
  let shared
  async function single() {
    context ??= await model.createContext({ contextSize: contextLength, threads })
    sequence ??= context.getSequence()
  }
  async function sequences(count) {
    if (shared?.sequences.length !== count) {
      await shared?.context.dispose()
      const made = await model.createContext({ contextSize: contextLength, threads, sequences: count })
      shared = { context: made, sequences: Array.from({ length: count }, () => made.getSequence()) }
    }
    return shared.sequences
  }

  /** Calls `measure(next)` with a fresh sequence; `next` gives the next token. */
  async function withTokens(ids, generated, measure) {
    await single()
    await sequence.clearHistory()
    const before = sequence.tokenMeter.getState()
    const tokens = sequence.evaluate(ids, { temperature: 0, yieldEogToken: true })
    const next = async () => {
      const { done } = await tokens.next()
      if (done) throw new Error('node-llama-cpp: no more tokens')
    }
    const ms = await measure(next)
    const { usedInputTokens, usedOutputTokens } = sequence.tokenMeter.diff(before)
    await tokens.return()
    // The last token sampled was not evaluated.
    const evaluated = ids.length + generated - 1
    if (sequence.contextTokens.length !== evaluated || usedInputTokens + usedOutputTokens !== evaluated)
      throw new Error(
        `node-llama-cpp: expected ${evaluated} tokens, ${sequence.contextTokens.length} evaluated`,
      )
    if (context.currentThreads !== threads)
      throw new Error(`node-llama-cpp: ${context.currentThreads} threads in the place of ${threads}`)
    return ms
  }

  async function timed(run) {
    const begin = performance.now()
    await run()
    return performance.now() - begin
  }

  return {
    versions: { 'node-llama-cpp': ownVersion(), 'llama.cpp': llama.llamaCppRelease.release },
    prompt: (ids) => withTokens(ids, 1, timed),
    decode: (id, count) =>
      withTokens([id], count + 1, async (next) => {
        await next()
        return timed(async () => {
          for (let i = 0; i < count; i++) await next()
        })
      }),
    async streams(prompts, count) {
      const all = await sequences(prompts.length)
      for (const one of all) await one.clearHistory()
      const begin = performance.now()
      const firstMs = await Promise.all(
        prompts.map(async (ids, i) => {
          const tokens = all[i].evaluate(ids, { temperature: 0, yieldEogToken: true })
          let first
          for (let n = 0; n < count; n++) {
            if ((await tokens.next()).done) throw new Error('node-llama-cpp: no more tokens')
            first ??= performance.now() - begin
          }
          await tokens.return()
          return first
        }),
      )
      return { ms: performance.now() - begin, firstMs }
    },
    async dispose() {
      await llama.dispose()
    },
  }
}

function ownVersion() {
  const file = new URL('./node_modules/node-llama-cpp/package.json', import.meta.url)
  return JSON.parse(readFileSync(file, 'utf8')).version
}
