/** LoRA adapters as callers name them, and as the addon takes them. */

import { resolve } from 'node:path'
import { invalidArgument } from './errors'
import type { NativeAdapterInfo, NativeAdapters } from './native'
import { filePath } from './path'
import { custom, type Rule } from './validate'

/** A LoRA adapter, and how strongly it applies. */
export interface AdapterOptions {
  /** A GGUF file, or a folder that PEFT wrote. A path or a `file:` URL. */
  path: string | URL
  /** Factor of all that the adapter adds; 0 is none, and negative ones subtract. Default: 1. */
  scale?: number | undefined
}

/** A loaded adapter. Frozen. */
export interface AdapterInfo {
  /** Absolute. */
  readonly path: string
  /** The adapter's name in the file; may be empty. */
  readonly name: string
  readonly format: 'gguf' | 'peft'
  /** Of requests that do not name adapters. */
  readonly scale: number
  /** The largest rank of its matrices. */
  readonly rank: number
  /** Number of weights. */
  readonly parameters: number
  /** Memory for the adapter. */
  readonly bytes: number
}

/** A checked adapter: its absolute path, and its scale. */
export interface ResolvedAdapter {
  path: string
  scale: number
}

/** Float32's largest finite number: the addon computes with float32. */
const MAX_SCALE = 3.4028234663852886e38

function resolveAdapter(value: unknown): ResolvedAdapter | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  if (Object.keys(value).some((key) => key !== 'path' && key !== 'scale')) return undefined
  const { path, scale = 1 } = value as { path?: unknown; scale?: unknown }
  if (typeof scale !== 'number' || !(Math.abs(scale) <= MAX_SCALE)) return undefined
  try {
    return { path: resolve(filePath('', path)), scale }
  } catch {
    return undefined
  }
}

/** A list of adapters, none of them twice. */
export function adapterList(): Rule<ResolvedAdapter[]> {
  return custom(
    'an array of { path, scale } with different paths and finite scales',
    (value) => {
      if (!Array.isArray(value)) return undefined
      const adapters = value.map(resolveAdapter)
      if (adapters.some((adapter) => adapter === undefined)) return undefined
      const resolved = adapters as ResolvedAdapter[]
      return new Set(resolved.map(({ path }) => path)).size === resolved.length ? resolved : undefined
    },
    'adapters',
  )
}

/**
 * The adapters of a request as the addon takes them; those of the load where the request names none.
 * @throws ERR_INVALID_ARGUMENT for a path that was not given to `loadModel`
 */
export function requestAdapters(
  call: string,
  loaded: readonly NativeAdapterInfo[],
  wanted: ResolvedAdapter[] | undefined,
): NativeAdapters {
  if (!wanted) return loaded.map(({ scale }, index) => [index, scale])
  return wanted.map(({ path, scale }) => {
    const index = loaded.findIndex((adapter) => adapter.path === path)
    if (index < 0) {
      const paths = loaded.map((adapter) => adapter.path)
      const expected =
        paths.length > 0 ? `adapters of loadModel (${paths.join(', ')})` : 'none, as in loadModel'
      throw invalidArgument(call, "option 'adapters'", expected, path, { option: 'adapters' })
    }
    return [index, scale]
  })
}

/** An adapter on the command line: `path` or `path:scale`. */
export function parseAdapter(text: string): ResolvedAdapter | undefined {
  const [, path, scale] = /^(.+?)(?::([-+]?[\d.]+(?:e[-+]?\d+)?))?$/is.exec(text) ?? []
  return resolveAdapter({ path, scale: scale === undefined ? 1 : Number(scale) })
}
