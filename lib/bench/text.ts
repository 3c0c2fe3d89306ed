/** Parts that the text reports of benchmarks have in common. */

/** Above this load average, other processes disturb the measurement. */
const BUSY_LOAD = 0.5

/** A warning if other processes were running, as a list of lines. */
export function busyWarning(loadAverage: number): string[] {
  return loadAverage > BUSY_LOAD ? [`the machine was busy: load average ${loadAverage.toFixed(1)}`] : []
}

/** A table as lines of text. The first `left` columns are aligned to the left, the others to the right. */
export function alignColumns(rows: ReadonlyArray<readonly string[]>, left = 1): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  return rows.map((row) =>
    row
      .map((cell, column) => (column < left ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)))
      .join('  ')
      .trimEnd(),
  )
}

export function threadCount(threads: number): string {
  return `${threads} thread${threads === 1 ? '' : 's'}`
}

export function percent(share: number): string {
  return `${(100 * share).toFixed(0)} %`
}
