// Attention over pages in any order, compared with plain attention: the place of a page changes no bit.
import { devices, kernels } from 'cria/kernels'

const [heads, kvHeads, headDim, context] = [8, 2, 64, 100]
const { pageTokens } = (await devices())[0]!
const pages = Math.ceil(context / pageTokens)

const random = (n: number) => Float32Array.from({ length: n }, () => Math.random() * 2 - 1)
/** [heads, headDim]: one token, the last. */
const q = random(heads * headDim)
/** Keys and values: [context, kvHeads, headDim]. */
const k = random(context * kvHeads * headDim)
const v = random(context * kvHeads * headDim)

/** softmax(q · Kᵀ / sqrt(headDim)) · V for each head. The heads of a group share keys and values. */
function plainAttention(): Float64Array {
  const out = new Float64Array(heads * headDim)
  for (let head = 0; head < heads; head++) {
    const kvHead = Math.floor((head * kvHeads) / heads)
    const rowOf = (t: number) => (t * kvHeads + kvHead) * headDim
    const scores = Array.from({ length: context }, (_, t) => {
      let dot = 0
      for (let d = 0; d < headDim; d++) dot += q[head * headDim + d]! * k[rowOf(t) + d]!
      return dot / Math.sqrt(headDim)
    })
    const max = Math.max(...scores)
    const weights = scores.map((score) => Math.exp(score - max))
    const sum = weights.reduce((total, weight) => total + weight)
    weights.forEach((weight, t) => {
      for (let d = 0; d < headDim; d++) out[head * headDim + d]! += (weight / sum) * v[rowOf(t) + d]!
    })
  }
  return out
}

/**
 * The same values as [pages, kvHeads, pageTokens, headDim]. Position t lies in page `blockTable[t /
 * pageTokens]`.
 */
function paged(values: Float32Array, blockTable: number[]): Float32Array {
  const out = new Float32Array(pages * kvHeads * pageTokens * headDim)
  for (let t = 0; t < context; t++) {
    const page = blockTable[Math.floor(t / pageTokens)]!
    for (let head = 0; head < kvHeads; head++) {
      const from = (t * kvHeads + head) * headDim
      const to = ((page * kvHeads + head) * pageTokens + (t % pageTokens)) * headDim
      out.set(values.subarray(from, from + headDim), to)
    }
  }
  return out
}

const expected = plainAttention()

async function pagedAttention(blockTable: number[]): Promise<Float32Array> {
  const shape = [pages, kvHeads, pageTokens, headDim]
  const kv = { k: { data: paged(k, blockTable), shape }, v: { data: paged(v, blockTable), shape } }
  const sequences = [{ position: context - 1, tokens: 1, pages: blockTable }]
  const out = await kernels.pagedAttention(q, kv, { sequences })
  const maxError = out.reduce((max, value, i) => Math.max(max, Math.abs(value - expected[i]!)), 0)
  console.log(`pages ${blockTable.join(', ')}: the largest difference is ${maxError.toExponential(1)}`)
  return out
}

const ascending = Array.from({ length: pages }, (_, i) => i)
const first = await pagedAttention(ascending)
const second = await pagedAttention([...ascending].reverse())
const changed = first.filter((value, i) => !Object.is(value, second[i])).length
console.log(`the order of the pages changes ${changed} of ${first.length} values`)
