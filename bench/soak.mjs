/**
 * A soak test of the engine: for minutes, many streams of random requests run on a model with too little
 * memory for them. Prompts share prefixes, readers are slow or leave, requests are stopped at any moment,
 * contexts shift, and a second model is loaded and disposed again and again. It checks that
 *
 * - every request ends, and its events come in order;
 * - no page of the KV cache is in use when no request runs;
 * - a stopped request takes part in at most one more step;
 * - the same request always gives the same tokens;
 * - memory stays flat.
 *
 *   node bench/soak.mjs [--minutes 10] [--streams 64] [--model file.gguf] [--seed n] [--json file]
 *
 * The exit code is 1 if a check failed.
 */

import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { demoModelPath, loadModel } from '../dist/index.mjs'
import { Hang, Histogram, Memory, Random, rest, within } from './soak/measure.mjs'
import { visit } from './soak/visitor.mjs'
import { Watch } from './soak/watch.mjs'
import { beginnings, KINDS, referenceRequests } from './soak/workload.mjs'

const { values: args } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    streams: { type: 'string', default: '64' },
    model: { type: 'string', default: demoModelPath() },
    // Size of the KV cache in full contexts: a few streams fill it, and others are preempted.
    contexts: { type: 'string', default: '10' },
    'context-length': { type: 'string', default: '384' },
    threads: { type: 'string' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    // MiB per minute over the second half. In ten minutes, the allocator's fluctuations amount to one or two.
    'memory-limit': { type: 'string', default: '4' },
    json: { type: 'string' },
  },
})
const minutes = Number(args.minutes)
const seed = Number(args.seed)
const memoryLimit = Number(args['memory-limit'])

/** If no request ends for this long, the engine hangs. */
const HANG_MS = 60_000
/** Steps that a stopped request may still take part in (p99): the current one and one more. */
const MAX_STOP_STEPS = 2
/** The slope of memory over a shorter time is noise. */
const MIN_SLOPE_MINUTES = 3

class Soak {
  random = new Random(seed)
  violations = new Map()
  kinds = new Map()
  codes = new Map()
  repeated = 0
  timeoutMs = new Histogram()
  engineStopMs = new Histogram()
  stopSteps = new Histogram()
  stopStepsSeen = new Histogram()
  stopMs = new Histogram()
  maxPagesUsedIdle = 0
  draining = false
  /** For each generation: when it began, and how many of its tokens were read. */
  #started = new WeakMap()

  constructor(model) {
    this.model = model
    this.contextLength = model.info.contextLength
    this.beginnings = beginnings(this.random, this.contextLength)
    this.watch = new Watch(model, (text) => this.violation(text))
  }

  /** Runs the reference requests alone, before anything else runs. */
  async prepare() {
    this.references = referenceRequests(this.random, this.beginnings, this.contextLength)
    for (const reference of this.references) {
      reference.tokens = (await this.model.generate(reference.prompt, reference.options)).tokens
    }
    const ids = this.model.tokenizer.encode('Once upon a time there was a fox')
    this.logits = { ids: await ids, logits: await this.model.logits(await ids) }
  }

  violation(text) {
    if (!this.violations.has(text)) console.error(`VIOLATION after ${elapsed()}: ${text}`)
    this.violations.set(text, (this.violations.get(text) ?? 0) + 1)
  }

  /** Waits for a promise and returns `{ value }` or `{ error }`. */
  async settled(promise, what = 'a request') {
    const outcome = Promise.resolve(promise).then(
      (value) => ({ value }),
      (error) => ({ error }),
    )
    const { value, error } = await within(
      HANG_MS,
      outcome,
      () => this.watch.ended,
      () => `${what}, ${JSON.stringify(this.model.stats())}`,
    )
    if (error) {
      this.codes.set(error.code, (this.codes.get(error.code) ?? 0) + 1)
      if (!EXPECTED.has(error.code)) this.violation(`${what} failed: ${error.stack ?? error}`)
    }
    return { value, error }
  }

