/**
 * Listens for the abort of a signal. A signal gets one listener, however many requests share it: Node prints
 * a warning for more than ten listeners, and this library prints nothing.
 */

const callbacks = new WeakMap<AbortSignal, Set<() => void>>()

/** Calls `callback` when the signal aborts. Returns a function that removes the callback. */
export function onAbort(signal: AbortSignal | undefined, callback: () => void): () => void {
  if (!signal) return () => {}
  const waiting = callbacks.get(signal) ?? listen(signal)
  waiting.add(callback)
  return () => {
    waiting.delete(callback)
    if (waiting.size === 0 && callbacks.get(signal) === waiting) stopListening(signal)
  }
}

const listeners = new WeakMap<AbortSignal, () => void>()

function listen(signal: AbortSignal): Set<() => void> {
  const waiting = new Set<() => void>()
  const listener = () => {
    stopListening(signal)
    for (const callback of [...waiting]) callback()
  }
  callbacks.set(signal, waiting)
  listeners.set(signal, listener)
  signal.addEventListener('abort', listener, { once: true })
  return waiting
}

function stopListening(signal: AbortSignal): void {
  const listener = listeners.get(signal)
  if (listener) signal.removeEventListener('abort', listener)
  listeners.delete(signal)
  callbacks.delete(signal)
}
