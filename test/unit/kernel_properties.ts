/**
 * Each kernel through the public API against its float64 reference, on random shapes. Shared by all devices.
 */

import fc from 'fast-check'
import { RandomWeights } from '../../lib/bench/random_weights'
import { type DType, kernels, type RopeScaling, type WeightType } from '../../lib/kernels'
import { ALL_TYPES, DTYPES, QUANTIZABLE_TYPES, WEIGHT_TYPES } from '../../lib/kernels/dtypes'
import { attentionProperties } from './kernel_attention_properties'
import { type Harness, makeHarness, type Place, seed, small, values } from './kernel_harness'
import * as reference from './kernel_references'

export function kernelProperties(place: Place): void {
  const harness = makeHarness(place)
  test('devices() lists the device', async () => {
    const device = { device: place.device, isa: expect.stringMatching(/./) }
    expect(await harness.describeDevice()).toMatchObject(device)
  })
  rowProperties(harness)
  describe('rope', () => ropeProperties(harness))
  productProperties(harness)
  describe('attention', () => attentionProperties(harness))
  conversionProperties(harness)
  describe('sample', () => sampleProperties(harness))
}

function rowProperties({ place, check, property }: Harness): void {
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

  test('siluMul of large gates: 0 below -88.4, the gate itself above 88', async () => {
    const gate = Float32Array.of(-88, -89, -100, -1e30, 89, 1e30)
    for (const setting of place.settings) {
      const found = await kernels.siluMul(gate, new Float32Array(gate.length).fill(1), setting)
      expect(reference.relativeError(found.subarray(0, 1), [-88 / (1 + Math.exp(88))])).toBeLessThan(1e-6)
      for (const value of found.subarray(1, 4)) expect(Math.abs(value)).toBe(0)
      expect([...found.subarray(4)]).toEqual([...gate.subarray(4)])
    }
  })
}

const plainFrequencies = (base: number, ropeDim: number) =>
  Array.from({ length: ropeDim / 2 }, (_, i) => base ** ((-2 * i) / ropeDim))

