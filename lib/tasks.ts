/** Runs long operations of the addon as promises with an AbortSignal. */

import { onAbort } from './abort'
import { abortError, type CriaError, fromNative } from './errors'
import type { NativeTask } from './native'

/** Calls the addon. Its exceptions become CriaErrors. */
export function callNative<T>(call: () => T): T {
  try {
    return call()
  } catch (error) {
    throw fromNative(error)
  }
}

/** Starts a task, stops it if the signal aborts, and waits for its end in both cases. */
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