  ended(generation) {
    return this.settled(generation)
  }

  generate(prompt, options) {
    const begin = performance.now()
    const generation = this.model.generate(prompt, options)
    this.#started.set(generation, { begin, received: undefined })
    return generation
  }

  /**
   * Reads chunks as soon as they arrive, until `enough(tokens)` holds. Resolves to the iterator, which stays
   * open. Errors are left to the caller that awaits the generation.
   */
  async read(generation, enough = () => false) {
    const record = this.#started.get(generation)
    const iterator = generation[Symbol.asyncIterator]()
    record.received = 0
    try {
      for (let step = await iterator.next(); !step.done; step = await iterator.next()) {
        record.received += step.value.tokens.length
        if (enough(record.received)) break
      }
    } catch {}
    return iterator
  }

  /** Stops a generation with `act` and measures how long that takes. */
  async stopped(generation, act) {
    const count = this.#stopwatch(generation)
    act()
    return count(await this.ended(generation))
  }

  /** The same for a signal that aborts by itself. */
  watchStop(signal) {
    let generation
    let count
    signal.addEventListener('abort', () => {
      if (generation) count = this.#stopwatch(generation)
    })
    return async (watched) => {
      generation = watched
      const outcome = await this.ended(watched)
      return count ? count(outcome) : outcome
    }
  }

  /**
   * Starts to count the steps in which a stopped request still takes part. JavaScript sees more steps,
   * because its thread waits for a core before it learns of the end. The count is therefore scaled by the
   * share of time that the request spent in the engine, according to its own timings. A generating request
   * gets a token from each step, so the number of its tokens is a second upper bound; the smaller one counts.
   */
  #stopwatch(generation) {
    const { steps } = this.model.stats().totals
    const { begin, received } = this.#started.get(generation)
    const stop = performance.now()
    return (outcome) => {
      const partial = outcome.error?.code === 'ERR_ABORTED' && outcome.error.partial
      // A request that had not reached the engine ran no steps.
      if (!partial || partial.usage.promptTokens === 0) return outcome
      const seen = this.model.stats().totals.steps - steps
      const { queueMs, prefillMs, decodeMs } = partial.usage
      const ms = performance.now() - stop
      const engineMs = Math.max(0, begin + queueMs + prefillMs + decodeMs - stop)
      const took = Math.ceil(seen * Math.min(1, engineMs / ms))
      this.stopMs.add(ms)
      this.engineStopMs.add(engineMs)
      this.stopStepsSeen.add(seen)
      this.stopSteps.add(received > 0 ? Math.min(took, partial.tokens.length - received) : took)
      return outcome
    }
  }

  checkSame(reference, { value, error }, where = '') {
    this.repeated++
    if (error) this.violation(`a repeated request failed${where}: ${error.code}`)
    else if (!sameTokens(value.tokens, reference.tokens)) this.#differs(reference, value, where)
  }

  /** Checks the tokens of a request that may have been stopped. */
  checkBeginning(reference, { value, error }) {
    const partial = value ?? error.partial
    const expected = reference.tokens.subarray(0, partial?.tokens.length ?? 0)
    if (partial && !sameTokens(partial.tokens, expected)) this.#differs(reference, partial, ', stopped')
  }

  #differs(reference, { tokens, usage }, where) {
    const at = tokens.findIndex((token, i) => token !== reference.tokens[i])
    const request = JSON.stringify({ ...reference, tokens: reference.tokens.length })
    this.violation(
      `different tokens for the same request${where}: ${request}, ` +
        `from token ${at} of ${tokens.length} on; ${JSON.stringify(usage)}`,
    )
  }

  /** Sleeps, but returns early when the soak drains. */
  async nap(ms) {
    const until = performance.now() + ms
    while (!this.draining && performance.now() < until)
      await rest(Math.min(100, until - performance.now() + 1))
  }

  async stream() {
    while (!this.draining) {
      const kind = this.random.weighted(KINDS)
      await kind.run(this)
      this.kinds.set(kind.name, (this.kinds.get(kind.name) ?? 0) + 1)
    }
  }

  /** Checks, after all requests have ended, that nothing runs and no page is in use. */
  async checkIdle() {
    // The counts of the last step arrive with its events.
    await rest(50)
    const { running, waiting, paused, pages, totals } = this.model.stats()
    if (running + waiting + paused > 0)
      this.violation(`idle, but ${running} + ${waiting} + ${paused} requests`)
    if (pages.used > 0) this.violation('pages are in use while nothing runs')
    this.maxPagesUsedIdle = Math.max(this.maxPagesUsedIdle, pages.used)
    if (pages.used + pages.cached + pages.free !== pages.total)
      this.violation(`pages do not add up: ${JSON.stringify(pages)}`)
    this.watch.checkIdle(totals)
  }

  /** Runs the load for `ms` milliseconds, waits until it has drained, and checks the idle engine. */
  async phase(ms) {
    this.draining = false
    const all = [visit(this, args.model)]
    for (let i = 0; i < Number(args.streams); i++) all.push(this.stream())
    const timer = setTimeout(() => {
      this.draining = true
    }, ms)
    await Promise.all(all)
    clearTimeout(timer)
    await this.checkIdle()
  }
}

