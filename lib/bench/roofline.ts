/** A report as a roofline plot (Williams, Waterman & Patterson 2009), in SVG. */

import { type KernelReport, type KernelRow, machineTitle, rowsOf } from './kernel_report'

const WIDTH = 960
const HEIGHT = 600
const PLOT = { left: 70, right: 700, top: 40, bottom: 540 }
const COLORS = [
  '#4269d0',
  '#efb118',
  '#ff725c',
  '#6cc5b0',
  '#3ca951',
  '#ff8ab7',
  '#a463f2',
  '#97bbf5',
  '#9c6b4e',
  '#9498a0',
]

const colorOf = (index: number) => COLORS[index % COLORS.length]!

interface Axis {
  low: number
  high: number
  at(value: number): number
}

/** A logarithmic axis over the whole decades that hold all values. */
function axis(values: number[], from: number, to: number): Axis {
  const low = Math.floor(Math.log10(Math.min(...values)))
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values))))
  return { low, high, at: (value) => from + ((Math.log10(value) - low) / (high - low)) * (to - from) }
}

/**
 * Plots the kernels of the report's last device or level: GFLOP/s over arithmetic intensity, under the
 * measured ceilings.
 */
export function rooflineSvg({ machines, results }: KernelReport): string {
  const machine = machines.at(-1)!
  const rows = rowsOf(machine, results).filter(({ flops }) => flops > 0)
  const { readGBs, int8GMacs, bf16GMacs, f32GMacs } = machine.ceilings
  const roofs = [
    { name: 'int8', gflops: 2 * int8GMacs },
    { name: 'bf16', gflops: 2 * bf16GMacs },
    { name: 'f32', gflops: 2 * f32GMacs },
  ].filter(({ gflops }) => gflops > 0)
  const intensities = rows.map(({ flops, bytes }) => flops / bytes)
  const highest = Math.max(1, ...roofs.map(({ gflops }) => gflops))
  const x = axis([...intensities, highest / readGBs, 0.1], PLOT.left, PLOT.right)
  const y = axis(
    [...rows.map(({ gflopPerSec }) => gflopPerSec), highest, 10 ** x.low * readGBs],
    PLOT.bottom,
    PLOT.top,
  )
  const ops = [...new Set(rows.map(({ spec }) => spec.op))]
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}"`,
    ' font-family="sans-serif" font-size="12">',
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="white"/>`,
    text((PLOT.left + PLOT.right) / 2, 22, escapeXml(machineTitle(machine)), 'middle', 14),
    ...grid(x, y),
    ...ceilings(x, y, readGBs, roofs),
    ...rows.map((row) => point(row, x, y, colorOf(ops.indexOf(row.spec.op)))),
    ...legend(ops),
    '</svg>',
  ].join('\n')}\n`
}

function grid(x: Axis, y: Axis): string[] {
  const lines: string[] = []
  for (let decade = x.low; decade <= x.high; decade++) {
    const at = x.at(10 ** decade)
    lines.push(
      line(at, PLOT.top, at, PLOT.bottom, '#ddd'),
      text(at, PLOT.bottom + 18, label(decade), 'middle'),
    )
  }
  for (let decade = y.low; decade <= y.high; decade++) {
    const at = y.at(10 ** decade)
    lines.push(line(PLOT.left, at, PLOT.right, at, '#ddd'), text(PLOT.left - 8, at + 4, label(decade), 'end'))
  }
  lines.push(text((PLOT.left + PLOT.right) / 2, HEIGHT - 20, 'operations per byte', 'middle'))
  const upwards = `translate(18 ${(PLOT.top + PLOT.bottom) / 2}) rotate(-90)`
  lines.push(`<text transform="${upwards}" text-anchor="middle">GFLOP/s</text>`)
  return lines
}

function ceilings(
  x: Axis,
  y: Axis,
  readGBs: number,
  roofs: Array<{ name: string; gflops: number }>,
): string[] {
  const highest = Math.max(1, ...roofs.map(({ gflops }) => gflops))
  // The intensity at which the bandwidth line meets a roof, within the plot.
  const ridge = (gflops: number) => Math.min(Math.max(gflops / readGBs, 10 ** x.low), 10 ** x.high)
  const left = 10 ** x.low
  const lines = [
    line(x.at(left), y.at(left * readGBs), x.at(ridge(highest)), y.at(ridge(highest) * readGBs), '#333', 2),
    text(x.at(left) + 8, y.at(left * readGBs) - 14, `${readGBs.toFixed(1)} GB/s`),
  ]
  for (const { name, gflops } of roofs) {
    lines.push(line(x.at(ridge(gflops)), y.at(gflops), PLOT.right, y.at(gflops), '#333', 2))
    lines.push(text(PLOT.right - 4, y.at(gflops) - 5, `${name} ${gflops.toFixed(0)} GFLOP/s`, 'end'))
  }
  return lines
}

function point(
  { name, flops, bytes, gflopPerSec, shareOfPeak }: KernelRow,
  x: Axis,
  y: Axis,
  color: string,
): string {
  const title = `${name}: ${gflopPerSec.toFixed(1)} GFLOP/s, ${(100 * shareOfPeak).toFixed(0)} % of peak`
  return (
    `<circle cx="${round(x.at(flops / bytes))}" cy="${round(y.at(gflopPerSec))}" r="4.5" ` +
    `fill="${color}" fill-opacity="0.8"><title>${escapeXml(title)}</title></circle>`
  )
}

function legend(ops: string[]): string[] {
  return ops.flatMap((op, i) => [
    `<circle cx="${PLOT.right + 30}" cy="${PLOT.top + 20 + 22 * i}" r="5" fill="${colorOf(i)}"/>`,
    text(PLOT.right + 44, PLOT.top + 24 + 22 * i, op),
  ])
}

function line(x1: number, y1: number, x2: number, y2: number, color: string, width = 1): string {
  const ends = `x1="${round(x1)}" y1="${round(y1)}" x2="${round(x2)}" y2="${round(y2)}"`
  return `<line ${ends} stroke="${color}" stroke-width="${width}"/>`
}

function text(x: number, y: number, content: string, anchor = 'start', size = 12): string {
  const place = `x="${round(x)}" y="${round(y)}" text-anchor="${anchor}"`
  return `<text ${place} font-size="${size}">${content}</text>`
}

function label(decade: number): string {
  return decade >= -2 && decade <= 4 ? String(Number((10 ** decade).toFixed(2))) : `1e${decade}`
}

function round(value: number): string {
  return value.toFixed(1)
}

function escapeXml(value: string): string {
  return value.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
