/** The state of a model's engine: counts for `model.stats()`, changes for `model.on('request', ...)`. */

import { performance } from 'node:perf_hooks'
import type { CriaError } from './errors'
import type { FinishReason, GenerationChange, Usage } from './generation'
import type { NativeStats } from './native'

/** Counts of the engine as of its last step. */
export interface ModelStats {
  /** Requests that hold pages and take part in steps. */
  readonly running: number
  /** Requests in the queue. */
  readonly waiting: number
  /** Requests that wait for their readers. */
  readonly paused: number
  /** Pages of the KV cache. */
  readonly pages: {
    readonly total: number
    /** Pages in use by requests. */
    readonly used: number
    /** Used pages that several requests share. */
    readonly shared: number
    /**
     * Unused pages kept for prompts with the same prefix. Evicted when pages are needed, least recently used
     * first.
     */
    readonly cached: number
    readonly free: number
    /** Tokens per page. */
    readonly tokens: number
  }
  /** Mean of the last second. Tokens found in the cache do not count. */
  readonly tokensPerSecond: { readonly prompt: number; readonly generated: number }
  /** Since the model was loaded. */
  readonly totals: {
    readonly finished: number
    readonly failed: number
    readonly cancelled: number
    /** Computed prompt tokens, including those computed again after a preemption. */
    readonly promptTokens: number
    /** Prompt tokens found in the cache. */
    readonly cachedTokens: number
    readonly generatedTokens: number
    readonly preemptions: number
    readonly steps: number
  }
  /** Duration of the last and the longest step in milliseconds. */
  readonly stepMs: { readonly last: number; readonly longest: number }
}

/** @internal */
export function modelStats(stats: NativeStats): ModelStats {
  return {
    running: stats.running,
    waiting: stats.waiting,
    paused: stats.paused,
    pages: {
      total: stats.pages,
      used: stats.pagesUsed,
      shared: stats.pagesShared,
      cached: stats.pagesCached,
      free: stats.pagesFree,
      tokens: stats.pageTokens,
    },
    tokensPerSecond: {
      prompt: stats.promptTokensPerSecond,
      generated: stats.generatedTokensPerSecond,
    },
    totals: {
      finished: stats.finished,
      failed: stats.failed,
      cancelled: stats.cancelled,
      promptTokens: stats.promptTokens,
      cachedTokens: stats.cachedTokens,
      generatedTokens: stats.generatedTokens,
      preemptions: stats.preemptions,
      steps: stats.steps,
    },
    stepMs: { last: stats.lastStepMs, longest: stats.longestStepMs },
  }
}

/**
 * A change of a request's state.
 *
 * - `'queued'`: the request waits for its turn
 * - `'started'`: its first step begins
 * - `'firstToken'`
 * - `'preempted'`: it gave its memory to others; `'started'` follows when it restarts
 * - `'paused'`, `'resumed'`: its reader fell behind, and caught up
 * - `'finished'` or `'failed'`: the last event
 */
export type RequestEvent = {
  /** Number of the request among those of its model, from 1. */
  readonly id: number
  /** The method that made the request: `'model.generate'`, ... */
  readonly call: string
  /** Time of `performance.now()`, in milliseconds. */
  readonly at: number
} & (
  | { readonly type: 'queued' | 'started' | 'firstToken' | 'preempted' | 'paused' | 'resumed' }
  | { readonly type: 'finished'; readonly finishReason: FinishReason; readonly usage: Usage }
  | { readonly type: 'failed'; readonly error: CriaError }
)

export type RequestListener = (event: RequestEvent) => void

/** @internal Numbers the requests and calls the listeners. */
export class RequestWatch {
  #listeners = new Set<RequestListener>()
  #lastId = 0

  add(listener: RequestListener): void {
    this.#listeners.add(listener)
  }

  remove(listener: RequestListener): void {
    this.#listeners.delete(listener)
  }

  /** The watcher of a new request made by `call`. */
  of(call: string): (change: GenerationChange) => void {
    const id = ++this.#lastId
    return (change) => {
      if (this.#listeners.size === 0) return
      const event: RequestEvent = { id, call, at: performance.now(), ...change }
      for (const listener of [...this.#listeners]) {
        try {
          listener(event)
        } catch (error) {
          // An exception of a listener must not fail the request: rethrow it as an event handler's.
          setImmediate(() => {
            throw error
          })
        }
      }
    }
  }
}
