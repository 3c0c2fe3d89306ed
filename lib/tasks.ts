/** Runs the addon's long operations as promises with an AbortSignal. */

import { onAbort } from './abort'
import { abortError, type CriaError, fromNative } from './errors'
import type { NativeTask } from './native'

/** Calls into the addon; whatever it throws becomes a CriaError. */
export function callNative<T>(call: () => T): T {
  try {
    return call()
  } catch (error) {
    throw fromNative(error)
  }
}

/** Starts a task, stops it when the signal aborts, and waits for it either way: nothing is left running behind. */
export async function runTask<T>(what: string, start: () => NativeTask<T>, signal?: AbortSignal): Promise<T> {
  if (signal?.aborted) throw abortError(what, signal.reason)
  const task = callNative(start)
  const stopListening = onAbort(signal, () => task.cancel())
  try {
    return await task.promise
  } catch (error) {
    const failure: CriaError = fromNative(error)
    if (failure.code === 'ERR_ABORTED' && signal?.aborted) throw abortError(what, signal.reason)
    throw failure
  } finally {
    stopListening()
  }
}
