/** Random weights, generated fast: each tensor repeats 16 MiB of random blocks of its type and width. */

import { DTYPES, type WeightType } from '../kernels/dtypes'
import { type TensorPlan, tensorBytes } from './shapes'

const TILE_BYTES = 16 * 2 ** 20

/** Xorshift32, with a period of 2^32 - 1. Good enough for weights and token ids. */
export class RandomWords {
  #state: number

  constructor(seed: number) {
    this.#state = (Math.imul(seed, 0x9e3779b1) ^ 0x6d2b79f5) >>> 0 || 1
    for (let i = 0; i < 8; i++) this.next()
  }

  /** A word from 1 to 2^32 - 1. */
  next(): number {
    let x = this.#state
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    this.#state = x >>> 0
    return this.#state
  }

  /** An integer from 0 to `limit` - 1. */
  below(limit: number): number {
    return Math.floor((this.next() / 2 ** 32) * limit)
  }

  fill(words: Uint32Array): void {
    let x = this.#state
    for (let i = 0; i < words.length; i++) {
      x ^= x << 13
      x ^= x >>> 17
      x ^= x << 5
      words[i] = x
    }
    this.#state = x >>> 0
  }
}

/** The bits of an IEEE half-precision float, truncated; for magnitudes below 65,504. */
function halfBits(value: number): number {
  const sign = value < 0 ? 0x8000 : 0
  const magnitude = Math.abs(value)
  if (magnitude < 2 ** -14) return sign | Math.floor(magnitude * 2 ** 24)
  const exponent = Math.floor(Math.log2(magnitude))
  return sign | ((exponent + 15) << 10) | (Math.floor(magnitude * 2 ** (10 - exponent)) & 0x3ff)
}

function floatBits(value: number): number {
  return new Uint32Array(Float32Array.of(value).buffer)[0]!
}

/** The bits of a value in each float type. */
const FLOAT_BITS: Partial<Record<WeightType, (value: number) => number>> = {
  F32: floatBits,
  F16: halfBits,
  BF16: (value) => floatBits(value) >>> 16,
}

/**
 * Byte offsets of the half-precision scales and minimums in a block of each quantized type, and the values
 * that give weights of magnitude about 1 when all other bits are random. The minimums center them on zero.
 */
const BLOCK_SCALES: Partial<Record<WeightType, ReadonlyArray<readonly [offset: number, value: number]>>> = {
  Q4_0: [[0, 1 / 8]],
  Q4_1: [
    [0, 2 / 15],
    [2, -1],
  ],
  Q5_0: [[0, 1 / 16]],
  Q5_1: [
    [0, 2 / 31],
    [2, -1],
  ],
  Q8_0: [[0, 1 / 127]],
  Q2_K: [
    [80, 1 / 23],
    [82, 1.5 / 23],
  ],
  Q3_K: [[108, 1 / 128]],
  Q4_K: [
    [0, 1 / 472],
    [2, 7.5 / 472],
  ],
  Q5_K: [
    [0, 1 / 976],
    [2, 15.5 / 976],
  ],
  Q6_K: [[208, 1 / 4064]],
  IQ4_NL: [[0, 1 / 127]],
  IQ4_XS: [[0, 1 / 4064]],
  IQ1_S: [[0, 1 / 17]],
  IQ2_XXS: [[0, 1 / 166]],
  IQ2_XS: [[0, 1 / 166]],
  IQ2_S: [[0, 1 / 166]],
  IQ3_XXS: [[0, 1 / 480]],
  IQ3_S: [[0, 1 / 465]],
  TQ1_0: [[52, 1]],
  TQ2_0: [[64, 1]],
  Q1_0: [[0, 1]],
  Q2_0: [[0, 1]],
}

/** The unsigned e4m3 float nearest to a value below 448. */
function e4m3Bits(value: number): number {
  const exponent = Math.max(-6, Math.floor(Math.log2(value)))
  return Math.round(value * 2 ** (3 - exponent)) + (exponent > -6 ? (exponent + 6) * 8 : 0)
}