const EXPECTED = new Set(['ERR_ABORTED', 'ERR_TIMEOUT', 'ERR_PROMPT_TOO_LONG', 'ERR_CONTEXT_FULL'])

const sameTokens = (a, b) => a.length === b.length && a.every((token, i) => token === b[i])

const begin = performance.now()
const elapsed = () => `${((performance.now() - begin) / 1000).toFixed(1)} s`

async function load() {
  const contextLength = Number(args['context-length'])
  // A first model tells the size of a context and the default number of threads.
  const probe = await loadModel(args.model, { contextLength })
  const { info } = probe
  await probe.dispose()
  const contextBytes = (info.kvBytes / info.kvPages / info.kvPageTokens) * info.contextLength
  return loadModel(args.model, {
    contextLength,
    kvMemory: Math.ceil(contextBytes * Number(args.contexts)),
    // Leaves a core to JavaScript: time that its thread waits for a core would count as the engine's delay.
    threads: args.threads ? Number(args.threads) : Math.max(1, info.threads - 1),
  })
}

async function main() {
  const model = await load()
  const { info } = model
  console.log(
    `${args.streams} streams for ${minutes} min on ${info.name || info.path}: ` +
      `context ${info.contextLength}, ` +
      `${info.kvPages} pages of ${info.kvPageTokens}, ${info.threads} threads, ${info.isa}; seed ${seed}`,
  )
  const soak = new Soak(model)
  process.on('unhandledRejection', (error) => soak.violation(`unhandled rejection: ${error?.stack ?? error}`))
  await soak.prepare()
  const memory = new Memory()
  const end = begin + minutes * 60_000
  const phaseMs = Math.min(20_000, Math.max(3000, (minutes * 60_000) / 4))
  try {
    while (performance.now() < end - 500) {
      await soak.phase(Math.min(phaseMs, end - performance.now()))
      memory.sampleIdle()
      progress(soak, memory)
    }
  } catch (error) {
    soak.violation(error instanceof Hang ? `hang: ${error.message}` : String(error?.stack ?? error))
  }
  memory.stop()
  judge(soak, memory)
  const report = summary(soak, memory)
  if (args.json) writeFileSync(args.json, `${JSON.stringify(report, null, 2)}\n`)
  print(report)
  process.exitCode = soak.violations.size > 0 ? 1 : 0
  // Requests left over from a hang fail now; that is not another violation.
  soak.violation = () => {}
  // Disposal must end, too.
  await within(
    HANG_MS,
    model.dispose(),
    () => 0,
    () => 'dispose',
  ).catch((error) => {
    console.error(String(error))
    process.exit(1)
  })
}

