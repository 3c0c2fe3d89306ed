/** The paged KV cache: creating and filling one, and passing it to attention. */

import { addon } from '../binding'
import { show } from '../errors'
import { runTask } from '../tasks'
import { checkOptions, integer, oneOf, type Rules } from '../validate'
import { type KernelOptions, kernelRules, placeOf } from './call'
import { elementsOf } from './dtypes'
import type { NativeTensor } from './native'
import {
  floats,
  KvCache,
  nativeOf,
  type Source,
  showShape,
  source,
  type TensorInput,
  wrong,
  wrongShape,
} from './tensor'

export interface KvCacheOptions extends KernelOptions {
  pages: number
  kvHeads: number
  headDim: number
  /** Default `'F16'`. */
  dtype?: 'F16' | 'F32' | undefined
}

/**
 * The pages of a KV cache as plain arrays, `[pages, kvHeads, pageTokens, headDim]` each, F32 or F16.
 * pageTokens must be the device's (see `devices()`).
 */
export interface HostPages {
  k: TensorInput
  v: TensorInput
}

const kvRules = {
  ...kernelRules,
  pages: integer(1, 2 ** 24),
  kvHeads: integer(1, 65536),
  headDim: integer(1, 65536),
  dtype: oneOf('F16', 'F32'),
} satisfies Rules

/** The KV input of an attention kernel: checked, and in the form in which the addon takes it. */
export interface KvSource {
  native: NativeTensor | NativePages
  /** The device of a resident cache. */
  device: string | undefined
  pages: number
  kvHeads: number
  pageTokens: number
  headDim: number
  /** Bytes of one value. */
  elementBytes: number
}

type NativePages = { k: unknown; v: unknown; dtype: string; shape: readonly number[] }

/** Checks a resident cache. */
export function cacheSource(call: string, name: string, value: unknown): KvSource & { native: NativeTensor } {
  if (!(value instanceof KvCache)) throw wrong(call, name, 'a KvCache', show(value))
  if (value.disposed) throw wrong(call, name, 'a cache that was not disposed', 'a disposed one')
  const { pages, kvHeads, pageTokens, headDim, device } = value
  const elementBytes = value.dtype === 'F32' ? 4 : 2
  return { native: nativeOf(value), device, pages, kvHeads, pageTokens, headDim, elementBytes }
}

/** Checks a resident cache or pages in host memory. */
export function kvSource(call: string, name: string, value: KvCache | HostPages): KvSource {
  const isPages = typeof value === 'object' && value !== null && 'k' in value && 'v' in value
  return isPages ? pagesSource(call, name, value as HostPages) : cacheSource(call, name, value)
}

function pagesSource(call: string, name: string, { k, v }: HostPages): KvSource {
  const keys = pageArray(call, `${name}.k`, k)
  const values = pageArray(call, `${name}.v`, v)
  if (showShape(values.shape) !== showShape(keys.shape) || values.dtype !== keys.dtype) {
    const expected = `like ${name}.k, ${keys.dtype} ${showShape(keys.shape)}`
    throw wrong(call, `${name}.v`, expected, `${values.dtype} ${showShape(values.shape)}`)
  }
  const [pages, kvHeads, pageTokens, headDim] = keys.shape as [number, number, number, number]
  const native = { k: keys.native, v: values.native, dtype: keys.dtype, shape: [2, ...keys.shape] }
  const elementBytes = keys.dtype === 'F32' ? 4 : 2
  return { native, device: undefined, pages, kvHeads, pageTokens, headDim, elementBytes }
}

function pageArray(call: string, name: string, value: TensorInput): Source {
  const found = source(call, name, value)
  if (found.dtype !== 'F32' && found.dtype !== 'F16') {
    throw wrong(call, `${name}.dtype`, 'F32 or F16', found.dtype)
  }
  if (found.shape.length !== 4 || found.elements === 0) {
    throw wrongShape(call, name, 'of shape [pages, kvHeads, pageTokens, headDim]', found.shape)
  }
  return found
}

/**
 * Creates a KV cache of zeros for one layer.
 * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_OUT_OF_MEMORY, ERR_UNSUPPORTED_DEVICE
 */
export async function kvCache(options: KvCacheOptions): Promise<KvCache> {
  const call = 'kernels.kvCache'
  const { pages, kvHeads, headDim, dtype = 'F16', ...where } = checkOptions(call, options, kvRules)
  for (const [name, value] of Object.entries({ pages, kvHeads, headDim })) {
    if (value === undefined) {
      throw wrong(call, `option '${name}'`, kvRules[name as 'pages'].expected, 'undefined')
    }
  }
  const sizes = { pages: pages!, kvHeads: kvHeads!, headDim: headDim!, dtype }
  return KvCache.create(
    await runTask(call, () => addon().kernels.allocateKv(sizes, placeOf(call, where, {}))),
  )
}

/**
 * Overwrites all pages of a cache, rounding to its type.
 *
 * @param pages `[pages, kvHeads, pageTokens, headDim]` each
 * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_DISPOSED
 */
export async function writeKv(kv: KvCache, pages: HostPages): Promise<void> {
  const call = 'kernels.writeKv'
  const cache = cacheSource(call, 'kv', kv)
  const [k, v] = floats(call, { 'pages.k': pages?.k, 'pages.v': pages?.v }) as [Source, Source]
  const shape = kv.shape.slice(1)
  for (const [name, { elements, shape: found }] of Object.entries({ 'pages.k': k, 'pages.v': v })) {
    if (elements !== elementsOf(shape)) throw wrongShape(call, name, `of shape ${showShape(shape)}`, found)
  }
  const args = { kv: cache.native, k: k.native, v: v.native }
  const where = placeOf(call, {}, { kv: cache, 'pages.k': k, 'pages.v': v })
  await runTask(call, () => addon().kernels.run('kvWrite', [args], where, 0, 1))
}
