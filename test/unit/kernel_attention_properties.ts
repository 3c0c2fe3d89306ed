/**
 * The attention kernels against their references, and against the kernels that they fuse. Shared by all
 * devices.
 */

import fc from 'fast-check'
import { type HostTensor, kernels } from '../../lib/kernels'
import { type Harness, seed, small, values } from './kernel_harness'
import * as reference from './kernel_references'

const shapes = fc.constantFrom(
  { heads: 4, kvHeads: 4, headDim: 16 },
  { heads: 8, kvHeads: 2, headDim: 64 },
  { heads: 6, kvHeads: 1, headDim: 24 },
  { heads: 4, kvHeads: 2, headDim: 10 },
)

export function attentionProperties(harness: Harness): void {
  pagedAttentionProperty(harness)
  attentionInputProperty(harness)

  test('writeKv and download', async () => {
    const { place, at } = harness
    using kv = await kernels.kvCache({ pages: 2, kvHeads: 3, headDim: 20, ...at })
    expect([kv.dtype, kv.pages, kv.kvHeads, kv.headDim, kv.device]).toEqual(['F16', 2, 3, 20, place.device])
    const n = 2 * 3 * kv.pageTokens * 20
    const [k, v] = [values(1, n), values(2, n)]
    await kernels.writeKv(kv, { k, v })
    const rounded = async (x: Float32Array) =>
      kernels.dequantize({ data: await kernels.quantize(x, 'F16', at), dtype: 'F16' }, at)
    expect(await kv.download()).toEqual({ k: await rounded(k), v: await rounded(v) })
  })
}

function pagedAttentionProperty({ place, at, check, property, describeDevice }: Harness): void {
  const toF16 = (x: Float32Array) => kernels.quantize(x, 'F16', at)

  test.each(['F32', 'F16'] as const)(
    'pagedAttention over %s pages: several sequences, prefill and decoding',
    (dtype) =>
      property(
        [seed, shapes, small(3), small(90), small(20)],
        async (from, shape, count, context, tokens) => {
          const pageTokens = (await describeDevice())!.pageTokens
          const { heads, kvHeads, headDim } = shape
          const each = Math.ceil((context + tokens) / pageTokens)
          const pages = count * each + 1
          const size = [pages, kvHeads, pageTokens, headDim]
          const n = pages * kvHeads * pageTokens * headDim
          let [k, v] = [values(from, n), values(from + 1, n)]
          // The sequences take turns in claiming pages, from the last page to the first.
          const sequences = Array.from({ length: count }, (_, s) => ({
            position: Math.max(context - s, 0),
            tokens,
            pages: Array.from({ length: each }, (_unused, i) => pages - 1 - (i * count + s)),
          }))
          const q = values(from + 2, count * tokens * heads * headDim)
          let kv = { k: { data: k, shape: size }, v: { data: v, shape: size } } as {
            k: HostTensor
            v: HostTensor
          }
          if (dtype === 'F16') {
            const bits = { k: await toF16(k), v: await toF16(v) }
            kv = { k: { data: bits.k, dtype, shape: size }, v: { data: bits.v, dtype, shape: size } }
            k = await kernels.dequantize(kv.k, at)
            v = await kernels.dequantize(kv.v, at)
          }
          const width = tokens * heads * headDim
          const expected = new Float64Array(q.length)
          sequences.forEach((sequence, s) => {
            const rows = q.subarray(s * width, (s + 1) * width)
            expected.set(reference.attention(rows, k, v, sequence, { ...shape, pageTokens }), s * width)
          })
          const tolerance = dtype === 'F16' ? place.halfAttention : 2e-6
          await check(expected, tolerance, (where) => kernels.pagedAttention(q, kv, { sequences, ...where }))
        },
        12,
      ),
  )
}

function attentionInputProperty({ place, at, property, describeDevice }: Harness): void {
  test.each(['interleaved', 'half'] as const)(
    'attentionInput, %s: the bits of its parts, in the result and in the cache',
    (layout) =>
      property(
        [seed, small(5), fc.integer({ min: 0, max: 60 })],
        async (from, tokens, position) => {
          const pageTokens = (await describeDevice())!.pageTokens
          const [hidden, heads, kvHeads, headDim] = [64, 4, 2, 16]
          const x = values(from, tokens * hidden)
          const norm = values(from + 1, hidden)
          const matrix = (at: number, rows: number) => ({
            data: values(from + at, rows * hidden),
            shape: [rows, hidden],
          })
          const weights = {
            norm,
            query: matrix(2, heads * headDim),
            key: matrix(3, kvHeads * headDim),
            value: matrix(4, kvHeads * headDim),
          }
          const positions = Array.from({ length: tokens }, (_, i) => position + i)
          const n = await kernels.rmsNorm(x, norm, at)
          const rope = { headDim, positions, layout, ...at }
          const q = await kernels.rope(await kernels.matmul(n, weights.query, at), rope)
          const k = await kernels.rope(await kernels.matmul(n, weights.key, at), rope)
          const v = await kernels.matmul(n, weights.value, at)
          const pages = [2, 0, 3]
          for (const setting of place.settings) {
            using kv = await kernels.kvCache({ pages: 4, kvHeads, headDim, dtype: 'F32', ...at })
            const sequences = [{ position, tokens, pages }]
            expect(
              await kernels.attentionInput(x, weights, kv, { sequences, rope: { layout }, ...setting }),
            ).toEqual(q)
            const cache = await kv.download()
            for (const [t, at] of positions.entries()) {
              for (let head = 0; head < kvHeads; head++) {
                const page = pages[Math.floor(at / pageTokens)]!
                const start = ((page * kvHeads + head) * pageTokens + (at % pageTokens)) * headDim
                const from = (t * kvHeads + head) * headDim
                expect(cache.k.subarray(start, start + headDim)).toEqual(k.subarray(from, from + headDim))
                expect(cache.v.subarray(start, start + headDim)).toEqual(v.subarray(from, from + headDim))
              }
            }
          }
        },
        6,
      ),
  )
}
