/** How long kernels take, and how near that is to what the machine can do. */

import { type MachineCeilings, measureCeilings } from '../bench/machine'
import { addon } from '../binding'
import { invalidArgument } from '../errors'
import { callNative, runTask } from '../tasks'
import { abortSignal, checkOptions, integer, type Rules } from '../validate'
import { type BenchSpec, benchInputs, checkSpec } from './bench_specs'
import {
  type KernelOptions,
  type KernelRecord,
  kernelRules,
  type Plan,
  recordKernels,
  type Work,
} from './call'
import type { Arithmetic } from './dtypes'
import type { NativeWhere } from './native'

export interface KernelBenchOptions extends KernelOptions {
  /** Runs before those that count. Default 3. */
  warmup?: number | undefined
  /** Runs that count. Default: as many as half a second holds, 5 to 200. */
  iterations?: number | undefined
  signal?: AbortSignal | undefined
}

/** A kernel's time, and what follows from it. */
export interface KernelBenchResult {
  /** Microseconds on the device: its events, or on the CPU the monotonic clock around the kernel alone. */
  medianUs: number
  p5Us: number
  p95Us: number
  iterations: number
  /** Bytes that a run reads and writes at the least, each once. */
  bytes: number
  /** Additions and multiplications of a run. */
  flops: number
  /** 10^9 bytes, and operations, per second of the median. */
  gbPerSec: number
  gflopPerSec: number
  /**
   * The least time that the memory's bandwidth and the arithmetic rates allow, over the time taken: 1 is the roofline.
   * Median of the runs. The bandwidth of a CPU's memory, which others use too, is measured beside the runs of a kernel
   * that is bound by it. Above 1 the inputs came from a cache. NaN where no kernel ran or no ceiling is known.
   */
  shareOfPeak: number
  /** The same of single runs: 5 % of them had less, 5 % more. */
  shareP5: number
  shareP95: number
  /**
   * 10^9 bytes per second that the memory gave beside the runs, median: to streams that read and write in the kernel's
   * proportion, past the cache. What the share is of. NaN where it was not measured beside them.
   */
  memoryGBs: number
  /** The same to reading alone. */
  readGBs: number
}

const rules = {
  ...kernelRules,
  warmup: integer(0, 2 ** 20),
  iterations: integer(1, 2 ** 20),
  signal: abortSignal(),
} satisfies Rules

const BUDGET_US = 5e5
/** Inputs are taken in turn, so that caches hold little of what is next. */
const COLD_BYTES = 256 * 2 ** 20
const MOST_SETS = 64

/**
 * Measures a kernel.
 *
 * With a description, its inputs are random and resident, and as many of them as 256 MiB hold are used in turn: large
 * ones come from memory, as weights do in decoding. With a function, which may be async, the kernels that it calls are
 * timed each time it runs, without what lies between them; where it calls none, the time is the function's own.
 *
 * ```js
 * await bench({ op: 'rmsNorm', rows: 8192, cols: 4096 })
 * await bench(() => kernels.softmax(x, { out }), { warmup: 2, iterations: 50 })
 * ```
 *
 * The first call also measures the machine, which takes two seconds. A description of a kernel that is bound by the
 * CPU's memory takes 512 MiB more meanwhile, to measure the memory between the runs; a function's share is of what the
 * memory gave once.
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
  const sorted = Float64Array.from(times).sort()
  const medianUs = quantile(sorted, 0.5)
  const limits = await roofline(work, places, signal)
  const shares = Float64Array.from(
    times,
    (us, i) =>
      (memoryGBs.length > 0 ? Math.max(limits.computeUs, bytes / (1e3 * memoryGBs[i]!)) : limits.us) / us,
  ).sort()
  const middle = (values: Float64Array) =>
    values.length > 0 ? quantile(Float64Array.from(values).sort(), 0.5) : Number.NaN
  return {
    medianUs,
    p5Us: quantile(sorted, 0.05),
    p95Us: quantile(sorted, 0.95),
    iterations: sorted.length,
    bytes,
    flops,
    gbPerSec: bytes / (1e3 * medianUs),
    gflopPerSec: flops / (1e3 * medianUs),
    shareOfPeak: quantile(shares, 0.5),
    shareP5: quantile(shares, 0.05),
    shareP95: quantile(shares, 0.95),
    memoryGBs: middle(memoryGBs),
    readGBs: middle(readGBs),
  }
}

interface Timed {
  times: Float64Array
  /** Of the memory beside each run, or empty. */
  memoryGBs: Float64Array
  readGBs: Float64Array
  work: Work[]
  /** Where each ran. */
  places: NativeWhere[]
}