/** The same of types whose scales are something else: sets them in a block at `at`. */
const SET_BLOCK_SCALES: Partial<Record<WeightType, (blocks: Uint8Array, at: number, scale: number) => void>> =
  {
    // Four nibbles of a half, each above three scales.
    IQ1_M(blocks, at, scale) {
      const half = halfBits(scale / 17)
      for (let i = 0; i < 4; i++) {
        const byte = at + 49 + 2 * i
        blocks[byte] = (blocks[byte]! & 15) | (((half >>> (4 * i)) & 15) << 4)
      }
    },
    MXFP4(blocks, at, scale) {
      blocks[at] = Math.round(Math.log2(scale / 12)) + 128
    },
    NVFP4(blocks, at, scale) {
      blocks.fill(Math.max(1, e4m3Bits(scale / 6)), at, at + 4)
    },
  }

/** Random blocks, `bytes` bytes in all, of weights of magnitude about `scale`. */
function makeTile(type: WeightType, scale: number, bytes: number, random: RandomWords): Uint8Array {
  const floatOf = FLOAT_BITS[type]
  if (floatOf) {
    // 65,536 different values, uniform in ±scale, are enough.
    const values = Uint32Array.from({ length: 65536 }, (_, i) => floatOf(((i - 32767.5) / 32768) * scale))
    const tile = type === 'F32' ? new Uint32Array(bytes / 4) : new Uint16Array(bytes / 2)
    for (let i = 0; i < tile.length; i++) tile[i] = values[random.next() & 0xffff]!
    return new Uint8Array(tile.buffer)
  }
  const { bytes: blockBytes } = DTYPES[type]
  const tile = new Uint8Array(Math.ceil(bytes / 4) * 4)
  random.fill(new Uint32Array(tile.buffer))
  const setScales = SET_BLOCK_SCALES[type]
  if (setScales) for (let at = 0; at + blockBytes <= bytes; at += blockBytes) setScales(tile, at, scale)
  for (const [offset, value] of BLOCK_SCALES[type] ?? []) {
    const half = halfBits(value * scale)
    for (let at = offset; at < bytes; at += blockBytes) {
      tile[at] = half & 0xff
      tile[at + 1] = half >>> 8
    }
  }
  return tile.subarray(0, bytes)
}

/** Weights for tensors. The same seed and order of calls give the same bytes. */
export class RandomWeights {
  readonly #random: RandomWords
  readonly #tiles = new Map<string, Uint8Array>()

  constructor(seed: number) {
    this.#random = new RandomWords(seed)
  }

  /** The data of a tensor, in pieces: ones for a norm, otherwise weights that keep their input's variance. */
  *dataOf(tensor: TensorPlan): Generator<Uint8Array> {
    const [cols, rows] = tensor.dims
    if (rows === undefined) {
      yield new Uint8Array(new Float32Array(cols!).fill(1).buffer)
      return
    }
    const tile = this.#tile(tensor.type, cols!)
    // Every tensor starts at another block, so that layers differ.
    const { bytes: blockBytes } = DTYPES[tensor.type]
    let at = this.#random.below(tile.length / blockBytes) * blockBytes
    for (let left = tensorBytes(tensor); left > 0; ) {
      const piece = tile.subarray(at, at + Math.min(left, tile.length - at))
      yield piece
      left -= piece.length
      at = 0
    }
  }

  #tile(type: WeightType, cols: number): Uint8Array {
    const key = `${type} ${cols}`
    let tile = this.#tiles.get(key)
    if (!tile) {
      const { bytes } = DTYPES[type]
      // A uniform distribution in ±sqrt(3 / cols) has the variance 1 / cols.
      tile = makeTile(type, Math.sqrt(3 / cols), Math.floor(TILE_BYTES / bytes) * bytes, this.#random)
      this.#tiles.set(key, tile)
    }
    return tile
  }
}
