/** cria, as its users call it. Times are taken around the call, on the JS thread. */

import { loadModel, version } from '../../dist/index.mjs'

export async function load({ path, threads, contextLength }) {
  const model = await loadModel(path, { threads, contextLength })

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
    dispose: () => model.dispose(),
  }
}
