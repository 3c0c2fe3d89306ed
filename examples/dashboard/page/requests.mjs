/** What is known of requests, as spans of time on lanes: a lane holds one request after the other. */

/** What is drawn of the past. */
export const WINDOW_MS = 30_000

/** Which span an event begins; the others end the request, or are marks on it. */
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
  /** Of each lane, its requests from the oldest on. */
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
    // Also while it is paused: it goes on from there afterwards.
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

  /** Into the first lane that is free. */
  #add(request) {
    this.#byId.set(request.id, request)
    // Ended before this one began, that is: a snapshot tells of one request after the other.
    let lane = this.lanes.find((one) => one.at(-1).end <= request.begin)
    if (!lane) {
      lane = []
      this.lanes.push(lane)
    }
    lane.push(request)
  }

  /** Forgets what has left the picture. The last request of each lane stays, for its numbers. */
  forget(now) {
    const isGone = ({ end }) => end < now - WINDOW_MS
    for (const lane of this.lanes) {
      while (lane.length > 1 && isGone(lane[0])) this.#byId.delete(lane.shift().id)
    }
    while (this.lanes.length > 1 && isGone(this.lanes.at(-1).at(-1))) {
      for (const { id } of this.lanes.pop()) this.#byId.delete(id)
    }
  }

  /** Whether anything moves. */
  isLive(now) {
    return this.lanes.some((lane) => !lane.at(-1).end || lane.at(-1).end > now - WINDOW_MS)
  }
}

function close(request, at) {
  const last = request.spans.at(-1)
  if (last) last.to ??= at
}

/** Events come after a step, so that its beginning is not seen; at the end the request tells when it was. */
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

/** Milliseconds and rates as the engine measured them; until it tells, as they were seen from here. */
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

/** Where its beginning and end are told at once, it is known at the end only. */
function prefillSeen(started, firstToken, now) {
  if (!started) return undefined
  const ms = (firstToken ?? now) - started
  return firstToken && ms < 1 ? undefined : ms
}

/** The first token is the prompt's. */
function rate(tokens, ms) {
  return tokens > 1 && ms > 0 ? ((tokens - 1) / ms) * 1000 : undefined
}
