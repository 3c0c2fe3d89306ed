/**
 * Compares cria and node-llama-cpp on many requests at the same time, turn by turn on the same file: the
 * tokens per second of all requests together, and the time to the first token. Then measures requests that
 * share a long prefix, on cria alone: the first request computes it, the others find it in the KV cache.
 *
 *   cd bench/peers && npm ci        once; 730 MB
 *   node bench/peers/streams.mjs --synthetic llama-3.2-1b:Q4_K_M --json bench/results/streams.json
 */

import { parseArgs } from 'node:util'
import {
  checkModelOption,
  compare,
  ENGINES,
  Engine,
  filesOf,
  integerOption,
  loadCria,
  PAUSE_MS,
  progress,
  resultHead,
  runProgram,
  saveJson,
  valueOptions,
} from './engines.mjs'
import { streamsTable } from './report.mjs'

const KV_MEMORY = '2GiB'

const usage = `usage: node bench/peers/streams.mjs --synthetic <shape>:<type> | --model <file> [options]
  --streams <a,b,...> numbers of simultaneous requests (1,2,4,8,16,32)
  --prompt <n>        length of each prompt in tokens, all different (16)
  --decode <n>        tokens generated per request (64)
  --rounds <n>        measured turns (3), after one to warm up
  --threads <n>       threads of both engines (default: cria's)
  --shared <n>        length of the shared prefix in tokens (2000); 0 skips this measurement
  --requests <n>      requests that share the prefix (32)
  --only <engine>     measure only cria or node-llama-cpp
  --json <file>       write the result to a file
`

async function measure(file, settings, cria) {
  const { streams, prompt, decode, threads, engines } = settings
  const random = new cria.RandomWords(1)
  const contextLength = prompt + decode + 1
  const running = []
  const results = []
  try {
    for (const name of engines) {
      const engine = new Engine(name)
      running.push(engine)
      await engine.call('load', { path: file.path, threads, contextLength, kvMemory: KV_MEMORY })
    }
    for (const count of streams)
      results.push(await measureStreams(running, count, file, settings, random, cria))
  } finally {
    for (const engine of running) if (engine.process.connected) await engine.end()
  }
  return results
}

/** The turns of all engines with `streams` requests. */
async function measureStreams(running, streams, file, { prompt, decode, rounds, engines }, random, cria) {
  const noSamples = () => Object.fromEntries(engines.map((name) => [name, []]))
  const total = noSamples()
  const first = noSamples()
  for (let round = 0; round <= rounds; round++) {
    progress(`${streams} streams: ${round === 0 ? 'warming up' : `round ${round} of ${rounds}`}`)
    const prompts = Array.from({ length: streams }, () => randomIds(random, prompt, file))
    // A few tokens are enough to warm up.
    const count = round === 0 ? Math.min(decode, 4) : decode
    for (const engine of running) {
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
      const { ms, firstMs } = await engine.call('streams', { prompts, count })
      if (round === 0) continue
      total[engine.name].push((1e3 * streams * count) / ms)
      first[engine.name].push(cria.median(firstMs))
    }
  }
  const figures = (unit, samples) =>
    Object.fromEntries(engines.map((name) => [name, cria.figure(unit, samples[name])]))
  return {
    streams,
    total: figures('tokens/s', total),
    first: figures('ms', first),
    ...(engines.length > 1 ? { ratio: compare(engines, total, cria).ratio } : {}),
  }
}

function randomIds(random, length, { vocabSize }) {
  return Array.from({ length }, () => random.below(vocabSize))
}

/** Time to the first token of one request, then of the others, which are sent when it has finished. */
async function measureShared(file, { shared, requests, rounds, threads }, { figure, median, RandomWords }) {
  const random = new RandomWords(2)
  const engine = new Engine('cria')
  try {
    await engine.call('load', { path: file.path, threads, contextLength: shared + 32, kvMemory: KV_MEMORY })
    const first = []
    const others = []
    for (let round = 0; round < rounds; round++) {
      progress(`${requests} requests that share ${shared} tokens: round ${round + 1} of ${rounds}`)
      const prompt = randomIds(random, shared, file)
      first.push((await engine.call('streams', { prompts: [prompt], count: 1 })).firstMs[0])
      const prompts = Array.from({ length: requests - 1 }, () => prompt)
      const { firstMs } = await engine.call('streams', { prompts, count: 1 })
      others.push(median(firstMs))
    }
    return { tokens: shared, requests, first: figure('ms', first), others: figure('ms', others) }
  } finally {
    if (engine.process.connected) await engine.end()
  }
}

function readOptions() {
  const { values } = parseArgs({
    options: valueOptions({
      synthetic: undefined,
      model: undefined,
      json: undefined,
      threads: undefined,
      only: undefined,
      streams: '1,2,4,8,16,32',
      prompt: '16',
      decode: '64',
      rounds: '3',
      shared: '2000',
      requests: '32',
    }),
  })
  checkModelOption(values)
  if (values.only !== undefined && !ENGINES.includes(values.only)) {
    throw new Error(`--only needs one of ${ENGINES.join(', ')}, got '${values.only}'`)
  }
  const integer = (name, min) => integerOption(name, values[name], min)
  return {
    ...values,
    settings: {
      streams: values.streams.split(',').map((text) => integerOption('streams', text)),
      prompt: integer('prompt'),
      decode: integer('decode'),
      rounds: integer('rounds'),
      shared: integer('shared', 0),
      requests: integer('requests', 2),
      engines: values.only ? [values.only] : ENGINES,
      ...(values.threads === undefined ? {} : { threads: integer('threads') }),
    },
  }
}

await runProgram(usage, readOptions, async (options) => {
  const cria = loadCria()
  const settings = { threads: cria.cpuInfo().threads, ...options.settings }
  const head = resultHead('bench/peers/streams.mjs', cria)
  for await (const { type, file } of filesOf(options, cria)) {
    const results = await measure(file, settings, cria)
    const shared = settings.shared > 0 ? await measureShared(file, settings, cria) : undefined
    progress('')
    const { cpu } = await cria.measureMachine(settings.threads)
    const found = { ...head, cpu, type, settings, results, shared }
    saveJson(options.json, found)
    process.stdout.write(streamsTable(found, cria))
  }
})
