/** Samples and what is said of them. */

export interface Figure {
  unit: string
  median: number
  min: number
  max: number
  /** In the order in which they were taken. */
  samples: number[]
}

export function median(samples: readonly number[]): number {
  const sorted = [...samples].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** Of at least one sample. */
export function figure(unit: string, samples: readonly number[]): Figure {
  return {
    unit,
    median: median(samples),
    min: Math.min(...samples),
    max: Math.max(...samples),
    samples: [...samples],
  }
}
