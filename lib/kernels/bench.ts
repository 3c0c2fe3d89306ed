/** Measures kernels and compares them with the limits of the machine. */

import { quantile } from '../bench/figures'
import { type MachineCeilings, measureCeilings, peakGMacs } from '../bench/machine'
import { addon } from '../binding'
import { invalidArgument } from '../errors'
import { callNative, runTask } from '../tasks'
import { abortSignal, checkOptions, integer, type Rules } from '../validate'
import { BenchInputs } from './bench_inputs'
import { type BenchSpec, checkSpec, planSpec } from './bench_specs'
import { type KernelOptions, type KernelRecord, kernelRules, recordKernels, type Work } from './call'
import type { NativeKernelResult, NativeWhere, StreamMix } from './native'

export interface KernelBenchOptions extends KernelOptions {
  /** Uncounted runs before the counted ones. Default 3. */
  warmup?: number | undefined
  /** Counted runs. Default: as many as fit into half a second, from 5 to 200. */
  iterations?: number | undefined
  signal?: AbortSignal | undefined
}

/** A kernel's time, its throughput, and its share of the machine's limits. */
export interface KernelBenchResult {
  /** Microseconds per run: by CUDA events, or on the CPU by a monotonic clock around the kernel. */
  medianUs: number
  /** The 5th and 95th percentiles, in microseconds. */
  p5Us: number
  p95Us: number
  /** Counted runs. */
  iterations: number
  /** Minimum memory traffic of a run: bytes read and written, each counted once. */
  bytes: number
  /** Additions and multiplications per run. */
  flops: number
  /** 10^9 bytes per second, at the median time. */
  gbPerSec: number
  /** 10^9 operations per second, at the median time. */
  gflopPerSec: number
  /**
   * The share of the roofline that was reached: the minimum time by bandwidth and arithmetic rate, divided by
   * the time taken; the median of the runs. For a kernel that is bound by the memory of a CPU, the bandwidth
   * is measured between the runs, because other processes use it too. Above 1 when inputs came from a cache.
   * NaN if no kernel ran or no limit is known.
   */
  shareOfPeak: number
  /** The 5th and 95th percentiles of the share. */
  shareP5: number
  shareP95: number
  /**
   * Memory bandwidth measured between the runs, in 10^9 bytes per second (median): of streams larger than the
   * caches that read and write in the kernel's ratio. `shareOfPeak` refers to it. NaN if it was not measured.
   */
  memoryGBs: number
  /** The same for streams that only read. */
  readGBs: number
}

const rules = {
  ...kernelRules,
  warmup: integer(0, 2 ** 20),
  iterations: integer(1, 2 ** 20),
  signal: abortSignal(),
} satisfies Rules

const BUDGET_US = 5e5
/** Runs rotate through inputs of this size in all, so that caches hold little of the next run's inputs. */
const COLD_BYTES = 256 * 2 ** 20
const MAX_INPUT_SETS = 64

/**
 * Measures a kernel.
 *
 * Given a description, it creates random resident inputs, as many sets as fit into 256 MiB, and rotates
 * through them: large inputs are then read from memory, as weights are in decoding. Given a function, which
 * may be async, it times the kernels that each call of the function runs, without the time between them; if
 * none runs, it times the function.
 *
 * ```js
 * await bench({ op: 'rmsNorm', rows: 8192, cols: 4096 })
 * await bench(() => kernels.softmax(x, { out }), { warmup: 2, iterations: 50 })
 * ```
 *
 * The first call also measures the limits of the machine, which takes about two seconds. With a description
 * of a kernel that is bound by the CPU's memory, the bandwidth is measured again between the runs, in another
 * 512 MiB. With a function, shares refer to the bandwidth measured first.
 *
 * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_OUT_OF_MEMORY, ERR_ABORTED, and what the function throws
 */
export async function bench(
  target: BenchSpec | (() => unknown),
  options?: KernelBenchOptions,
): Promise<KernelBenchResult> {
  const { warmup = 3, iterations, signal, ...where } = checkOptions('bench', options, rules)
  const { times, work, places, memoryGBs, readGBs } =
    typeof target === 'function'
      ? await timeFunction(target, where, warmup, iterations)
      : await timeSpec(checkSpec(target), where, warmup, iterations, signal)
  const bytes = work.reduce((sum, one) => sum + one.bytes, 0)
  const flops = work.reduce((sum, one) => sum + one.flops, 0)
  const limits = await roofline(work, places, signal)
  const shares = times.map((us, i) => {
    const measured = memoryGBs[i]
    const limitUs = measured === undefined ? limits.us : Math.max(limits.computeUs, bytes / (1e3 * measured))
    return limitUs / us
  })
  const medianUs = quantile(times, 0.5)
  return {
    medianUs,
    p5Us: quantile(times, 0.05),
    p95Us: quantile(times, 0.95),
    iterations: times.length,
    bytes,
    flops,
    gbPerSec: bytes / (1e3 * medianUs),
    gflopPerSec: flops / (1e3 * medianUs),
    shareOfPeak: quantile(shares, 0.5),
    shareP5: quantile(shares, 0.05),
    shareP95: quantile(shares, 0.95),
    memoryGBs: quantile(memoryGBs, 0.5),
    readGBs: quantile(readGBs, 0.5),
  }
}

