/** What a model's engine does: counts for `model.stats()`, changes for `model.on('request', …)`. */

import { performance } from 'node:perf_hooks'
import type { CriaError } from './errors'
import type { FinishReason, GenerationChange, Usage } from './generation'
import type { NativeStats } from './native'

/** The engine in numbers, as of its last step. */
export interface ModelStats {
  /** Requests that take part in steps. */
  readonly running: number
  /** Requests in the queue. */
  readonly waiting: number
  /** Requests whose reader does not read. */
  readonly paused: number
  /** Pages of the KV cache. */
  readonly pages: {
    readonly total: number
    /** Held by requests. */
    readonly used: number
    /** Of these, held by more than one. */
    readonly shared: number
    /** Held by none, kept for requests that begin the same way; given up, oldest first, when pages are needed. */
    readonly cached: number
    readonly free: number
    /** Tokens in a page. */
    readonly tokens: number
  }
  /** Over the last second. Tokens found in the cache are not counted. */
  readonly tokensPerSecond: { readonly prompt: number; readonly generated: number }
  /** Since the model was loaded. */
  readonly totals: {
    readonly finished: number
    readonly failed: number
    readonly cancelled: number
    /** Tokens of prompts that were computed, repetitions after a preemption included. */
    readonly promptTokens: number
    /** Tokens of prompts that were found in the cache. */
    readonly cachedTokens: number
    readonly generatedTokens: number
    readonly preemptions: number
    readonly steps: number
  }
  /** Milliseconds of the last step, and of the longest. */
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
 * A request changed its state: `'queued'`, `'started'` (its first step begins), `'firstToken'`, `'preempted'` (it gave
 * its memory to others; `'started'` comes again when it goes on), `'paused'` and `'resumed'` (its reader was slow), and at last `'finished'`
 * or `'failed'`.
 */
export type RequestEvent = {
  /** Counts a model's requests from 1. */
  readonly id: number
  /** Which method made it: `'model.generate'`, … */
  readonly call: string
  /** Milliseconds, on `performance.now()`'s clock. */
  readonly at: number
} & (
  | { readonly type: 'queued' | 'started' | 'firstToken' | 'preempted' | 'paused' | 'resumed' }
  | { readonly type: 'finished'; readonly finishReason: FinishReason; readonly usage: Usage }
  | { readonly type: 'failed'; readonly error: CriaError }
)

export type RequestListener = (event: RequestEvent) => void

/** @internal Numbers requests and tells listeners about them. */
export class RequestWatch {
  #listeners = new Set<RequestListener>()
  #lastId = 0

  add(listener: RequestListener): void {
    this.#listeners.add(listener)
  }

  remove(listener: RequestListener): void {
    this.#listeners.delete(listener)
  }

  /** For one request made by `call`. */
  of(call: string): (change: GenerationChange) => void {
    const id = ++this.#lastId
    return (change) => {
      if (this.#listeners.size === 0) return
      const event: RequestEvent = { id, call, at: performance.now(), ...change }
      for (const listener of [...this.#listeners]) {
        try {
          listener(event)
        } catch (error) {
          // Their exception, in no request of theirs: as if thrown by an event handler.
          setImmediate(() => {
            throw error
          })
        }
      }
    }
  }
}
