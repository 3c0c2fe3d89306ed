/** Results of `cria bench kernels`: as a table, as CSV, and compared with an earlier run. */

import { CriaError } from '../errors'
import type { KernelBenchResult } from '../kernels/bench'
import type { BenchSpec } from '../kernels/bench_specs'
import type { MachineInfo } from './machine'
import { alignColumns, busyWarning, percent, threadCount } from './text'

export interface KernelRow extends KernelBenchResult {
  name: string
  spec: BenchSpec
  device: string
  isa: string
  threads: number
}

export interface KernelReport {
  versions: Record<string, string>
  date: string
  /** The load average of the minute before the run. */
  loadAverage: number
  /** One per device and instruction-set level. */
  machines: MachineInfo[]
  results: KernelRow[]
}

/** Columns of the table. */
const COLUMNS: ReadonlyArray<[heading: string, cell: (row: KernelRow) => string]> = [
  ['kernel', ({ name }) => name],
  ['median µs', ({ medianUs }) => microseconds(medianUs)],
  ['p5', ({ p5Us }) => microseconds(p5Us)],
  ['p95', ({ p95Us }) => microseconds(p95Us)],
  ['GB/s', ({ gbPerSec }) => rate(gbPerSec)],
  ['GFLOP/s', ({ gflopPerSec }) => rate(gflopPerSec)],
  ['of peak', ({ shareOfPeak }) => share(shareOfPeak)],
  ['p5', ({ shareP5 }) => share(shareP5)],
  ['p95', ({ shareP95 }) => share(shareP95)],
  ['memory GB/s', ({ memoryGBs }) => rate(memoryGBs)],
  ['read GB/s', ({ readGBs }) => rate(readGBs)],
]

const microseconds = (value: number) => value.toFixed(value < 100 ? 1 : 0)
const rate = (value: number) => (Number.isFinite(value) ? value.toFixed(1) : '')
const share = (value: number) => (Number.isFinite(value) ? percent(value) : '')

/** The CUDA device, or the CPU with its threads and level. */
export function machineTitle({ accelerator, device, cpu, isa, ceilings: { threads } }: MachineInfo): string {
  if (accelerator !== undefined) return `${accelerator}, ${device}, ${isa}`
  return `${cpu}, ${threadCount(threads)}, ${isa}`
}

/** The results that were measured on one machine of a report. */
export function rowsOf(machine: MachineInfo, results: KernelRow[]): KernelRow[] {
  return results.filter(({ device, isa }) => device === machine.device && isa === machine.isa)
}

/** A table with one section per device and level. */
export function kernelTable({ machines, results, loadAverage }: KernelReport): string {
  const lines: string[] = []
  for (const machine of machines) {
    const { readGBs, int8GMacs, bf16GMacs, f32GMacs } = machine.ceilings
    const rates = Object.entries({ int8: int8GMacs, bf16: bf16GMacs, f32: f32GMacs })
      .filter(([, gmacs]) => gmacs > 0)
      .map(([name, gmacs]) => `${name} ${(2 * gmacs).toFixed(0)} GFLOP/s`)
    const headings = COLUMNS.map(([heading]) => heading)
    const rows = rowsOf(machine, results).map((row) => COLUMNS.map(([, cell]) => cell(row)))
    lines.push(`${machineTitle(machine)}: ${[`${readGBs.toFixed(1)} GB/s`, ...rates].join(', ')}`)
    lines.push(...busyWarning(loadAverage), '', ...alignColumns([headings, ...rows]), '')
  }
  return lines.join('\n')
}

const CSV_COLUMNS = [
  'name',
  'device',
  'isa',
  'threads',
  'medianUs',
  'p5Us',
  'p95Us',
  'iterations',
  'bytes',
  'flops',
  'gbPerSec',
  'gflopPerSec',
  'shareOfPeak',
  'shareP5',
  'shareP95',
  'memoryGBs',
  'readGBs',
] as const satisfies ReadonlyArray<keyof KernelRow>

/** CSV as in RFC 4180, with a header line. NaN is an empty field. */
export function kernelCsv({ results }: KernelReport): string {
  const lines = results.map((row) => CSV_COLUMNS.map((column) => csvField(row[column])).join(','))
  return `${[CSV_COLUMNS.join(','), ...lines].join('\r\n')}\r\n`
}

function csvField(value: string | number): string {
  if (Number.isNaN(value)) return ''
  const text = String(value)
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}

export interface Comparison {
  name: string
  isa: string
  beforeUs: number
  nowUs: number
  /** now / before: above 1 is slower. */
  ratio: number
}

/**
 * Pairs the results of two runs by name, device, level and threads. Leaves out what only one of them has.
 * @throws ERR_INVALID_FILE when `before` is not a report
 */
export function compareReports(before: unknown, now: KernelReport): Comparison[] {
  const results = (before as KernelReport | null)?.results
  if (
    !Array.isArray(results) ||
    !results.every(({ name, medianUs }) => typeof name === 'string' && medianUs > 0)
  ) {
    throw new CriaError(
      'ERR_INVALID_FILE',
      "--compare: expected the JSON that 'cria bench kernels --json' writes",
    )
  }
  const key = ({ name, device, isa, threads }: KernelRow) => [name, device, isa, threads].join(' ')
  const known = new Map(results.map((row) => [key(row), row]))
  return now.results.flatMap((row) => {
    const old = known.get(key(row))
    if (!old) return []
    const { name, isa } = row
    return [{ name, isa, beforeUs: old.medianUs, nowUs: row.medianUs, ratio: row.medianUs / old.medianUs }]
  })
}

/** The kernels that got faster or slower by more than the threshold; the slower ones count as regressions. */
export function comparisonTable(
  comparisons: Comparison[],
  threshold: number,
): { text: string; regressions: number } {
  const slower = comparisons.filter(({ ratio }) => ratio > 1 + threshold)
  const faster = comparisons.filter(({ ratio }) => ratio < 1 / (1 + threshold))
  const change = (ratio: number) =>
    ratio > 1 ? `${percent(ratio - 1)} slower` : `${percent(1 / ratio - 1)} faster`
  const rows = [...slower, ...faster].map(({ name, isa, beforeUs, nowUs, ratio }) => {
    return [name, isa, beforeUs.toFixed(1), nowUs.toFixed(1), change(ratio)]
  })
  const summary =
    `${comparisons.length} compared: ${slower.length} slower and ${faster.length} faster ` +
    `by more than ${percent(threshold)}`
  const headings = ['kernel', 'level', 'before µs', 'now µs', '']
  const table = rows.length > 0 ? ['', ...alignColumns([headings, ...rows])] : []
  return { text: `${[summary, ...table].join('\n')}\n`, regressions: slower.length }
}
