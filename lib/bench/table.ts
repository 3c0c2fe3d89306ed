/** The result of `cria bench` as a table. */

import type { BenchResult } from './bench'
import type { Figure } from './figures'
import { type MachineInfo, peakGMacs } from './machine'
import { alignColumns, busyWarning, percent, threadCount } from './text'
import type { Limits } from './workload'

const GB = 1e9

type Row = [name: string, median: string, min: string, max: string, note: string]

export function benchTable(result: BenchResult): string {
  const { machine, model, settings, memory } = result
  const rows: Row[] = [['', 'median', 'min', 'max', ''], ...speedRows(result), ...timeRows(result)]
  const numbers = alignColumns(rows.map(([name, ...cells]) => [name, ...cells.slice(0, 3)]))
  const lines = numbers.map((line, i) => `${line}  ${rows[i]!.at(-1)}`.trimEnd())
  return [
    `${model.name || 'model'}: ${gigabytes(model.fileBytes)}, ${types(model.tensorTypes)}`,
    `${machine.cpu}, ${threadCount(settings.threads)}, ${machine.isa}; medians of ${settings.repeat}`,
    ...busyWarning(result.loadAverage),
    '',
    ...lines,
    '',
    `peak memory ${gigabytes(memory.peak)}: weights ${gigabytes(memory.weights)}, ` +
      `KV cache ${gigabytes(memory.kv)}, rest ${gigabytes(memory.rest)}`,
    '',
  ].join('\n')
}

function speedRows({ figures, settings, workload, limits, machine }: BenchResult): Row[] {
  const { prompt, decode } = figures
  const rows: Row[] = []
  if (prompt) {
    const gmacs = (prompt.median * workload.promptMacsPerToken) / 1e9
    const peak = peakGMacs(workload.arithmetic, 'cpu', machine.ceilings).toFixed(0)
    const share = limits.prompt
      ? `, ${percent(prompt.median / limits.prompt)} of the ${workload.arithmetic} peak, ${peak}`
      : ''
    rows.push(
      speedRow(`prompt of ${settings.prompt}`, prompt, `${gmacs.toFixed(0)} G multiply-adds/s${share}`),
    )
  }
  if (decode) {
    const { context, batch } = settings
    const attended = Math.max(context, 1) + settings.decode / 2
    const bytes = workload.weightBytesPerToken / batch + attended * workload.kvBytesPerToken
    const read = `${((decode.median * bytes) / GB).toFixed(1)} GB/s`
    const after = context > 0 ? ` after ${context}` : ''
    const at = batch > 1 ? `, ${batch} at once` : ''
    rows.push(
      speedRow(
        `decode of ${settings.decode}${after}${at}`,
        decode,
        read + decodeShare(decode, batch, limits, machine),
      ),
    )
  }
  return rows
}

/** The share of the limit: for one request it is the memory bandwidth, for several also the arithmetic. */
function decodeShare({ median }: Figure, batch: number, limits: Limits, { ceilings }: MachineInfo): string {
  if (!limits.decode) return ''
  const limit =
    batch > 1 ? `the limit, ${limits.decode.toFixed(0)}` : `the memory's ${ceilings.readGBs.toFixed(1)}`
  return `, ${percent(median / limits.decode)} of ${limit}`
}

function speedRow(name: string, figure: Figure, note: string): Row {
  const short = (value: number) => value.toFixed(value < 100 ? 1 : 0)
  return [`${name}, tokens/s`, short(figure.median), short(figure.min), short(figure.max), note]
}

function timeRows({ figures }: BenchResult): Row[] {
  const row = (name: string, { median, min, max }: Figure, note: string): Row => [
    `${name}, ms`,
    ...([median, min, max].map((ms) => ms.toFixed(0)) as [string, string, string]),
    note,
  ]
  return [
    row('load', figures.load, 'with the file in the page cache'),
    row('load to first token', figures.firstToken, ''),
  ]
}

function types(byType: Readonly<Record<string, number>>): string {
  return Object.entries(byType)
    .sort(([, a], [, b]) => b - a)
    .filter(([type], i) => i === 0 || type !== 'F32')
    .map(([type]) => type)
    .join(' + ')
}

function gigabytes(bytes: number): string {
  return Math.abs(bytes) < 0.1 * GB ? `${(bytes / 1e6).toFixed(0)} MB` : `${(bytes / GB).toFixed(2)} GB`
}
