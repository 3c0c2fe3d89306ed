/** Random resident inputs for measuring kernels. */

import { RandomWeights, RandomWords } from '../bench/random_weights'
import type { KernelDevice, KernelOptions } from './call'
import { bytesOf, type DType, elementsOf, type TensorData, type WeightType } from './dtypes'
import { kvCache, writeKv } from './kv_cache'
import { allocate, describeDevice, upload } from './memory'
import { quantize } from './products'
import { checkShape, type KvCache, type Tensor } from './tensor'

/**
 * Creates random tensors on one device and disposes them together. The host values of one type and size are
 * generated once and uploaded as often as needed.
 */
export class BenchInputs {
  readonly #where: KernelOptions
  readonly #device: { device?: KernelDevice }
  readonly #words = new RandomWords(1)
  readonly #weights = new RandomWeights(1)
  readonly #numbers = new Map<number, Float32Array>()
  readonly #matrices = new Map<string, TensorData>()
  readonly #resident: Array<Tensor | KvCache> = []

  constructor(where: KernelOptions) {
    this.#where = where
    this.#device = where.device === undefined ? {} : { device: where.device }
  }

  dispose(): void {
    for (const resident of this.#resident.splice(0)) resident.dispose()
  }

  /** Values uniform in ±1. */
  async floats(...shape: number[]): Promise<Tensor<'F32'>> {
    return this.#keep(await upload(this.#randomNumbers(elementsOf(shape)), { shape, ...this.#device }))
  }

  async zeros(...shape: number[]): Promise<Tensor<'F32'>> {
    return this.#keep(await allocate(shape, { dtype: 'F32', ...this.#device }))
  }

  /** @throws (rejects) ERR_INVALID_ARGUMENT when the rows are not whole blocks */
  async matrix(dtype: DType, rows: number, cols: number): Promise<Tensor> {
    const shape = checkShape('bench', 'the matrix', [rows, cols], dtype)
    if (dtype === 'Q8_1' || dtype === 'Q8_K') {
      using x = await upload(this.#randomNumbers(rows * cols), { shape, ...this.#device })
      return this.#keep(await quantize(x, dtype))
    }
    const data = this.#randomWeights(dtype, rows, cols)
    return this.#keep(await upload(data as Uint8Array, { dtype, shape, ...this.#device }))
  }

  async cache(pages: number, kvHeads: number, headDim: number, dtype?: 'F16' | 'F32'): Promise<KvCache> {
    const kv = this.#keep(await kvCache({ pages, kvHeads, headDim, dtype, ...this.#device }))
    const values = this.#randomNumbers(elementsOf(kv.shape.slice(1)))
    await writeKv(kv, { k: values, v: values })
    return kv
  }

  /** Pages that `tokens` tokens of one sequence take on the device. */
  async pagesFor(tokens: number): Promise<number> {
    const { pageTokens } = await describeDevice('bench', this.#where)
    return Math.ceil(tokens / pageTokens)
  }

  #keep<T extends Tensor | KvCache>(resident: T): T {
    this.#resident.push(resident)
    return resident
  }

  #randomNumbers(n: number): Float32Array {
    return cached(this.#numbers, n, () => {
      const words = new Uint32Array(n)
      this.#words.fill(words)
      return Float32Array.from(words, (word) => word / 2 ** 31 - 1)
    })
  }

  #randomWeights(dtype: WeightType, rows: number, cols: number): TensorData {
    return cached(this.#matrices, `${dtype} ${rows} ${cols}`, () => {
      const bytes = new Uint8Array(bytesOf(dtype, rows * cols))
      let at = 0
      const plan = { name: 'weight', type: dtype, dims: [cols, rows] }
      for (const piece of this.#weights.dataOf(plan)) {
        bytes.set(piece, at)
        at += piece.length
      }
      if (dtype === 'F32') return new Float32Array(bytes.buffer)
      return dtype === 'F16' || dtype === 'BF16' ? new Uint16Array(bytes.buffer) : bytes
    })
  }
}

function cached<K, V>(values: Map<K, V>, key: K, make: () => V): V {
  let value = values.get(key)
  if (value === undefined) {
    value = make()
    values.set(key, value)
  }
  return value
}
