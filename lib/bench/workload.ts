/** What a model asks of a machine: the bytes and multiply-adds of a token, and the speed that no engine can exceed. */

import { type FileInfo, inspect } from '../info'
import type { MachineCeilings } from './machine'

export interface Workload {
  /** Weights read for every decoded token: all but the embedding, unless that is the output matrix too. */
  weightBytesPerToken: number
  /** Keys and values of one token in the cache, read for every later one. */
  kvBytesPerToken: number
  /** Multiply-adds of a prompt's token: the layers' matrices alone, since only its last token is turned into logits. */
  promptMacsPerToken: number
  /** The unit that most of these multiply-adds run on. */
  arithmetic: 'int8' | 'f32' | 'bf16'
}

/** Reads a file's list of tensors. */
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
    const arithmetic = type === 'BF16' ? 'bf16' : type === 'F32' || type === 'F16' ? 'f32' : 'int8'
    macs[arithmetic] += cols! * rows
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

/** Tokens per second at the machine's ceilings; undefined where the ceiling was not measured. */
export interface Limits {
  prompt?: number
  decode?: number
}

/** `kvTokens`: tokens in the cache that each decoded one attends to, on average. */
export function limits(work: Workload, ceilings: MachineCeilings, kvTokens: number, batch = 1): Limits {
  const peak = peakGMacs(work, ceilings)
  // A step reads the weights once, whatever the batch.
  const bytes = work.weightBytesPerToken + batch * kvTokens * work.kvBytesPerToken
  const computed = peak > 0 ? (peak * 1e9) / work.promptMacsPerToken : Infinity
  const read = ceilings.readGBs > 0 ? (batch * ceilings.readGBs * 1e9) / bytes : Infinity
  return {
    ...(peak > 0 ? { prompt: computed } : {}),
    ...(ceilings.readGBs > 0 ? { decode: batch > 1 ? Math.min(read, computed) : read } : {}),
  }
}

/** BF16 runs on f32 arithmetic where there is no instruction for it. */
export function peakGMacs({ arithmetic }: Workload, ceilings: MachineCeilings): number {
  if (arithmetic === 'bf16') return ceilings.bf16GMacs || ceilings.f32GMacs
  return arithmetic === 'f32' ? ceilings.f32GMacs : ceilings.int8GMacs
}
