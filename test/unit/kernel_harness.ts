/**
 * What the kernel tests of every device share: random inputs, and ways to check a kernel in all of its
 * settings.
 */

import fc from 'fast-check'
import {
  type DType,
  devices,
  type HostTensor,
  type KernelDevice,
  type KernelOptions,
  kernels,
} from '../../lib/kernels'
import { relativeError } from './kernel_references'

/** A device to test, and how thoroughly. */
export interface Place {
  /** The name from `devices()`. */
  device: string
  /** Ways to run a kernel on the device; all of them must give the same bits. */
  settings: KernelOptions[]
  /** Scales the number of runs of each property; at least two remain. */
  share: number
  /** Tolerance of attention over an F16 cache, whose arithmetic is the device's own (docs/numerics.md). */
  halfAttention: number
}

const RUNS = 25

/** Pseudo-random values, uniform in ±2. */
export function values(seed: number, n: number): Float32Array {
  let state = (Math.imul(seed, 0x9e3779b1) ^ 0x6d2b79f5) >>> 0 || 1
  return Float32Array.from({ length: n }, () => {
    state ^= state << 13
    state ^= state >>> 17
    state = (state ^ (state << 5)) >>> 0
    return (state / 2 ** 32) * 4 - 2
  })
}

export const seed = fc.integer({ min: 1, max: 2 ** 31 - 1 })
export const small = (max: number) => fc.integer({ min: 1, max })

export type Harness = ReturnType<typeof makeHarness>

export function makeHarness(place: Place) {
  const at = { device: place.device as KernelDevice }

  /** Runs the kernel in every setting: all give the same bits, close to `expected`. */
  async function check<T extends Float32Array>(
    expected: ArrayLike<number>,
    tolerance: number,
    run: (where: KernelOptions) => Promise<T>,
    magnitudes: ArrayLike<number> = expected,
  ): Promise<void> {
    let first: T | undefined
    for (const setting of place.settings) {
      const found = await run(setting)
      if (!first) expect(relativeError(found, expected, magnitudes)).toBeLessThan(tolerance)
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

  async function describeDevice() {
    return (await devices()).find(({ device }) => device === place.device)
  }

  return { place, at, check, property, quantized, describeDevice }
}
