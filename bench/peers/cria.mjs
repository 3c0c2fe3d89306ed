/** Adapter for cria's public API. Times are measured around the calls, on the JS thread. */

import { loadModel, version } from '../../dist/index.mjs'

export async function load({ path, threads, contextLength, kvMemory }) {
  const model = await loadModel(path, { threads, contextLength, kvMemory })

  async function run(ids, tokens) {
    const begin = performance.now()
    const { usage } = await model.generate(ids, { maxTokens: tokens, ignoreEos: true, temperature: 0 })
    const ms = performance.now() - begin
    if (usage.promptTokens !== ids.length || usage.generatedTokens !== tokens || usage.cachedTokens !== 0)
      throw new Error(`cria: asked for ${ids.length} + ${tokens} tokens, got ${JSON.stringify(usage)}`)
    return { ms, usage }
  }

  return {
    versions: { cria: version },
    prompt: async (ids) => (await run(ids, 1)).ms,
    async decode(id, count) {
      const { ms, usage } = await run([id], count + 1)
      return ms - usage.queueMs - usage.prefillMs
    },
    async streams(prompts, count) {
      const begin = performance.now()
      const firstMs = await Promise.all(
        prompts.map(async (ids) => {
          let first
          let tokens = 0
          const options = { maxTokens: count, ignoreEos: true, temperature: 0 }
          for await (const chunk of model.generate(ids, options)) {
            first ??= performance.now() - begin
            tokens += chunk.tokens.length
          }
          if (tokens !== count) throw new Error(`cria: asked for ${count} tokens, got ${tokens}`)
          return first
        }),
      )
      return { ms: performance.now() - begin, firstMs }
    },
    dispose: () => model.dispose(),
  }
}