async function timeSpec(
  spec: BenchSpec,
  where: KernelOptions,
  warmup: number,
  iterations: number | undefined,
  signal: AbortSignal | undefined,
): Promise<Timed> {
  const inputs = benchInputs(spec, where)
  try {
    const plans: Array<Plan<unknown>> = [await inputs.plan()]
    const [{ op, work, where: place }] = plans as [Plan<unknown>]
    const sets = Math.min(MOST_SETS, Math.ceil(COLD_BYTES / Math.max(work.bytes, 1)))
    while (plans.length < sets) plans.push(await inputs.plan())
    const calls = plans.map(({ args }) => args)
    const run = (before: number, counted: number, mix?: Mix) =>
      runTask('bench', () => addon().kernels.run(op, calls, place, before, counted, mix), signal)
    // Each set once: memory that nothing was written to yet costs a page fault.
    const counted = iterations ?? affordable((await run(0, Math.max(3, calls.length))).times)
    const { us, computeUs } = await roofline([work], [place], signal)
    const { times, memoryGBs, readGBs } = await run(warmup, counted, us > computeUs ? mixOf(work) : undefined)
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
      throw invalidArgument(
        'bench',
        `option '${name}'`,
        'given to the kernels that the function calls',
        value,
        { option: name },
      )
    }
  }
  let last: KernelRecord[] = []
  const once = async (): Promise<number> => {
    const records: KernelRecord[] = []
    const begin = performance.now()
    await recordKernels(records, body)
    const wall = 1e3 * (performance.now() - begin)
    last = records
    return records.length > 0 ? records.reduce((sum, { us }) => sum + us, 0) : wall
  }
  const first: number[] = []
  for (let i = 0; i < Math.max(warmup, iterations === undefined ? 1 : 0); i++) first.push(await once())
  const counted = iterations ?? affordable(first)
  const times: number[] = []
  for (let i = 0; i < counted; i++) times.push(await once())
  const none = new Float64Array()
  return {
    times: Float64Array.from(times),
    ...{ memoryGBs: none, readGBs: none },
    work: last,
    places: last.map(({ where: place }) => place),
  }
}

/** Runs that the budget holds, by the fastest of some. */
function affordable(times: ArrayLike<number>): number {
  const us = Math.min(...Array.from(times))
  return Math.max(5, Math.min(200, Math.floor(BUDGET_US / Math.max(us, 1))))
}

/** Of ascending values, between two of them in proportion. */
export function quantile(sorted: ArrayLike<number>, share: number): number {
  const at = share * (sorted.length - 1)
  const low = Math.floor(at)
  const high = Math.min(low + 1, sorted.length - 1)
  return sorted[low]! + (sorted[high]! - sorted[low]!) * (at - low)
}

const measured = new Map<string, Promise<MachineCeilings>>()

/** What a device can do at most, the CPU at a level and with so many threads: measured once in a process. */
export function ceilingsOf(
  { device, isa, threads }: NativeWhere,
  signal?: AbortSignal,
): Promise<MachineCeilings> {
  const info = callNative(() => addon().cpuInfo())
  const where =
    device === 'cpu'
      ? { device, isa: isa === '' ? info.isa : isa, threads: threads === 0 ? info.threads : threads }
      : { device, isa: '', threads: 0 }
  const key = Object.values(where).join(' ')
  const known = measured.get(key)
  if (known) return known
  const found = measureCeilings(where, signal)
  measured.set(key, found)
  found.catch(() => measured.delete(key))
  return found
}

/** 10^9 multiply-adds per second that a device has for this work; 0: not known. */
export function peakGMacs(arithmetic: Arithmetic, device: string, ceilings: MachineCeilings): number {
  const { int8GMacs, f32GMacs, bf16GMacs } = ceilings
  if (arithmetic === 'int8') return int8GMacs
  if (arithmetic === 'f32') return f32GMacs
  // Tensor cores multiply both 16-bit floats at one rate; CPUs turn f16 into float32 first.
  if (device !== 'cpu') return bf16GMacs
  return arithmetic === 'bf16' ? bf16GMacs || f32GMacs : f32GMacs
}

/** Streams that write so many bytes for so many that they read. */
interface Mix {
  reads: number
  writes: number
}

/** The mix of at most eight that is nearest to a kernel's. */
export function mixOf({ bytes, written }: Work): Mix {
  let nearest = { reads: 1, writes: 0 }
  const distance = ({ reads, writes }: Mix) => Math.abs(writes / (reads + writes) - written / bytes)
  for (let reads = 1; reads < 8; reads++)
    for (let writes = 1; reads + writes <= 8; writes++)
      if (distance({ reads, writes }) < distance(nearest)) nearest = { reads, writes }
  return nearest
}

/** Microseconds below which the machine cannot get, and those of the arithmetic alone, by ceilings measured once. */
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
