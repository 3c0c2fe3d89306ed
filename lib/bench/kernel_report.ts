/** Measured kernels as a table, as CSV, and beside an earlier run. */

import { CriaError } from '../errors'
import type { KernelBenchResult } from '../kernels/bench'
import type { BenchSpec } from '../kernels/bench_specs'
import type { MachineInfo } from './machine'

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
  /** Of the minute before: processes that wanted a core. */
  loadAverage: number
  /** One for each device and level. */
  machines: MachineInfo[]
  results: KernelRow[]
}

const HEADINGS = [
  ...[
    'kernel',
    'median µs',
    'p5',
    'p95',
    'GB/s',
    'GFLOP/s',
    'of peak',
    'p5',
    'p95',
    'memory GB/s',
    'read GB/s',
  ],
]

function cells(row: KernelRow): string[] {
  const us = (value: number) => value.toFixed(value < 100 ? 1 : 0)
  const share = (value: number) => (Number.isFinite(value) ? `${(100 * value).toFixed(0)} %` : '')
  const rate = (value: number) => (Number.isFinite(value) ? value.toFixed(1) : '')
  return [
    row.name,
    ...[row.medianUs, row.p5Us, row.p95Us].map(us),
    ...[row.gbPerSec, row.gflopPerSec].map(rate),
    ...[row.shareOfPeak, row.shareP5, row.shareP95].map(share),
    ...[row.memoryGBs, row.readGBs].map(rate),
  ]
}

/** The processor or the device, and how it was used. */
export function machineTitle({ accelerator, device, cpu, isa, ceilings: { threads } }: MachineInfo): string {
  if (accelerator !== undefined) return `${accelerator}, ${device}, ${isa}`
  return `${cpu}, ${threads} thread${threads === 1 ? '' : 's'}, ${isa}`
}

/** What was measured on a machine of a report. */
export function rowsOf(machine: MachineInfo, results: KernelRow[]): KernelRow[] {
  return results.filter(({ device, isa }) => device === machine.device && isa === machine.isa)
}

/** For people: one section a device and level. */
export function kernelTable({ machines, results, loadAverage }: KernelReport): string {
  const lines: string[] = []
  for (const machine of machines) {
    const { readGBs, int8GMacs, bf16GMacs, f32GMacs } = machine.ceilings
    const rows = rowsOf(machine, results)
    const rates = [
      `${readGBs.toFixed(1)} GB/s`,
      ...[['int8', int8GMacs] as const, ['bf16', bf16GMacs] as const, ['f32', f32GMacs] as const].flatMap(
        ([name, gmacs]) => (gmacs > 0 ? [`${name} ${(2 * gmacs).toFixed(0)} GFLOP/s`] : []),
      ),
    ]
    lines.push(`${machineTitle(machine)}: ${rates.join(', ')}`)
    if (loadAverage > 0.5) lines.push(`the machine was busy: load average ${loadAverage.toFixed(1)}`)
    lines.push('', ...align([[...HEADINGS], ...rows.map(cells)]), '')
  }
  return lines.join('\n')
}

function align(rows: string[][]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  return rows.map((row) =>
    row
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
      .join('  ')
      .trimEnd(),
  )
}

const COLUMNS = [
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

/** RFC 4180, with a heading. */
export function kernelCsv({ results }: KernelReport): string {
  const quote = (value: string | number) =>
    Number.isNaN(value)
      ? ''
      : /[",\n]/.test(String(value))
        ? `"${String(value).replaceAll('"', '""')}"`
        : value
  return `${[COLUMNS.join(','), ...results.map((row) => COLUMNS.map((column) => quote(row[column])).join(','))].join('\r\n')}\r\n`
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
 * What both runs have, by name, device, level and threads.
 * @throws ERR_INVALID_FILE when `before` is no report
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

/** What changed by more than the threshold; the slower ones are regressions. */
export function comparisonTable(
  comparisons: Comparison[],
  threshold: number,
): { text: string; regressions: number } {
  const slower = comparisons.filter(({ ratio }) => ratio > 1 + threshold)
  const faster = comparisons.filter(({ ratio }) => ratio < 1 / (1 + threshold))
  const rows = [...slower, ...faster].map(({ name, isa, beforeUs, nowUs, ratio }) => [
    name,
    isa,
    beforeUs.toFixed(1),
    nowUs.toFixed(1),
    ratio > 1
      ? `${(100 * (ratio - 1)).toFixed(0)} % slower`
      : `${(100 * (1 / ratio - 1)).toFixed(0)} % faster`,
  ])
  const summary = `${comparisons.length} compared: ${slower.length} slower and ${faster.length} faster by more than ${(100 * threshold).toFixed(0)} %`
  const table =
    rows.length > 0 ? ['', ...align([['kernel', 'level', 'before µs', 'now µs', ''], ...rows])] : []
  return { text: `${[summary, ...table].join('\n')}\n`, regressions: slower.length }
}
