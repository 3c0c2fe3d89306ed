/** Samples and their statistics. */

export interface Figure {
  unit: string
  median: number
  min: number
  max: number
  /** In the order of measurement. */
  samples: number[]
}

/** The quantile `share` (0 to 1) of some values, interpolated linearly. NaN without values. */
export function quantile(values: ArrayLike<number>, share: number): number {
  if (values.length === 0) return Number.NaN
  const sorted = Float64Array.from(values).sort()
  const at = share * (sorted.length - 1)
  const low = Math.floor(at)
  const high = Math.min(low + 1, sorted.length - 1)
  return sorted[low]! + (sorted[high]! - sorted[low]!) * (at - low)
}

export function median(values: ArrayLike<number>): number {
  return quantile(values, 0.5)
}

/** The statistics of at least one sample. */
export function figure(unit: string, samples: readonly number[]): Figure {
  return {
    unit,
    median: median(samples),
    min: Math.min(...samples),
    max: Math.max(...samples),
    samples: [...samples],
  }
}
