/** The memory traffic and arithmetic of a model per token, and the upper limits of its speed that follow. */

import { type FileInfo, inspect } from '../info'
import { arithmeticOf, type DType } from '../kernels/dtypes'
import { type MachineCeilings, peakGMacs } from './machine'

export interface Workload {
  /** Weights read for every decoded token: all but the embedding, unless it is also the output matrix. */
  weightBytesPerToken: number
  /** Keys and values of one cached token, read for every later token. */
  kvBytesPerToken: number
  /** Multiply-adds per prompt token, in the layers. Only the last token needs the output matrix. */
  promptMacsPerToken: number
  /** The arithmetic of most of these multiply-adds. */
  arithmetic: 'int8' | 'f32' | 'bf16'
}

/** The workload of a model file, by its list of tensors. */
export async function workloadOf(
  path: string,
  kvDtype: 'f16' | 'f32' = 'f16',
  signal?: AbortSignal,
): Promise<Workload> {
  return workload(await inspect(path, { signal }), kvDtype === 'f32' ? 4 : 2)
}

function workload({ tensors }: FileInfo, kvElementBytes: number): Workload {
  const tied = !tensors.some(({ name }) => name === 'output.weight')
  const macs = { int8: 0, f32: 0, bf16: 0 }
  let weightBytesPerToken = 0
  let kvBytesPerToken = 0
  for (const { name, type, shape, bytes } of tensors) {
    if (name === 'token_embd.weight' && !tied) continue
    weightBytesPerToken += bytes
    const [cols, rows] = shape
    if (!name.startsWith('blk.') || rows === undefined) continue
    const arithmetic = arithmeticOf(type as DType)
    macs[arithmetic === 'f16' ? 'f32' : arithmetic] += cols! * rows
    if (/\.attn_[kv]\.weight$/.test(name)) kvBytesPerToken += kvElementBytes * rows
  }
  const [arithmetic] = (Object.keys(macs) as Array<keyof typeof macs>).sort((a, b) => macs[b] - macs[a])
  return {
    weightBytesPerToken,
    kvBytesPerToken,
    promptMacsPerToken: macs.int8 + macs.f32 + macs.bf16,
    arithmetic: arithmetic!,
  }
}

/** Tokens per second at the limits of the machine; absent where a limit was not measured. */
export interface Limits {
  prompt?: number
  decode?: number
}

/** `kvTokens`: the cached tokens that a decoded token attends to, on average. */
export function limits(work: Workload, ceilings: MachineCeilings, kvTokens: number, batch = 1): Limits {
  const peak = peakGMacs(work.arithmetic, 'cpu', ceilings)
  // A step reads the weights once, regardless of the batch size.
  const bytes = work.weightBytesPerToken + batch * kvTokens * work.kvBytesPerToken
  const computed = peak > 0 ? (peak * 1e9) / work.promptMacsPerToken : Infinity
  const read = ceilings.readGBs > 0 ? (batch * ceilings.readGBs * 1e9) / bytes : Infinity
  return {
    ...(peak > 0 ? { prompt: computed } : {}),
    ...(ceilings.readGBs > 0 ? { decode: batch > 1 ? Math.min(read, computed) : read } : {}),
  }
}
