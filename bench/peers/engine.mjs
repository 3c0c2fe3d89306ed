/**
 * One engine in a process of its own: it loads a model once, and measures when it is told to, so that two engines can
 * hold the same file while only one of them computes.
 *
 *   node engine.mjs cria | node-llama-cpp      (a child of run.mjs, which sends the calls)
 */

const ADAPTERS = { cria: './cria.mjs', 'node-llama-cpp': './node_llama_cpp.mjs' }

let engine

const calls = {
  /** Loads the model, and says which versions it runs with. */
  async load(options) {
    const { load } = await import(ADAPTERS[process.argv[2]])
    const begin = performance.now()
    engine = await load(options)
    return { ms: performance.now() - begin, versions: engine.versions }
  },
  /** Milliseconds of `count` prompt tokens, first token included. */
  prompt: ({ ids }) => engine.prompt(ids),
  /** Milliseconds of `count` tokens after the first. */
  decode: ({ id, count }) => engine.decode(id, count),
  /** `count` tokens for each of the prompts, all at once: milliseconds until all are there, and to each first token. */
  streams: ({ prompts, count }) => engine.streams(prompts, count),
  async end() {
    await engine?.dispose()
  },
}

// Nobody is left to answer to.
process.on('disconnect', () => process.exit())

process.on('message', async ({ call, options }) => {
  let answer
  try {
    answer = { result: await calls[call](options) }
  } catch (error) {
    const hint =
      error?.code === 'ERR_MODULE_NOT_FOUND' ? '; first: npm run build, and npm ci in bench/peers' : ''
    answer = { error: `${error?.message ?? error}${hint}` }
  }
  process.send(answer, () => {
    if (call === 'end') process.disconnect()
  })
})
