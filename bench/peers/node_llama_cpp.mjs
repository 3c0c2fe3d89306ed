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
  // Batch size (512) and flash attention ('auto') are the package's defaults.
  const context = await model.createContext({ contextSize: contextLength, threads })
  const sequence = context.getSequence()

  /** Calls `measure(next)` with a fresh sequence; `next` gives the next token. */
  async function withTokens(ids, generated, measure) {
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
    async dispose() {
      await llama.dispose()
    },
  }
}

function ownVersion() {
  const file = new URL('./node_modules/node-llama-cpp/package.json', import.meta.url)
  return JSON.parse(readFileSync(file, 'utf8')).version
}