interface Timed {
  /** Microseconds of each run. */
  times: Float64Array
  /** Memory bandwidths next to each run; empty if they were not measured. */
  memoryGBs: Float64Array
  readGBs: Float64Array
  /** The work of each kernel that a run consists of, and where each ran. */
  work: Work[]
  places: NativeWhere[]
}

async function timeSpec(
  spec: BenchSpec,
  where: KernelOptions,
  warmup: number,
  iterations: number | undefined,
  signal: AbortSignal | undefined,
): Promise<Timed> {
  const inputs = new BenchInputs(where)
  try {
    const first = await planSpec(spec, where, inputs)
    const { op, work, where: place } = first
    const calls = [first.args]
    const sets = Math.min(MAX_INPUT_SETS, Math.ceil(COLD_BYTES / Math.max(work.bytes, 1)))
    while (calls.length < sets) calls.push((await planSpec(spec, where, inputs)).args)
    const run = (uncounted: number, counted: number, mix?: StreamMix): Promise<NativeKernelResult> =>
      runTask('bench', () => addon().kernels.run(op, calls, place, uncounted, counted, mix), signal)
    // Every set runs once before the measurement: the first write to a page of memory costs a page fault.
    const trial = await run(0, Math.max(3, calls.length))
    const counted = iterations ?? runsInBudget(trial.times)
    const { us, computeUs } = await roofline([work], [place], signal)
    const isMemoryBound = us > computeUs
    const { times, memoryGBs, readGBs } = await run(warmup, counted, isMemoryBound ? mixOf(work) : undefined)
    return { times, memoryGBs, readGBs, work: [work], places: [place] }
  } finally {
    inputs.dispose()
  }
}

async function timeFunction(
  body: () => unknown,
  where: KernelOptions,
  warmup: number,
  iterations: number | undefined,
): Promise<Timed> {
  for (const [name, value] of Object.entries(where)) {
    if (value !== undefined) {
      const expected = 'absent for a function, whose kernels take it themselves'
      throw invalidArgument('bench', `option '${name}'`, expected, value, { option: name })
    }
  }
  let last: KernelRecord[] = []
  const timeOnce = async (): Promise<number> => {
    const records: KernelRecord[] = []
    const begin = performance.now()
    await recordKernels(records, body)
    const wallUs = 1e3 * (performance.now() - begin)
    last = records
    return records.length > 0 ? records.reduce((sum, { us }) => sum + us, 0) : wallUs
  }
  const timeRuns = async (runs: number): Promise<Float64Array> => {
    const times = new Float64Array(runs)
    for (let i = 0; i < runs; i++) times[i] = await timeOnce()
    return times
  }
  const trial = await timeRuns(iterations === undefined ? Math.max(warmup, 1) : warmup)
  const times = await timeRuns(iterations ?? runsInBudget(trial))
  return {
    times,
    memoryGBs: new Float64Array(),
    readGBs: new Float64Array(),
    work: last,
    places: last.map(({ where: place }) => place),
  }
}

/** How many runs fit into the budget, going by the fastest of a trial. */
function runsInBudget(trial: Float64Array): number {
  const runs = Math.floor(BUDGET_US / Math.max(Math.min(...trial), 1))
  return Math.max(5, Math.min(200, runs))
}

const measuredCeilings = new Map<string, Promise<MachineCeilings>>()

/**
 * The limits of a device, or of the CPU at a level and with a number of threads. Measured once per process.
 */
export function ceilingsOf(
  { device, isa, threads }: NativeWhere,
  signal?: AbortSignal,
): Promise<MachineCeilings> {
  const info = callNative(() => addon().cpuInfo())
  const where =
    device === 'cpu'
      ? { device, isa: isa || info.isa, threads: threads || info.threads }
      : { device, isa: '', threads: 0 }
  const key = Object.values(where).join(' ')
  const known = measuredCeilings.get(key)
  if (known) return known
  const found = measureCeilings(where, signal)
  measuredCeilings.set(key, found)
  found.catch(() => measuredCeilings.delete(key))
  return found
}

/** The mix, of at most 8 parts, whose share of writes is nearest to the kernel's. */
export function mixOf({ bytes, written }: Work): StreamMix {
  let nearest = { reads: 1, writes: 0 }
  const distance = ({ reads, writes }: StreamMix) => Math.abs(writes / (reads + writes) - written / bytes)
  for (let reads = 1; reads < 8; reads++) {
    for (let writes = 1; reads + writes <= 8; writes++) {
      if (distance({ reads, writes }) < distance(nearest)) nearest = { reads, writes }
    }
  }
  return nearest
}

/**
 * The minimum time of kernels that run one after the other, in all and for the arithmetic alone, in
 * microseconds.
 */
async function roofline(
  work: Work[],
  places: NativeWhere[],
  signal: AbortSignal | undefined,
): Promise<{ us: number; computeUs: number }> {
  if (work.length === 0) return { us: Number.NaN, computeUs: Number.NaN }
  const limits = { us: 0, computeUs: 0 }
  for (const [i, { bytes, flops, arithmetic }] of work.entries()) {
    const place = places[i]!
    const ceilings = await ceilingsOf(place, signal)
    const peak = peakGMacs(arithmetic, place.device, ceilings)
    const computeUs = peak > 0 ? flops / (2e3 * peak) : 0
    limits.computeUs += computeUs
    limits.us += Math.max(bytes / (1e3 * ceilings.readGBs), computeUs)
  }
  return limits
}
