/**
 * One engine in its own process: it loads a model once and measures on request, so that two engines can have
 * the same file loaded while only one of them computes. run.mjs and streams.mjs start it and send the calls.
 *
 *   node engine.mjs cria | node-llama-cpp
 */

const ADAPTERS = { cria: './cria.mjs', 'node-llama-cpp': './node_llama_cpp.mjs' }

let engine

const calls = {
  /** Loads the model; returns the time and the versions of the engine. */
  async load(options) {
    const { load } = await import(ADAPTERS[process.argv[2]])
    const begin = performance.now()
    engine = await load(options)
    return { ms: performance.now() - begin, versions: engine.versions }
  },
  /** Milliseconds to run the prompt `ids` and generate the first token. */
  prompt: ({ ids }) => engine.prompt(ids),
  /** Milliseconds to generate `count` tokens after the first. */
  decode: ({ id, count }) => engine.decode(id, count),
  /** Runs all prompts together, `count` tokens each: milliseconds to the end, and to each first token. */
  streams: ({ prompts, count }) => engine.streams(prompts, count),
  async end() {
    await engine?.dispose()
  },
}

// The parent is gone.
process.on('disconnect', () => process.exit())

process.on('message', async ({ call, options }) => {
  let answer
  try {
    answer = { result: await calls[call](options) }
  } catch (error) {
    const hint =
      error?.code === 'ERR_MODULE_NOT_FOUND' ? '; run npm run build first, and npm ci in bench/peers' : ''
    answer = { error: `${error?.message ?? error}${hint}` }
  }
  process.send(answer, () => {
    if (call === 'end') process.disconnect()
  })
})
