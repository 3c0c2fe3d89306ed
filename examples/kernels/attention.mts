// Attention over pages, in any order, against a dense one written out: where the pages lie changes nothing.
import { devices, kernels } from 'cria/kernels'

const [heads, kvHeads, headDim, context] = [8, 2, 64, 100]
const { pageTokens } = (await devices())[0]!
const pages = Math.ceil(context / pageTokens)

const random = (n: number) => Float32Array.from({ length: n }, () => Math.random() * 2 - 1)
const q = random(heads * headDim) // one token, the last
const k = random(context * kvHeads * headDim) // [context, kvHeads, headDim]
const v = random(context * kvHeads * headDim)

/** softmax(q · Kᵀ / sqrt(headDim)) · V for each head; heads of a group share keys and values. */
function dense(): Float64Array {
  const out = new Float64Array(heads * headDim)
  for (let head = 0; head < heads; head++) {
    const of = (t: number) => (t * kvHeads + Math.floor((head * kvHeads) / heads)) * headDim
    const scores = Array.from({ length: context }, (_, t) => {
      let dot = 0
      for (let d = 0; d < headDim; d++) dot += q[head * headDim + d]! * k[of(t) + d]!
      return dot / Math.sqrt(headDim)
    })
    const highest = Math.max(...scores)
    const powers = scores.map((score) => Math.exp(score - highest))
    const total = powers.reduce((sum, power) => sum + power)
    for (let t = 0; t < context; t++)
      for (let d = 0; d < headDim; d++) out[head * headDim + d]! += (powers[t]! / total) * v[of(t) + d]!
  }
  return out
}

/** The same numbers as [pages, kvHeads, pageTokens, headDim], position t in page `table[t / pageTokens]`. */
function paged(values: Float32Array, table: number[]): Float32Array {
  const out = new Float32Array(pages * kvHeads * pageTokens * headDim)
  for (let t = 0; t < context; t++)
    for (let head = 0; head < kvHeads; head++) {
      const page = table[Math.floor(t / pageTokens)]!
      const from = (t * kvHeads + head) * headDim
      out.set(
        values.subarray(from, from + headDim),
        ((page * kvHeads + head) * pageTokens + (t % pageTokens)) * headDim,
      )
    }
  return out
}

const expected = dense()
const shape = [pages, kvHeads, pageTokens, headDim]
let first: Float32Array | undefined
for (const table of [[...Array(pages).keys()], [...Array(pages).keys()].reverse()]) {
  const kv = { k: { data: paged(k, table), shape }, v: { data: paged(v, table), shape } }
  const out = await kernels.pagedAttention(q, kv, {
    sequences: [{ position: context - 1, tokens: 1, pages: table }],
  })
  const worst = Math.max(...Array.from(out, (value, i) => Math.abs(value - expected[i]!)))
  const same = first?.every((value, i) => Object.is(value, out[i])) ?? true
  console.log(
    `pages ${table.join(', ')}: differs from the dense one by at most ${worst.toExponential(1)}${first ? `, from the other order in ${same ? 'no bit' : 'some bits'}` : ''}`,
  )
  first ??= out
}
