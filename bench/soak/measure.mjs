/** Random numbers and statistics for the soak, in bounded memory: growth would hide that of the engine. */

import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** Reproducible random numbers (mulberry32). */
export class Random {
  #state

  constructor(seed) {
    this.#state = seed >>> 0
  }

  /** A number from 0 to less than 1. */
  next() {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let t = this.#state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }

  /** An integer from `low` to `high`, inclusive. */
  integer(low, high) {
    return low + Math.floor(this.next() * (high - low + 1))
  }

  chance(probability) {
    return this.next() < probability
  }

  pick(list) {
    return list[this.integer(0, list.length - 1)]
  }

  /** An item from a list of `{ weight }`. */
  weighted(list) {
    let left = this.next() * list.reduce((sum, { weight }) => sum + weight, 0)
    for (const one of list) {
      left -= one.weight
      if (left < 0) return one
    }
    return list[list.length - 1]
  }
}

/** Percentiles of any number of values, which are rounded to three significant digits. */
export class Histogram {
  #counts = new Map()
  count = 0
  max = 0

  add(value) {
    const key = Number(value.toPrecision(3))
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1)
    this.count++
    this.max = Math.max(this.max, value)
  }

  percentile(share) {
    let left = Math.ceil(this.count * share)
    for (const [value, count] of [...this.#counts].sort(([a], [b]) => a - b)) {
      left -= count
      if (left <= 0) return value
    }
    return 0
  }

  summary() {
    const [p50, p90, p99] = [0.5, 0.9, 0.99].map((share) => this.percentile(share))
    return { count: this.count, p50, p90, p99, max: Number(this.max.toPrecision(3)) }
  }
}

/** The slope of the least-squares line through points `[x, y]`. */
export function slope(points) {
  const n = points.length
  if (n < 2) return 0
  const meanX = points.reduce((sum, [x]) => sum + x, 0) / n
  const meanY = points.reduce((sum, [, y]) => sum + y, 0) / n
  let above = 0
  let below = 0
  for (const [x, y] of points) {
    above += (x - meanX) * (y - meanY)
    below += (x - meanX) ** 2
  }
  return below > 0 ? above / below : 0
}

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc')

const MIB = 2 ** 20

/**
 * The process's memory over time, in MiB. JavaScript's heap varies by tens of MiB between collections, so
 * memory outside the heap is reported separately, and the heap right after a collection.
 */
export class Memory {
  #begin = performance.now()
  #delay = monitorEventLoopDelay({ resolution: 5 })
  #timer
  #peak = 0
  /** Samples under load, one per second. */
  loaded = []
  /** Samples with no request running, after a garbage collection. */
  idle = []

  constructor() {
    this.#delay.enable()
    this.#timer = setInterval(() => this.loaded.push(this.#sample()), 1000)
    this.#timer.unref()
  }

  #sample() {
    const { rss, heapTotal, heapUsed } = process.memoryUsage()
    this.#peak = Math.max(this.#peak, rss / MIB)
    return {
      minutes: (performance.now() - this.#begin) / 60_000,
      rss: rss / MIB,
      native: (rss - heapTotal) / MIB,
      heap: heapUsed / MIB,
    }
  }

  sampleIdle() {
    collectGarbage()
    this.idle.push(this.#sample())
  }

  stop() {
    clearInterval(this.#timer)
    this.#delay.disable()
  }

  /** Sizes in MiB, and slopes in MiB per minute over the second half of the time. */
  summary() {
    const half = (performance.now() - this.#begin) / 60_000 / 2
    const rise = (samples, name) =>
      slope(samples.filter(({ minutes }) => minutes >= half).map((sample) => [sample.minutes, sample[name]]))
    const round = (value) => Math.round(value * 100) / 100
    const slopes = {
      rss: rise(this.loaded, 'rss'),
      nativeLoaded: rise(this.loaded, 'native'),
      nativeIdle: rise(this.idle, 'native'),
      heapIdle: rise(this.idle, 'heap'),
    }
    return {
      firstIdle: mapValues(this.idle[0] ?? {}, round),
      lastIdle: mapValues(this.idle.at(-1) ?? {}, round),
      peak: round(this.#peak),
      perMinute: mapValues(slopes, round),
      eventLoopDelayMs: round(this.#delay.percentile(99) / 1e6),
    }
  }
}

const mapValues = (object, f) => Object.fromEntries(Object.entries(object).map(([name, x]) => [name, f(x)]))

/**
 * Rejects if a promise hangs: if `progress`, a count of other requests that have ended, does not change
 * within `ms`, or if so many have ended that this one was passed over. Slowness alone is not an error, since
 * the machine may be busy.
 */
export async function within(ms, promise, progress, what) {
  const first = progress()
  let last = first
  let timer
  try {
    return await Promise.race([
      promise,
      new Promise((_, reject) => {
        timer = setInterval(() => {
          const now = progress()
          if (now === last || now - first > PASSED_OVER)
            reject(new Hang(`${what()}: not finished after ${now - first} others`))
          last = now
        }, ms)
      }),
    ])
  } finally {
    clearInterval(timer)
  }
}

/** So many requests ended before another one that it was passed over. Priorities allow at most 256. */
const PASSED_OVER = 2000

export class Hang extends Error {}

export const rest = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
