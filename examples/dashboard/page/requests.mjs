/** The requests as spans of time on lanes. The requests of a lane do not overlap. */

/** The visible part of the past. */
export const WINDOW_MS = 30_000

/** The span that an event begins. Other events end the request, or mark it. */
const SPAN = {
  queued: 'queue',
  started: 'prefill',
  firstToken: 'decode',
  token: 'decode',
  preempted: 'queue',
}

export const STATES = {
  queue: 'waiting',
  prefill: 'prompt',
  decode: 'generating',
  paused: 'paused',
  preempted: 'preempted',
  failed: 'failed',
}

export class Requests {
  #byId = new Map()
  /** The requests of each lane, oldest first. */
  lanes = []

  restart(requests) {
    this.#byId.clear()
    this.lanes = []
    for (const { id, call, events, tokens, usage, reason } of requests) {
      for (const [type, at] of events) this.apply({ id, call, type, at, tokens, usage, reason })
      const request = this.#byId.get(id)
      if (request) request.tokens = tokens
    }
  }

  apply({ id, call, type, at, tokens, usage, reason }) {
    if (type === 'queued') this.#add({ id, call, begin: at, spans: [], marks: [], tokens: 0 })
    const request = this.#byId.get(id)
    if (!request) return
    if (type === 'finished' || type === 'failed') {
      close(request, at)
      Object.assign(request, { end: at, usage, reason, tokens, state: ending(type, reason) })
      correct(request)
      return
    }
    if (type === 'firstToken') request.firstToken = at
    if (type === 'started' && !request.started) request.started = at
    if (type === 'preempted') request.marks.push(at)
    if (type === 'paused' || type === 'resumed') request.isPaused = type === 'paused'
    // Also while it is paused: the phase continues afterwards.
    if (SPAN[type]) request.phase = SPAN[type]
    request.isPreempted = type === 'preempted' || (request.isPreempted && !SPAN[type])
    const kind = request.isPaused ? 'paused' : request.phase
    request.state = request.isPaused ? 'paused' : request.isPreempted ? 'preempted' : kind
    if (request.spans.at(-1)?.kind === kind) return
    close(request, at)
    request.spans.push({ kind, from: at, to: undefined })
  }

  count(id, tokens) {
    const request = this.#byId.get(id)
    if (request && !request.end) request.tokens = tokens
  }

  /** Adds the request to the first free lane. */
  #add(request) {
    this.#byId.set(request.id, request)
    // Free means that its last request ended before this one began: a snapshot lists ended requests, too.
    let lane = this.lanes.find((one) => one.at(-1).end <= request.begin)
    if (!lane) {
      lane = []
      this.lanes.push(lane)
    }
    lane.push(request)
  }

  /** Drops the requests that have left the window. The last one of each lane stays, for its numbers. */
  forget(now) {
    const isGone = ({ end }) => end < now - WINDOW_MS
    for (const lane of this.lanes) {
      while (lane.length > 1 && isGone(lane[0])) this.#byId.delete(lane.shift().id)
    }
    while (this.lanes.length > 1 && isGone(this.lanes.at(-1).at(-1))) {
      for (const { id } of this.lanes.pop()) this.#byId.delete(id)
    }
  }

  /** Whether the picture changes. */
  isLive(now) {
    return this.lanes.some((lane) => !lane.at(-1).end || lane.at(-1).end > now - WINDOW_MS)
  }
}

function close(request, at) {
  const last = request.spans.at(-1)
  if (last) last.to ??= at
}

/**
 * Corrects the spans of an ended request: events arrive after a step, but `usage` tells when the step began.
 */
function correct({ begin, spans, marks, usage }) {
  const at = spans.findIndex(({ kind }) => kind === 'decode')
  if (!usage || marks.length > 0 || at < 1 || spans[0].kind !== 'queue') return
  const started = begin + usage.queueMs
  const firstToken = Math.min(started + usage.prefillMs, spans[at].to)
  spans.splice(
    0,
    at + 1,
    { kind: 'queue', from: begin, to: started },
    { kind: 'prefill', from: started, to: firstToken },
    { ...spans[at], from: firstToken },
  )
}

function ending(type, reason) {
  if (type === 'finished') return reason === 'length' ? 'finished' : reason
  return reason === 'ERR_ABORTED' ? 'stopped' : 'failed'
}

/** Milliseconds and rates: the engine's own if the request has ended, else estimates from the events. */
export function timings(request, now) {
  const { usage, begin, started, firstToken, end = now, tokens } = request
  if (usage) {
    const { queueMs, prefillMs, decodeMs } = usage
    return { queueMs, prefillMs, decodeMs, tokens, perSecond: rate(tokens, decodeMs) }
  }
  return {
    queueMs: (started ?? end) - begin,
    prefillMs: prefillSeen(started, firstToken, end),
    decodeMs: firstToken ? end - firstToken : undefined,
    tokens,
    perSecond: firstToken ? rate(tokens, end - firstToken) : undefined,
  }
}

/** Undefined if the events of its start and its end arrived together: then only `usage` tells. */
function prefillSeen(started, firstToken, now) {
  if (!started) return undefined
  const ms = (firstToken ?? now) - started
  return firstToken && ms < 1 ? undefined : ms
}

/** The prefill yields the first token. */
function rate(tokens, ms) {
  return tokens > 1 && ms > 0 ? ((tokens - 1) / ms) * 1000 : undefined
}
