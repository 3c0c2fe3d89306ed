/** Plain float64 references of the kernels. Arrays are row-major. */

export type Numbers = ArrayLike<number>

/** ||actual - expected|| / ||magnitudes||, or the absolute error if the magnitudes are all 0. */
export function relativeError(actual: Numbers, expected: Numbers, magnitudes: Numbers = expected): number {
  expect(actual.length).toBe(expected.length)
  let difference = 0
  let norm = 0
  for (let i = 0; i < expected.length; i++) {
    difference += (actual[i]! - expected[i]!) ** 2
    norm += magnitudes[i]! ** 2
  }
  return norm > 0 ? Math.sqrt(difference / norm) : Math.sqrt(difference)
}

export function rmsNorm(x: Numbers, weight: Numbers, eps: number): Float64Array {
  const cols = weight.length
  const out = new Float64Array(x.length)
  for (let start = 0; start < x.length; start += cols) {
    let squares = 0
    for (let i = 0; i < cols; i++) squares += x[start + i]! ** 2
    for (let i = 0; i < cols; i++) {
      out[start + i] = (x[start + i]! / Math.sqrt(squares / cols + Math.fround(eps))) * weight[i]!
    }
  }
  return out
}

export function softmax(x: Numbers, cols: number): Float64Array {
  const out = new Float64Array(x.length)
  for (let start = 0; start < x.length; start += cols) {
    let max = -Infinity
    for (let i = 0; i < cols; i++) max = Math.max(max, x[start + i]!)
    let sum = 0
    for (let i = 0; i < cols; i++) sum += out[start + i] = Math.exp(x[start + i]! - max)
    for (let i = 0; i < cols; i++) out[start + i]! /= sum
  }
  return out
}

export function siluMul(gate: Numbers, up: Numbers): Float64Array {
  return Float64Array.from({ length: gate.length }, (_, i) => (gate[i]! / (1 + Math.exp(-gate[i]!))) * up[i]!)
}

export interface RopeShape {
  heads: number
  headDim: number
  positions: readonly number[]
  /** One per pair. */
  frequencies: Numbers
  half: boolean
  magnitude?: number
}

/** The angles are float32 products, as the kernel's contract says. */
export function rope(
  x: Numbers,
  { heads, headDim, positions, frequencies, half, magnitude = 1 }: RopeShape,
): Float64Array {
  const out = Float64Array.from(x as ArrayLike<number>)
  const pairs = frequencies.length
  positions.forEach((position, t) => {
    for (let h = 0; h < heads; h++) {
      for (let i = 0; i < pairs; i++) {
        const at = (t * heads + h) * headDim
        const [a, b] = half ? [at + i, at + i + pairs] : [at + 2 * i, at + 2 * i + 1]
        const angle = Math.fround(Math.fround(position) * Math.fround(frequencies[i]!))
        const [cos, sin] = [Math.cos(angle) * magnitude, Math.sin(angle) * magnitude]
        out[a] = x[a]! * cos - x[b]! * sin
        out[b] = x[a]! * sin + x[b]! * cos
      }
    }
  })
  return out
}

/** y = x · Wᵀ. */
export function matmul(x: Numbers, weight: Numbers, rows: number, cols: number): Float64Array {
  const tokens = x.length / cols
  const out = new Float64Array(tokens * rows)
  for (let t = 0; t < tokens; t++) {
    for (let r = 0; r < rows; r++) {
      let sum = 0
      for (let c = 0; c < cols; c++) sum += x[t * cols + c]! * weight[r * cols + c]!
      out[t * rows + r] = sum
    }
  }
  return out
}

export interface AttentionShape {
  heads: number
  kvHeads: number
  headDim: number
  pageTokens: number
}

/** Attention of one sequence's tokens over pages `[pages, kvHeads, pageTokens, headDim]`. */
export function attention(
  q: Numbers,
  k: Numbers,
  v: Numbers,
  { position, tokens, pages }: { position: number; tokens: number; pages: Numbers },
  { heads, kvHeads, headDim, pageTokens }: AttentionShape,
): Float64Array {
  const out = new Float64Array(tokens * heads * headDim)
  for (let t = 0; t < tokens; t++) {
    for (let h = 0; h < heads; h++) {
      const kvHead = Math.floor((h * kvHeads) / heads)
      const row = (at: number) =>
        ((pages[Math.floor(at / pageTokens)]! * kvHeads + kvHead) * pageTokens + (at % pageTokens)) * headDim
      const scores = Array.from({ length: position + t + 1 }, (_, at) => {
        let dot = 0
        for (let d = 0; d < headDim; d++) dot += q[(t * heads + h) * headDim + d]! * k[row(at) + d]!
        return dot / Math.sqrt(headDim)
      })
      softmax(scores, scores.length).forEach((weight, at) => {
        for (let d = 0; d < headDim; d++) out[(t * heads + h) * headDim + d]! += weight * v[row(at) + d]!
      })
    }
  }
  return out
}