function judge(soak, memory) {
  const p99 = soak.stopSteps.percentile(0.99)
  if (p99 > MAX_STOP_STEPS) soak.violation(`a stop takes ${p99} steps (p99); the limit is ${MAX_STOP_STEPS}`)
  if (soak.stopSteps.count === 0 || soak.repeated === 0) soak.violation('too short: nothing was measured')
  if (minutes < MIN_SLOPE_MINUTES) return
  const { nativeIdle, heapIdle } = memory.summary().perMinute
  for (const [name, rise] of Object.entries({ 'native memory': nativeIdle, 'the heap': heapIdle })) {
    if (rise > memoryLimit)
      soak.violation(`${name} rises by ${rise} MiB per minute; the limit is ${memoryLimit}`)
  }
}

function summary(soak, memory) {
  return {
    seed,
    minutes: Number(((performance.now() - begin) / 60_000).toFixed(2)),
    streams: Number(args.streams),
    requests: soak.watch.ended,
    kinds: Object.fromEntries([...soak.kinds].sort()),
    errors: Object.fromEntries([...soak.codes].sort()),
    events: soak.watch.counts,
    secondModels: soak.visits ?? 0,
    repeated: soak.repeated,
    firstTokenMs: soak.watch.firstTokenMs.summary(),
    requestMs: soak.watch.requestMs.summary(),
    stopMs: soak.stopMs.summary(),
    engineStopMs: soak.engineStopMs.summary(),
    stopStepsSeen: soak.stopStepsSeen.summary(),
    stopSteps: soak.stopSteps.summary(),
    timeoutOvershootMs: soak.timeoutMs.summary(),
    memory: memory.summary(),
    maxPagesUsedIdle: soak.maxPagesUsedIdle,
    stats: soak.model.stats(),
    violations: Object.fromEntries(soak.violations),
  }
}

function progress(soak, memory) {
  const { totals } = soak.model.stats()
  const { rss, native, heap } = memory.idle.at(-1)
  console.log(
    `${elapsed().padStart(8)}  ${soak.watch.ended} requests, ${totals.generatedTokens} tokens, ` +
      `${totals.preemptions} preemptions, ${soak.watch.counts.paused ?? 0} pauses, ` +
      `${rss.toFixed(1)} MiB (native ${native.toFixed(1)}, heap ${heap.toFixed(1)})`,
  )
}

function print(report) {
  const line = ({ count, p50, p90, p99, max }) => `p50 ${p50}, p90 ${p90}, p99 ${p99}, max ${max} (${count})`
  const list = (counts) =>
    Object.entries(counts)
      .map(([name, count]) => `${count} ${name}`)
      .join(', ')
  const { memory, stats } = report
  const { firstIdle, lastIdle } = memory
  console.log(`
requests        ${report.requests}: ${list(report.kinds)}
errors          ${list(report.errors)}
events          ${list(report.events)}
steps           ${stats.totals.steps}, longest ${stats.stepMs.longest.toFixed(1)} ms
same tokens     ${report.repeated} repeated requests compared, ${report.secondModels} second models
first token     ${line(report.firstTokenMs)} ms
request         ${line(report.requestMs)} ms
stop            ${line(report.stopMs)} ms, as JavaScript sees it
                ${line(report.engineStopMs)} ms in the engine
                ${line(report.stopStepsSeen)} steps until JavaScript sees it
                ${line(report.stopSteps)} steps that the request still takes part in
timeout, late   ${line(report.timeoutOvershootMs)} ms
memory          ${firstIdle.rss} MiB idle at first, ${lastIdle.rss} at the end, peak ${memory.peak}
                native ${firstIdle.native} to ${lastIdle.native}, heap ${firstIdle.heap} to ${lastIdle.heap}
                MiB per minute in the second half: ${list(memory.perMinute)}
pages           ${stats.pages.used} of ${stats.pages.total} in use at the end
violations      ${Object.keys(report.violations).length === 0 ? 'none' : list(report.violations)}`)
}

await main()
