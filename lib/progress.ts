/** Long operations of the addon that report their progress. */

import { onAbort } from './abort'
import { abortError } from './errors'
import type { NativeTask } from './native'
import { runTask } from './tasks'

export interface Progress {
  loadedBytes: number
  totalBytes: number
  /** From 0 to 1. */
  fraction: number
}

type Report = (loadedBytes: number, totalBytes: number) => void

/**
 * Starts a task with the callback that the addon gets, and waits for its end. An exception of `onProgress`
 * has no caller to reach: it stops the task, which then rejects with it. `discard` frees a result that
 * nobody gets.
 */
export async function runWithProgress<T>(
  call: string,
  start: (report: Report | null) => NativeTask<T>,
  options: {
    onProgress?: ((progress: Progress) => void) | undefined
    signal?: AbortSignal | undefined
    discard?: (result: T) => Promise<void>
  },
): Promise<T> {
  const { onProgress, signal, discard } = options
  if (signal?.aborted) throw abortError(call, signal.reason)
  let thrown: { error: unknown } | undefined
  const stop = new AbortController()
  const stopListening = onAbort(signal, () => stop.abort(signal?.reason))
  const report: Report = (loadedBytes, totalBytes) => {
    if (thrown) return
    try {
      onProgress?.({ loadedBytes, totalBytes, fraction: totalBytes > 0 ? loadedBytes / totalBytes : 0 })
    } catch (error) {
      thrown = { error }
      stop.abort()
    }
  }
  try {
    const result = await runTask(call, () => start(onProgress ? report : null), stop.signal)
    if (!thrown) return result
    await discard?.(result)
  } catch (error) {
    if (!thrown) throw error
  } finally {
    stopListening()
  }
  throw thrown.error
}
