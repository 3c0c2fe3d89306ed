/**
 * Measures decode speed at several context lengths, in turns on one model, and compares the cost of a long
 * context with the cost of the bytes it adds. The contexts are prefixes of one another and stay in the KV
 * cache, so each is computed once.
 *
 *   node bench/context.mjs --synthetic llama-3.2-1b:Q4_K_M --contexts 4096,8192 --json bench/results/context.json
 */

import { writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { loadavg } from 'node:os'
import { parseArgs } from 'node:util'
import { loadModel } from '../dist/index.mjs'

const require = createRequire(import.meta.url)
const { figure } = require('../dist/bench/figures')
const { percent } = require('../dist/bench/text')
const { RandomWords } = require('../dist/bench/random_weights')
const { parseSynthetic, syntheticFile } = require('../dist/bench/synthetic')
const { workloadOf } = require('../dist/bench/workload')

const { values: args } = parseArgs({
  options: {
    synthetic: { type: 'string', default: 'llama-3.2-1b:Q4_K_M' },
    model: { type: 'string' },
    contexts: { type: 'string', default: '4096,8192' },
    decode: { type: 'string', default: '32' },
    rounds: { type: 'string', default: '7' },
    threads: { type: 'string' },
    json: { type: 'string' },
  },
})
const decode = Number(args.decode)
const rounds = Number(args.rounds)
// A context of one token is the baseline.
const contexts = [1, ...args.contexts.split(',').map(Number)].sort((a, b) => a - b)
const longest = contexts.at(-1)

const path = args.model ?? (await syntheticFile(parseSynthetic(args.synthetic)))
const { weightBytesPerToken, kvBytesPerToken } = await workloadOf(path)
const threads = args.threads === undefined ? undefined : Number(args.threads)
const model = await loadModel(path, { threads, contextLength: longest + decode + 1 })
const random = new RandomWords(1)
const ids = Uint32Array.from({ length: longest }, () => random.below(model.info.vocabSize))

const samples = contexts.map(() => [])
const loadAverage = loadavg()[0]
for (let round = 0; round <= rounds; round++) {
  // The longest first: the others are prefixes of it.
  for (let i = contexts.length - 1; i >= 0; i--) {
    const prompt = ids.subarray(0, contexts[i])
    const options = { maxTokens: decode + 1, ignoreEos: true, temperature: 0 }
    const { usage } = await model.generate(prompt, options)
    if (round > 0) samples[i].push(usage.decodeMs / decode)
  }
}
const { isa } = model.info
await model.dispose()

const results = contexts.map((context, i) => {
  const ms = figure('ms', samples[i])
  const kvBytes = (context + decode / 2) * kvBytesPerToken
  const bytes = weightBytesPerToken + kvBytes
  // Against the baseline of the same round.
  const ratios = samples[i].map((at, round) => samples[0][round] / at)
  const explained = (weightBytesPerToken + (1 + decode / 2) * kvBytesPerToken) / bytes
  return {
    context,
    ms,
    tokensPerSec: 1e3 / ms.median,
    kvBytes,
    gbPerSec: bytes / ms.median / 1e6,
    ratio: figure('', ratios),
    explained,
  }
})
console.log(
  `${args.model ?? args.synthetic}, ${isa}, medians of ${rounds}; load average ${loadAverage.toFixed(1)}`,
)
for (const { context, ms, tokensPerSec, kvBytes, gbPerSec, ratio, explained } of results) {
  console.log(
    `${String(context).padStart(6)}: ${tokensPerSec.toFixed(1)} tokens/s, ` +
      `${ms.median.toFixed(1)} ms (${ms.min.toFixed(1)} to ${ms.max.toFixed(1)}); ` +
      `${(kvBytes / 1e6).toFixed(0)} MB of KV, ${gbPerSec.toFixed(1)} GB/s in all; ` +
      `${percent(ratio.median)} of the baseline's speed, ${percent(explained)} expected from the bytes`,
  )
}
if (args.json !== undefined) {
  const report = {
    command: ['node', 'bench/context.mjs', ...process.argv.slice(2)].join(' '),
    date: new Date().toISOString(),
    loadAverage,
    isa,
    weightBytesPerToken,
    kvBytesPerToken,
    results,
  }
  writeFileSync(args.json, `${JSON.stringify(report, null, 2)}\n`)
}
