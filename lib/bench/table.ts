/** A result as a table for people. */

import type { BenchResult } from './bench'
import type { Figure } from './figures'
import { peakGMacs } from './workload'

const GB = 1e9
/** Load average from which on figures are not to be trusted. */
const BUSY = 0.5

type Row = [name: string, median: string, min: string, max: string, note: string]

export function benchTable(result: BenchResult): string {
  const { machine, model, settings, memory } = result
  const rows: Row[] = [['', 'median', 'min', 'max', ''], ...speedRows(result), ...timeRows(result)]
  const widths = [0, 1, 2, 3].map((column) => Math.max(...rows.map((row) => row[column]!.length)))
  const lines = rows.map(([name, ...cells]) => {
    const note = cells.pop()!
    const numbers = cells.map((cell, i) => cell.padStart(widths[i + 1]!)).join('  ')
    return `${name.padEnd(widths[0]!)}  ${numbers}  ${note}`.trimEnd()
  })
  const threads = `${settings.threads} thread${settings.threads === 1 ? '' : 's'}`
  return [
    `${model.name || 'model'}: ${gigabytes(model.fileBytes)}, ${types(model.tensorTypes)}`,
    `${machine.cpu}, ${threads}, ${machine.isa}; medians of ${settings.repeat}`,
    ...(result.loadAverage > BUSY
      ? [`the machine was busy: load average ${result.loadAverage.toFixed(1)}`]
      : []),
    '',
    ...lines,
    '',
    `peak memory ${gigabytes(memory.peak)}: weights ${gigabytes(memory.weights)}, ` +
      `KV cache ${gigabytes(memory.kv)}, rest ${gigabytes(memory.rest)}`,
    '',
  ].join('\n')
}

function speedRows({ figures, settings, workload, limits, machine }: BenchResult): Row[] {
  const rows: Row[] = []
  if (figures.prompt) {
    const gmacs = (figures.prompt.median * workload.promptMacsPerToken) / 1e9
    const peak = peakGMacs(workload, machine.ceilings).toFixed(0)
    const note = `${gmacs.toFixed(0)} G multiply-adds/s`
    const share = limits.prompt
      ? `, ${percent(figures.prompt.median / limits.prompt)} of the ${workload.arithmetic} peak, ${peak}`
      : ''
    rows.push(speedRow(`prompt of ${settings.prompt}`, figures.prompt, note + share))
  }
  if (figures.decode) {
    const attended = Math.max(settings.context, 1) + settings.decode / 2
    const bytes = workload.weightBytesPerToken / settings.batch + attended * workload.kvBytesPerToken
    const { readGBs } = machine.ceilings
    const read = `${((figures.decode.median * bytes) / GB).toFixed(1)} GB/s`
    const share = limits.decode
      ? settings.batch > 1
        ? `, ${percent(figures.decode.median / limits.decode)} of the limit, ${limits.decode.toFixed(0)}`
        : `, ${percent(figures.decode.median / limits.decode)} of the memory's ${readGBs.toFixed(1)}`
      : ''
    const at = settings.batch > 1 ? `, ${settings.batch} at once` : ''
    const name = `decode of ${settings.decode}${settings.context > 0 ? ` after ${settings.context}` : ''}${at}`
    rows.push(speedRow(name, figures.decode, read + share))
  }
  return rows
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
    row('load', figures.load, 'the file being in the page cache'),
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

function percent(share: number): string {
  return `${(100 * share).toFixed(0)} %`
}
