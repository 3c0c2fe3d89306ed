/**
 * The activity of an engine as a stream of server-sent events for any number of pages.
 *
 * A page gets a `snapshot` first, then an `update` several times a second. A page that falls behind gets
 * nothing until its connection has drained, and then a new snapshot. So nothing queues up for it, and
 * afterwards nothing is missing.
 */

const TICK_MS = 100
const STATS_MS = 500
/** Samples of tokens per second: one minute. */
const HISTORY = 120
/** Ended requests are kept this long, for pages that open later. */
const KEEP_MS = 30_000
/** Maximum number of ended requests to keep. */
const MAX_ENDED = 1000
/** A page that reads nothing for this long is disconnected. */
const STUCK_MS = 20_000
/** cria resumes a paused request when at most this many tokens are unread. */
const MAX_UNREAD = 64

export class Feed {
  #model
  #pages = new Set()
  #requests = new Map()
  #ended = []
  #history = []
  /** Changes since the last tick. */
  #events = []
  /** Token counts by request id that changed since the last tick. */
  #tokens = new Map()
  #lastStats = 0
  #timer
  #listener = (event) => this.#receive(event)

  constructor(model) {
    this.#model = model
    model.on('request', this.#listener)
    this.#timer = setInterval(() => this.#tick(), TICK_MS)
  }

  /** Id of the newest request. `generate` announces it before it returns. */
  lastId = 0

  /** Readers call this, since the model has no event for single tokens. */
  countTokens(id, count) {
    const request = this.#requests.get(id)
    if (!request || request.reason) return
    request.tokens += count
    this.#tokens.set(id, request.tokens)
    if (request.isBehind) {
      request.isBehind = Math.max(0, request.isBehind - count)
      if (request.isBehind === 0) this.#change(request, { id, type: 'token', at: performance.now() })
    }
  }

  #change(request, change) {
    request.events.push([change.type, change.at])
    this.#events.push(change)
  }

  #receive({ id, type, at, call, finishReason, usage, error }) {
    if (type === 'queued') {
      this.lastId = id
      this.#requests.set(id, { id, call, tokens: 0, events: [] })
    }
    const request = this.#requests.get(id)
    // The request is older than the dashboard.
    if (!request) return
    const change = { id, type, at }
    if (type === 'queued') change.call = call
    if (type === 'finished' || type === 'failed') {
      request.usage = usage ?? error.partial?.usage ?? null
      request.reason = finishReason ?? error.code
      if (request.usage) request.tokens = request.usage.generatedTokens || request.tokens
      Object.assign(change, { usage: request.usage, reason: request.reason, tokens: request.tokens })
      this.#tokens.delete(id)
      this.#ended.push({ id, at })
    }
    // A preempted request computes its prompt again; its next token shows that it decodes. If it was paused,
    // its unread tokens come first.
    const hasTokens = request.events.some(([earlier]) => earlier === 'firstToken')
    if (type === 'preempted' && hasTokens) request.isBehind = 1
    if (type === 'resumed' && request.isBehind) request.isBehind = MAX_UNREAD + 1
    this.#change(request, change)
  }

  #tick() {
    const now = performance.now()
    const isDue = now - this.#lastStats >= STATS_MS
    if (!isDue && this.#events.length + this.#tokens.size === 0) return
    const stats = this.#model.stats()
    if (isDue) {
      this.#lastStats = now
      this.#forget(now)
      this.#history.push([now, stats.tokensPerSecond.prompt, stats.tokensPerSecond.generated])
      if (this.#history.length > HISTORY) this.#history.shift()
    }
    const update = frame('update', {
      now,
      stats,
      events: this.#events,
      tokens: [...this.#tokens],
      ...(isDue ? { sample: this.#history.at(-1) } : {}),
    })
    this.#events = []
    this.#tokens.clear()
    for (const page of this.#pages) {
      if (!page.fullSince) page.send(update)
      else if (now - page.fullSince > STUCK_MS) page.response.destroy()
    }
  }

  #forget(now) {
    while (this.#ended.length > MAX_ENDED || this.#ended[0]?.at < now - KEEP_MS)
      this.#requests.delete(this.#ended.shift().id)
  }

  #snapshot() {
    const { info } = this.#model
    return frame('snapshot', {
      now: performance.now(),
      model: { ...info, path: undefined },
      stats: this.#model.stats(),
      history: this.#history,
      requests: [...this.#requests.values()],
    })
  }

  /** Sends the feed to a page until it disconnects. */
  open(response) {
    response.writeHead(200, {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store',
      'x-accel-buffering': 'no',
    })
    const page = {
      response,
      fullSince: 0,
      send(text) {
        if (!response.write(text)) page.fullSince = performance.now()
      },
    }
    response.on('drain', () => {
      // Send the pending update to the other pages first: the snapshot contains it.
      this.#tick()
      page.fullSince = 0
      page.send(this.#snapshot())
    })
    response.on('close', () => this.#pages.delete(page))
    // A broken connection is a closed page.
    response.on('error', () => this.#pages.delete(page))
    this.#tick()
    page.send(`retry: 1000\n${this.#snapshot()}`)
    this.#pages.add(page)
  }

  get pages() {
    return this.#pages.size
  }

  close() {
    clearInterval(this.#timer)
    this.#model.off('request', this.#listener)
    for (const { response } of this.#pages) response.end()
    this.#pages.clear()
  }
}

function frame(event, data) {
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`
}
