/** Each kernel through the public API against its float64 reference, on random shapes: one list for every device. */

import fc from 'fast-check'
import {
  type DType,
  devices,
  type HostTensor,
  type KernelDevice,
  type KernelOptions,
  kernels,
  type RopeScaling,
  type WeightType,
} from '../../lib/kernels'
import { ALL_TYPES, DTYPES, WEIGHT_TYPES } from '../../lib/kernels/dtypes'
import * as reference from './kernel_references'

/** Where the properties are to hold, and how much of them is tried. */
export interface Place {
  /** As `devices()` names it. */
  device: string
  /** Ways to run a kernel there: all give the same bits. */
  settings: KernelOptions[]
  /** Of the runs, at least two of each property. */
  share: number
  /** Of an attention whose cache is F16: its arithmetic is the device's own (docs/numerics.md). */
  halfAttention: number
}

const RUNS = 25

/** The products' activations: as docs/numerics.md has them. */
const ACTIVATIONS: Record<WeightType, DType> = {
  ...{ F32: 'F32', F16: 'F16', BF16: 'BF16', Q4_0: 'Q8_0', Q5_0: 'Q8_0', Q8_0: 'Q8_0', IQ4_NL: 'Q8_0' },
  ...{ Q4_1: 'Q8_1', Q5_1: 'Q8_1', Q2_K: 'Q8_K', Q3_K: 'Q8_K', Q4_K: 'Q8_K', Q5_K: 'Q8_K', Q6_K: 'Q8_K' },
  IQ4_XS: 'Q8_K',
}

/** Values of a seed: uniform in ±2. */
export function values(seed: number, n: number): Float32Array {
  let state = (Math.imul(seed, 0x9e3779b1) ^ 0x6d2b79f5) >>> 0 || 1
  return Float32Array.from({ length: n }, () => {
    state ^= state << 13
    state ^= state >>> 17
    state = (state ^ (state << 5)) >>> 0
    return (state / 2 ** 32) * 4 - 2
  })
}

const seed = fc.integer({ min: 1, max: 2 ** 31 - 1 })
const small = (max: number) => fc.integer({ min: 1, max })

