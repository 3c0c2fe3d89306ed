/** The result of run.mjs as a table. */

const short = (value) => value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)
const spread = ({ median, min, max }) => `${short(median)} (${short(min)}-${short(max)})`

export function report({ machine, versions, settings, results, loadAverage }) {
  const rows = [['', 'tokens/s', 'cria', 'node-llama-cpp', 'ratio', 'limit', "cria's share"]]
  for (const { type, prompt, decode, limits } of results) {
    for (const [name, figures, limit] of [
      [`prompt of ${settings.prompt}`, prompt, limits.prompt],
      [`decode of ${settings.decode}`, decode, limits.decode],
    ]) {
      rows.push([
        type,
        name,
        spread(figures.cria),
        spread(figures['node-llama-cpp']),
        spread(figures.ratio),
        limit ? short(limit) : '',
        limit ? `${((100 * figures.cria.median) / limit).toFixed(0)} %` : '',
      ])
    }
  }
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)))
  const lines = rows.map((row) =>
    row
      .map((cell, column) => (column < 2 ? cell.padEnd(widths[column]) : cell.padStart(widths[column])))
      .join('  ')
      .trimEnd(),
  )
  const { ceilings } = machine
  return [
    `${machine.cpu}, ${settings.threads} threads, ${machine.isa}: ${ceilings.readGBs.toFixed(1)} GB/s, ` +
      `${ceilings.int8GMacs.toFixed(0)} G int8 multiply-adds/s`,
    Object.entries(versions)
      .map(([name, version]) => `${name} ${version}`)
      .join(', '),
    `medians (and the least and most) of ${settings.rounds} turns each; ratios are taken pair by pair`,
    ...(loadAverage > 0.5 ? [`the machine was busy: load average ${loadAverage.toFixed(1)}`] : []),
    '',
    ...lines,
    '',
  ].join('\n')
}
