/**
 * Plots a result of bench/peers/run.mjs as SVG: a bar per engine, in front of the limit of the machine.
 *
 *   node bench/plot.mjs bench/results/peers.json docs/performance.svg
 */

import { readFileSync, writeFileSync } from 'node:fs'

const WIDTH = 900
const MARGIN = 20
const TOP = 98
const LABEL = 64
const BAR = 15
const GROUP = 2 * BAR + 16
const PANEL = (WIDTH - 3 * MARGIN) / 2
/** Width of the numbers beside the bars. */
const NUMBER = 92

const COLORS = {
  cria: '#1f6f5c',
  'node-llama-cpp': '#9aa5b1',
  limit: '#e4e9ee',
  text: '#1c2733',
  quiet: '#5d6b7a',
}

const escaped = (text) => String(text).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`)
const rounded = (value) => (value < 100 ? value.toFixed(1) : value.toFixed(0))

function text(x, y, content, { size = 12, fill = COLORS.text, anchor = 'start', weight = 'normal' } = {}) {
  const style = `font-size="${size}" fill="${fill}" text-anchor="${anchor}" font-weight="${weight}"`
  return `<text x="${x}" y="${y}" ${style}>${escaped(content)}</text>`
}

function bar(x, y, width, height, fill, title) {
  const tip = title ? `<title>${escaped(title)}</title>` : ''
  const size = `width="${Math.max(width, 1).toFixed(1)}" height="${height}"`
  return `<rect x="${x}" y="${y}" ${size} fill="${fill}">${tip}</rect>`
}

/** A number inside the end of the bar if it fits, otherwise after the bar, clear of the limit's line. */
function barLabel(label, begin, length, limit, y, bold) {
  const width = 8 + label.length * 6.6
  const style = { size: 11, weight: bold ? 'bold' : 'normal' }
  if (length > width) {
    const inside = { ...style, fill: bold ? '#ffffff' : COLORS.text, anchor: 'end' }
    return text((begin + length - 5).toFixed(1), y, label, inside)
  }
  const end = limit > length && limit < length + width ? limit : length
  return text((begin + end + 5).toFixed(1), y, label, style)
}

/** The bars of one figure (prompt or decode), for every type. */
function panel(left, heading, results, name) {
  const longest = Math.max(
    ...results.map((result) =>
      Math.max(result.limits[name] ?? 0, result[name].cria.max, result[name]['node-llama-cpp'].max),
    ),
  )
  const begin = left + LABEL
  const scale = (PANEL - LABEL - NUMBER) / longest
  const parts = [text(left, TOP - 14, heading, { size: 14, weight: 'bold' })]
  results.forEach((result, index) => {
    const y = TOP + index * GROUP
    parts.push(
      text(left, y + BAR + 5, result.type),
      ...group(begin, y, scale, result[name], result.limits[name]),
    )
  })
  return parts
}

/** The limit of one type, and the bars of both engines in front of it. */
function group(begin, y, scale, figures, limit) {
  const parts = []
  const height = 2 * BAR + 2
  if (limit) {
    const end = begin + limit * scale
    parts.push(
      bar(begin, y, limit * scale, height, COLORS.limit, `limit: ${rounded(limit)} tokens/s`),
      `<path d="M${end.toFixed(1)} ${y}v${height}" stroke="${COLORS.quiet}"/>`,
      text((end + 4).toFixed(1), y + height - 3, rounded(limit), { size: 10, fill: COLORS.quiet }),
    )
  }
  for (const [row, engine] of ['cria', 'node-llama-cpp'].entries()) {
    const { median, min, max } = figures[engine]
    const top = y + row * (BAR + 2)
    const spread = `${engine}: ${rounded(median)} tokens/s (${rounded(min)} to ${rounded(max)})`
    const label = row === 0 ? `${rounded(median)} (${figures.ratio.median.toFixed(1)} x)` : rounded(median)
    parts.push(
      bar(begin, top, median * scale, BAR, COLORS[engine], spread),
      barLabel(label, begin, median * scale, limit ? limit * scale : 0, top + BAR - 4, row === 0),
    )
  }
  return parts
}

function legend() {
  const entries = [
    ['cria', 'cria'],
    ['node-llama-cpp', 'node-llama-cpp'],
    ['limit', 'limit of the machine: int8 or float peak (prompt), memory bandwidth (decode)'],
  ]
  let x = MARGIN
  return entries.flatMap(([key, label]) => {
    const at = x
    x += 30 + label.length * 6.6
    return [bar(at, 38, 11, 11, COLORS[key]), text(at + 16, 48, label, { fill: COLORS.quiet })]
  })
}

function plot({ results, settings, machine, versions, date }) {
  const height = TOP + results.length * GROUP + 40
  const shape = results[0].model.name.split(':')[0]
  const foot =
    `${machine.cpu}, ${settings.threads} threads, ${machine.isa}; ` +
    `node-llama-cpp ${versions['node-llama-cpp']}; ` +
    `medians of ${settings.rounds} turns each; ${date.slice(0, 10)}`
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" ` +
      `width="${WIDTH}" height="${height}"` +
      ' font-family="system-ui, sans-serif" role="img">',
    `<title>${escaped(`${shape}: tokens per second of cria and node-llama-cpp`)}</title>`,
    bar(0, 0, WIDTH, height, '#ffffff'),
    text(MARGIN, 24, `${shape}, tokens per second`, { size: 16, weight: 'bold' }),
    ...legend(),
    ...panel(MARGIN, `prompt of ${settings.prompt} tokens`, results, 'prompt'),
    ...panel(2 * MARGIN + PANEL, `decode of ${settings.decode} tokens`, results, 'decode'),
    text(MARGIN, height - 14, foot, { size: 11, fill: COLORS.quiet }),
    '</svg>',
    '',
  ].join('\n')
}

const [from, to] = process.argv.slice(2)
if (!from || !to) {
  process.stderr.write('usage: node bench/plot.mjs <result of bench/peers/run.mjs> <file.svg>\n')
  process.exitCode = 2
} else {
  writeFileSync(to, plot(JSON.parse(readFileSync(from, 'utf8'))))
}