export function kernelProperties(place: Place): void {
  const at = { device: place.device as KernelDevice }

  /** Runs the kernel in every setting: equal bits, near `expected`. */
  async function check<T extends Float32Array>(
    expected: ArrayLike<number>,
    tolerance: number,
    run: (where: KernelOptions) => Promise<T>,
    magnitudes: ArrayLike<number> = expected,
  ): Promise<void> {
    let first: T | undefined
    for (const setting of place.settings) {
      const found = await run(setting)
      if (!first) expect(reference.relativeError(found, expected, magnitudes)).toBeLessThan(tolerance)
      first ??= found
      expect(Buffer.from(found.buffer).equals(Buffer.from(first.buffer))).toBe(true)
    }
  }

  const property = <T extends [unknown, ...unknown[]]>(
    arbitraries: { [K in keyof T]: fc.Arbitrary<T[K]> },
    body: (...args: T) => Promise<void>,
    runs = RUNS,
  ) =>
    fc.assert(fc.asyncProperty(...(arbitraries as [fc.Arbitrary<T[0]>]), body as never), {
      numRuns: Math.max(2, Math.round(runs * place.share)),
    })

  async function quantized(x: Float32Array, dtype: DType, shape: number[]): Promise<HostTensor> {
    return { data: await kernels.quantize({ data: x, shape }, dtype, at), dtype, shape }
  }

  async function pageTokensThere(): Promise<number> {
    return (await devices()).find(({ device }) => device === place.device)!.pageTokens
  }

  test('the device is one of those that are listed', async () => {
    const found = (await devices()).find(({ device }) => device === place.device)
    expect(found).toMatchObject({ device: place.device, isa: expect.stringMatching(/./) })
  })

  test('rmsNorm', () =>
    property([seed, small(5), small(300)], async (from, rows, cols) => {
      const [x, weight] = [values(from, rows * cols), values(from + 1, cols)]
      await check(reference.rmsNorm(x, weight, 1e-5), 1e-6, (where) => kernels.rmsNorm(x, weight, where))
    }))

  test('addRmsNorm', () =>
    property([seed, small(5), small(300)], async (from, rows, cols) => {
      const [x, y, weight] = [
        values(from, rows * cols),
        values(from + 1, rows * cols),
        values(from + 2, cols),
      ]
      const sum = x.map((value, i) => Math.fround(value + y[i]!))
      const before = x.slice()
      await check(reference.rmsNorm(sum, weight, 1e-3), 1e-6, async (where) => {
        const found = await kernels.addRmsNorm(x, y, weight, { eps: 1e-3, ...where })
        expect(found.sum).toEqual(sum)
        return found.out
      })
      expect(x).toEqual(before)
    }))

  test('softmax', () =>
    property([seed, small(5), small(3000), fc.constantFrom(0.01, 1, 50)], async (from, rows, cols, scale) => {
      const x = values(from, rows * cols).map((value) => value * scale)
      await check(reference.softmax(x, cols), 1e-6, (where) =>
        kernels.softmax({ data: x, shape: [rows, cols] }, where),
      )
    }))

  test('siluMul', () =>
    property([seed, small(2000), fc.constantFrom(0.01, 1, 40)], async (from, n, scale) => {
      const [gate, up] = [values(from, n).map((value) => value * scale), values(from + 1, n)]
      await check(reference.siluMul(gate, up), 1e-6, (where) => kernels.siluMul(gate, up, where))
    }))

  test('siluMul far out: gates below -88 give zero where float64 gives less than 4e-37, above 88 the gate itself', async () => {
    const gate = Float32Array.of(-88, -89, -100, -1e30, 89, 1e30)
    for (const setting of place.settings) {
      const found = await kernels.siluMul(gate, new Float32Array(gate.length).fill(1), setting)
      expect(reference.relativeError(found.subarray(0, 1), [-88 / (1 + Math.exp(88))])).toBeLessThan(1e-6)
      for (const value of found.subarray(1, 4)) expect(Math.abs(value)).toBe(0)
      expect([...found.subarray(4)]).toEqual([...gate.subarray(4)])
    }
  })

  describe('rope', () => {
    const plain = (base: number, ropeDim: number) =>
      Array.from({ length: ropeDim / 2 }, (_, i) => base ** ((-2 * i) / ropeDim))

    /** Written from the papers and from Meta's and Hugging Face's code. */
    function frequencies(base: number, ropeDim: number, scaling: RopeScaling): number[] {
      return plain(base, ropeDim).map((frequency, i) => {
        if (scaling.type === 'none') return frequency
        if (scaling.type === 'linear') return frequency / scaling.factor
        if (scaling.type === 'llama3') {
          const wavelength = (2 * Math.PI) / frequency
          const {
            factor,
            lowFreqFactor: low,
            highFreqFactor: high,
            originalContextLength: original,
          } = scaling
          if (wavelength < original / high) return frequency
          if (wavelength > original / low) return frequency / factor
          const smooth = (original / wavelength - low) / (high - low)
          return ((1 - smooth) * frequency) / factor + smooth * frequency
        }
        const { factor, originalContextLength: original, betaFast = 32, betaSlow = 1 } = scaling
        const dimension = (rotations: number) =>
          (ropeDim * Math.log(original / (rotations * 2 * Math.PI))) / (2 * Math.log(base))
        const low = Math.max(0, Math.floor(dimension(betaFast)))
        const high = Math.min(ropeDim - 1, Math.ceil(dimension(betaSlow)))
        const ramp = Math.min(1, Math.max(0, (i - low) / (high === low ? 0.001 : high - low)))
        return (frequency / factor) * ramp + frequency * (1 - ramp)
      })
    }

    const scalings = fc.constantFrom<RopeScaling>(
      { type: 'none' },
      { type: 'linear', factor: 4 },
      { type: 'llama3', factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalContextLength: 8192 },
      { type: 'yarn', factor: 16, originalContextLength: 4096 },
      { type: 'yarn', factor: 2, originalContextLength: 512, betaFast: 16, betaSlow: 2 },
    )
    test('both layouts, every scaling', () =>
      property(
        [
          seed,
          small(4),
          small(3),
          small(40),
          fc.nat(),
          scalings,
          fc.boolean(),
          fc.constantFrom(10000, 500000),
        ],
        async (from, tokens, heads, halfDim, cut, scaling, half, base) => {
          const headDim = 2 * halfDim
          const ropeDim = 2 * (halfDim - (cut % halfDim))
          const x = values(from, tokens * heads * headDim)
          const positions = Array.from(values(from + 1, tokens), (value) => Math.floor(Math.abs(value) * 100))
          const shape = { heads, headDim, positions, frequencies: frequencies(base, ropeDim, scaling), half }
          const magnitude = scaling.type === 'yarn' ? 0.1 * Math.log(scaling.factor) + 1 : 1
          // A frequency may round the other way, which position 200 makes an angle of 1e-5.
          await check(reference.rope(x, { ...shape, magnitude }), 3e-5, (where) =>
            kernels.rope(x, {
              headDim,
              ropeDim,
              positions,
              base,
              scaling,
              layout: half ? 'half' : 'interleaved',
              ...where,
            }),
          )
        },
        60,
      ))

    test('factors of a file divide the frequencies', async () => {
      const x = values(5, 2 * 64)
      const frequencyFactors = Float32Array.from({ length: 32 }, (_, i) => 1 + i / 8)
      const shape = { heads: 1, headDim: 64, positions: [1, 9], half: false }
      const expected = reference.rope(x, {
        ...shape,
        frequencies: plain(10000, 64).map((frequency, i) => frequency / frequencyFactors[i]!),
      })
      await check(expected, 1e-6, (where) =>
        kernels.rope(x, { headDim: 64, positions: [1, 9], frequencyFactors, ...where }),
      )
    })
  })

  describe.each(WEIGHT_TYPES)('matmul, %s', (dtype) => {
    const { block } = DTYPES[dtype]
    test('alone, and added to', () =>
      property(
        [seed, small(block === 256 ? 2 : 5), small(40), small(9)],
        async (from, blocks, rows, tokens) => {
          const cols = block === 1 ? 16 * blocks + (from % 16) : block * blocks
          const x = values(from, tokens * cols)
          const weight = await quantized(values(from + 1, rows * cols), dtype, [rows, cols])
          const held = await kernels.dequantize(weight, at)
          const rounded = await kernels.dequantize(await quantized(x, ACTIVATIONS[dtype], [tokens, cols]), at)
          const product = reference.matmul(rounded, held, rows, cols)
          // Beside the terms of a sum, since they may cancel.
          const terms = reference.matmul(rounded.map(Math.abs), held.map(Math.abs), rows, cols)
          const tolerance = ACTIVATIONS[dtype] === 'Q8_1' ? 1e-2 : 1e-6
          await check(product, tolerance, (where) => kernels.matmul(x, weight, where), terms)
          const addTo = values(from + 2, tokens * rows)
          const sum = product.map((value, i) => value + addTo[i]!)
          const allTerms = terms.map((value, i) => value + Math.abs(addTo[i]!))
          await check(sum, tolerance, (where) => kernels.matmul(x, weight, { addTo, ...where }), allTerms)
        },
        8,
      ))
  })

  describe.each(['F32', 'Q4_K', 'BF16'] as const)('swiglu, %s', (dtype) => {
    test('equals its pieces, bit for bit', () =>
      property(
        [seed, small(6), small(40)],
        async (from, tokens, ffnHidden) => {
          const hidden = 256
          const x = values(from, tokens * hidden)
          const norm = values(from + 1, hidden)
          const gate = await quantized(values(from + 2, ffnHidden * hidden), dtype, [ffnHidden, hidden])
          const up = await quantized(values(from + 3, ffnHidden * hidden), dtype, [ffnHidden, hidden])
          const n = await kernels.rmsNorm(x, norm, at)
          const pieces = await kernels.siluMul(
            await kernels.matmul(n, gate, at),
            await kernels.matmul(n, up, at),
            at,
          )
          await check(pieces, 1e-9, (where) => kernels.swiglu(x, { norm, gate, up }, where))
          expect(await kernels.swiglu(x, { norm, gate, up }, at)).toEqual(pieces)
        },
        5,
      ))
  })

  describe('attention', () => {
    const shapes = fc.constantFrom(
      { heads: 4, kvHeads: 4, headDim: 16 },
      { heads: 8, kvHeads: 2, headDim: 64 },
      { heads: 6, kvHeads: 1, headDim: 24 },
      { heads: 4, kvHeads: 2, headDim: 10 },
    )
    const half = (x: Float32Array) => kernels.quantize(x, 'F16', at)

    test.each(['F32', 'F16'] as const)(
      'pages of %s: any sequences, at any place, prefill and decoding',
      (dtype) =>
        property(
          [seed, shapes, small(3), small(90), small(20)],
          async (from, shape, count, context, tokens) => {
            const pageTokens = await pageTokensThere()
            const { heads, kvHeads, headDim } = shape
            const each = Math.ceil((context + tokens) / pageTokens)
            const pages = count * each + 1
            const size = [pages, kvHeads, pageTokens, headDim]
            const n = pages * kvHeads * pageTokens * headDim
            let [k, v] = [values(from, n), values(from + 1, n)]
            // Pages of the sequences are interleaved, the last first.
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
              const bits = { k: await half(k), v: await half(v) }
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
            await check(expected, tolerance, (where) =>
              kernels.pagedAttention(q, kv, { sequences, ...where }),
            )
          },
          12,
        ),
    )

    test.each(['interleaved', 'half'] as const)(
      'attentionInput, %s: its pieces, and what it leaves in the pages',
      (layout) =>
        property(
          [seed, small(5), fc.integer({ min: 0, max: 60 })],
          async (from, tokens, position) => {
            const pageTokens = await pageTokensThere()
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

    test('writeKv, and what comes back', async () => {
      using kv = await kernels.kvCache({ pages: 2, kvHeads: 3, headDim: 20, ...at })
      expect([kv.dtype, kv.pages, kv.kvHeads, kv.headDim, kv.device]).toEqual(['F16', 2, 3, 20, place.device])
      const n = 2 * 3 * kv.pageTokens * 20
      const [k, v] = [values(1, n), values(2, n)]
      await kernels.writeKv(kv, { k, v })
      const rounded = async (x: Float32Array) =>
        kernels.dequantize({ data: await kernels.quantize(x, 'F16', at), dtype: 'F16' }, at)
      expect(await kv.download()).toEqual({ k: await rounded(k), v: await rounded(v) })
    })
  })

  describe.each(ALL_TYPES)('quantize and dequantize, %s', (dtype) => {
    /** Of the largest magnitude in a block. */
    const ERRORS: Record<DType, number> = {
      ...{ F32: 0, F16: 2 ** -10, BF16: 2 ** -8, Q8_0: 1 / 127, Q8_1: 1 / 127, Q8_K: 1 / 127 },
      ...{ Q4_0: 0.15, Q4_1: 0.15, Q5_0: 0.08, Q5_1: 0.08, IQ4_NL: 0.2, IQ4_XS: 0.2 },
      ...{ Q2_K: 0.7, Q3_K: 0.35, Q4_K: 0.2, Q5_K: 0.1, Q6_K: 0.06 },
    }
    test('near, resident or not, at every level', () =>
      property(
        [seed, small(3), small(3)],
        async (from, rows, blocks) => {
          const cols = blocks * Math.max(DTYPES[dtype].block, 8)
          const x = values(from, rows * cols)
          const shape = [rows, cols]
          const data = await kernels.quantize({ data: x, shape }, dtype, at)
          expect(data.byteLength).toBe(((rows * cols) / DTYPES[dtype].block) * DTYPES[dtype].bytes)
          const back = await kernels.dequantize({ data, dtype, shape }, at)
          for (let i = 0; i < x.length; i++)
            expect(Math.abs(back[i]! - x[i]!)).toBeLessThanOrEqual(2 * ERRORS[dtype])
          using resident = await kernels.upload(x, { shape, ...at })
          using blocksOfIt = await kernels.quantize(resident, dtype)
          expect(await blocksOfIt.download()).toEqual(data)
          for (const setting of place.settings) {
            using again = await kernels.dequantize(blocksOfIt, setting)
            expect(await again.download()).toEqual(back)
          }
        },
        5,
      ))
  })

  test('embed', () =>
    property([seed, fc.constantFrom<WeightType>('F32', 'Q4_K', 'F16'), small(9)], async (from, dtype, n) => {
      const [vocab, cols] = [7, 256]
      const table = await quantized(values(from, vocab * cols), dtype, [vocab, cols])
      const rows = await kernels.dequantize(table, at)
      const ids = Array.from(values(from + 1, n), (value) => Math.floor(Math.abs(value) * 3.4))
      const found = await kernels.embed(table, ids, at)
      ids.forEach((id, i) => {
        expect(found.subarray(i * cols, (i + 1) * cols)).toEqual(rows.subarray(id * cols, (id + 1) * cols))
      })
    }))

  describe('sample', () => {
    test('greedy: the lowest id of the greatest, and the normaliser', () =>
      property([seed, small(4), small(500)], async (from, rows, vocab) => {
        const logits = values(from, rows * vocab).map((value) => Math.round(4 * value))
        const expected = Array.from({ length: rows }, (_, r) => {
          const row = Array.from(logits.subarray(r * vocab, (r + 1) * vocab))
          return [
            row.indexOf(Math.max(...row)),
            Math.log(row.reduce((sum, l) => sum + Math.exp(l), 0)),
          ] as const
        })
        for (const setting of place.settings) {
          const { tokens, logSumExp } = await kernels.sample({ data: logits, shape: [rows, vocab] }, setting)
          expect([...tokens]).toEqual(expected.map(([token]) => token))
          logSumExp.forEach((value, r) => {
            expect(value).toBeCloseTo(expected[r]![1], 4)
          })
        }
      }))

    test('with a temperature: the same for a seed and a position, and as likely as the softmax says', async () => {
      const logits = Float32Array.of(0, 1, 2, -Infinity)
      const n = 4000
      const many = { data: Float32Array.from({ length: 4 * n }, (_, i) => logits[i % 4]!), shape: [n, 4] }
      const positions = Array.from({ length: n }, (_, i) => i)
      const options = { temperature: 1, seed: 7, positions, ...at }
      const { tokens } = await kernels.sample(many, options)
      expect((await kernels.sample(many, options)).tokens).toEqual(tokens)
      expect((await kernels.sample(many, { ...options, seed: 8 })).tokens).not.toEqual(tokens)
      const alone = await kernels.sample(logits, { temperature: 1, seed: 7, positions: [17], ...at })
      expect(alone.tokens[0]).toBe(tokens[17])
      const shares = [0, 1, 2, 3].map((id) => tokens.filter((token) => token === id).length / n)
      reference.softmax(logits, 4).forEach((share, id) => {
        expect(Math.abs(shares[id]! - share)).toBeLessThan(0.03)
      })
      const { tokens: first } = await kernels.sample(many, { ...options, topK: 1 })
      expect(new Set(first)).toEqual(new Set([2]))
    })
  })
}
