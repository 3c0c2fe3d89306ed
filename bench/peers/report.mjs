/** The results of run.mjs and streams.mjs as tables. */

const short = (value) => value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)
const spread = ({ median, min, max }) => `${short(median)} (${short(min)}-${short(max)})`

/** How the numbers of both tables are to be read. */
const legend = (rounds) => `medians (min-max) of ${rounds} turns each`

export function comparisonTable({ machine, versions, settings, results, loadAverage }, cria) {
  const { alignColumns, busyWarning, percent, threadCount } = cria
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
        limit ? percent(figures.cria.median / limit) : '',
      ])
    }
  }
  const { cpu, isa, ceilings } = machine
  return [
    `${cpu}, ${threadCount(settings.threads)}, ${isa}: ${ceilings.readGBs.toFixed(1)} GB/s, ` +
      `${ceilings.int8GMacs.toFixed(0)} G int8 multiply-adds/s`,
    Object.entries(versions)
      .map(([name, version]) => `${name} ${version}`)
      .join(', '),
    `${legend(settings.rounds)}; ratios are taken pair by pair`,
    ...busyWarning(loadAverage),
    '',
    ...alignColumns(rows, 2),
    '',
  ].join('\n')
}

export function streamsTable({ cpu, settings, results, shared, loadAverage }, cria) {
  const { alignColumns, busyWarning, threadCount } = cria
  const { engines, rounds, threads } = settings
  const rows = [
    [
      'streams',
      ...engines.map((name) => `${name}, tokens/s`),
      ...(engines.length > 1 ? ['ratio'] : []),
      ...engines.map((name) => `${name}, first token, ms`),
    ],
  ]
  for (const { streams, total, first, ratio } of results) {
    rows.push([
      String(streams),
      ...engines.map((name) => spread(total[name])),
      ...(ratio ? [spread(ratio)] : []),
      ...engines.map((name) => spread(first[name])),
    ])
  }
  const lines = [
    `${cpu}, ${threadCount(threads)}; ${legend(rounds)}`,
    ...busyWarning(loadAverage),
    '',
    ...alignColumns(rows, 0),
  ]
  if (shared) {
    lines.push(
      '',
      `${shared.requests} requests that share ${shared.tokens} tokens, time to the first token: ` +
        `${short(shared.first.median)} ms for the first request, ` +
        `${short(shared.others.median)} ms (median) for the others together`,
    )
  }
  return `${lines.join('\n')}\n`
}