/** RoPE frequencies, after the papers and Meta's and Hugging Face's code. */
function frequencies(base: number, ropeDim: number, scaling: RopeScaling): number[] {
  return plainFrequencies(base, ropeDim).map((frequency, i) => {
    if (scaling.type === 'none') return frequency
    if (scaling.type === 'linear') return frequency / scaling.factor
    if (scaling.type === 'llama3') {
      const wavelength = (2 * Math.PI) / frequency
      const { factor, lowFreqFactor: low, highFreqFactor: high, originalContextLength: original } = scaling
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

function ropeProperties({ check, property }: Harness): void {
  test('both layouts, every scaling', () =>
    property(
      [seed, small(4), small(3), small(40), fc.nat(), scalings, fc.boolean(), fc.constantFrom(10000, 500000)],
      async (from, tokens, heads, halfDim, cut, scaling, half, base) => {
        const headDim = 2 * halfDim
        const ropeDim = 2 * (halfDim - (cut % halfDim))
        const x = values(from, tokens * heads * headDim)
        const positions = Array.from(values(from + 1, tokens), (value) => Math.floor(Math.abs(value) * 100))
        const shape = { heads, headDim, positions, frequencies: frequencies(base, ropeDim, scaling), half }
        const magnitude = scaling.type === 'yarn' ? 0.1 * Math.log(scaling.factor) + 1 : 1
        // Two roundings of a frequency may differ; at position 200 that is 1e-5 of angle.
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

  test('frequencyFactors divide the frequencies', async () => {
    const x = values(5, 2 * 64)
    const frequencyFactors = Float32Array.from({ length: 32 }, (_, i) => 1 + i / 8)
    const shape = { heads: 1, headDim: 64, positions: [1, 9], half: false }
    const expected = reference.rope(x, {
      ...shape,
      frequencies: plainFrequencies(10000, 64).map((frequency, i) => frequency / frequencyFactors[i]!),
    })
    await check(expected, 1e-6, (where) =>
      kernels.rope(x, { headDim: 64, positions: [1, 9], frequencyFactors, ...where }),
    )
  })
}

/** The type that activations are converted to for each weight type (docs/numerics.md). */
const ACTIVATIONS: Record<WeightType, DType> = {
  F32: 'F32',
  F16: 'F16',
  BF16: 'BF16',
  Q4_0: 'Q8_0',
  Q5_0: 'Q8_0',
  Q8_0: 'Q8_0',
  IQ4_NL: 'Q8_0',
  Q4_1: 'Q8_1',
  Q5_1: 'Q8_1',
  Q2_K: 'Q8_K',
  Q3_K: 'Q8_K',
  Q4_K: 'Q8_K',
  Q5_K: 'Q8_K',
  Q6_K: 'Q8_K',
  IQ4_XS: 'Q8_K',
  IQ1_S: 'Q8_K',
  IQ1_M: 'Q8_K',
  IQ2_XXS: 'Q8_K',
  IQ2_XS: 'Q8_K',
  IQ2_S: 'Q8_K',
  IQ3_XXS: 'Q8_K',
  IQ3_S: 'Q8_K',
  TQ1_0: 'Q8_K',
  TQ2_0: 'Q8_K',
  MXFP4: 'Q8_0',
  NVFP4: 'Q8_0',
  Q1_0: 'Q8_0',
  Q2_0: 'Q8_0',
}

/** Random blocks of a type, and of those that have no quantizer all that there is to test with. */
function randomBlocks(dtype: WeightType, rows: number, cols: number, from: number) {
  const shape = [rows, cols]
  const pieces = [...new RandomWeights(from).dataOf({ name: 'blocks', type: dtype, dims: [cols, rows] })]
  return { data: new Uint8Array(Buffer.concat(pieces)), dtype, shape }
}

function productProperties({ at, check, property, quantized }: Harness): void {
  describe.each(WEIGHT_TYPES)('matmul, %s', (dtype) => {
    const { block } = DTYPES[dtype]
    test('with and without addTo', () =>
      property(
        [seed, small(block === 256 ? 2 : 5), small(40), small(9)],
        async (from, blocks, rows, tokens) => {
          const cols = block === 1 ? 16 * blocks + (from % 16) : block * blocks
          const x = values(from, tokens * cols)
          const weight = QUANTIZABLE_TYPES.includes(dtype)
            ? await quantized(values(from + 1, rows * cols), dtype, [rows, cols])
            : randomBlocks(dtype, rows, cols, from)
          const held = await kernels.dequantize(weight, at)
          const rounded = await kernels.dequantize(await quantized(x, ACTIVATIONS[dtype], [tokens, cols]), at)
          const product = reference.matmul(rounded, held, rows, cols)
          // The error is relative to the terms of the sum, since these may cancel.
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
    test('gives the bits of its parts', () =>
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
}

/** The largest error of each type, relative to the largest magnitude in a block. */
const ERRORS: Partial<Record<DType, number>> = {
  F32: 0,
  F16: 2 ** -10,
  BF16: 2 ** -8,
  Q8_0: 1 / 127,
  Q8_1: 1 / 127,
  Q8_K: 1 / 127,
  Q4_0: 0.15,
  Q4_1: 0.15,
  Q5_0: 0.08,
  Q5_1: 0.08,
  IQ4_NL: 0.2,
  IQ4_XS: 0.2,
  Q2_K: 0.7,
  Q3_K: 0.35,
  Q4_K: 0.2,
  Q5_K: 0.1,
  Q6_K: 0.06,
}

function conversionProperties({ place, at, property, quantized }: Harness): void {
  describe.each(QUANTIZABLE_TYPES)('quantize and dequantize, %s', (dtype) => {
    test('round trip within the error bound, resident or not, in every setting', () =>
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
            expect(Math.abs(back[i]! - x[i]!)).toBeLessThanOrEqual(2 * ERRORS[dtype]!)
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

  test.each(ALL_TYPES.filter((dtype) => !QUANTIZABLE_TYPES.includes(dtype)))(
    '%s has no quantizer',
    async (dtype) => {
      const x = { data: new Float32Array(256), shape: [1, 256] }
      await expect(kernels.quantize(x, dtype, at)).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
    },
  )

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
}

function sampleProperties({ place, at, property }: Harness): void {
  test('greedy: the lowest id among the largest logits, and the normalizer', () =>
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

  test('with a temperature: determined by seed and position, distributed like the softmax', async () => {
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
}
