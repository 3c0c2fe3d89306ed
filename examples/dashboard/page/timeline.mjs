/** The timeline: a canvas with spans over a list of rows. */

import { STATES, timings, WINDOW_MS } from './requests.mjs'

const BAR = 14
const FRAME_MS = 40

export function seconds(ms) {
  if (ms === undefined || !Number.isFinite(ms)) return '–'
  if (ms < 1) return '<1 ms'
  if (ms < 999.5) return `${Math.round(ms)} ms`
  return `${(ms / 1000).toFixed(ms < 9995 ? 2 : 1)} s`
}

const element = (name, text = '', className = '') =>
  Object.assign(document.createElement(name), { textContent: text, className })

export class Timeline {
  #requests
  #clock
  #box = document.getElementById('timeline')
  #lanes = document.getElementById('lanes')
  #axis = document.getElementById('axis')
  #empty = document.getElementById('empty')
  #canvas = document.getElementById('canvas')
  #tip = document.getElementById('tip')
  #context = this.#canvas.getContext('2d')
  #rows = []
  #colors = {}
  #hatch
  #lastFrame = 0
  #pointer

  /** `clock` returns the server's time. */
  constructor(requests, clock) {
    this.#requests = requests
    this.#clock = clock
    for (let s = WINDOW_MS / 1000; s >= 0; s -= 5) {
      const tick = element('i', s === 0 ? 'now' : `${s} s`)
      tick.style.left = `${100 - (s * 100_000) / WINDOW_MS}%`
      this.#axis.append(tick)
    }
    this.#readColors()
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#readColors())
    new ResizeObserver(() => this.#draw()).observe(this.#box)
    this.#box.addEventListener('pointermove', (event) => this.#point(event))
    this.#box.addEventListener('pointerleave', () => this.#point(undefined))
    let wasLive = false
    const frame = (time) => {
      if (time - this.#lastFrame >= FRAME_MS) {
        this.#lastFrame = time
        const isLive = requests.isLive(clock())
        // Draw once more after the last bar has left.
        if (isLive || wasLive) this.#draw()
        wasLive = isLive
      }
      requestAnimationFrame(frame)
    }
    requestAnimationFrame(frame)
  }

  #readColors() {
    const style = getComputedStyle(document.documentElement)
    for (const name of ['queue', 'prefill', 'decode', 'paused', 'critical', 'surface', 'grid', 'ink-3'])
      this.#colors[name] = style.getPropertyValue(`--${name}`).trim()
    const tile = new OffscreenCanvas(6, 6)
    const context = tile.getContext('2d')
    context.fillStyle = this.#colors.paused
    context.fillRect(0, 0, 6, 6)
    context.strokeStyle = this.#colors.decode
    context.lineWidth = 1.6
    // Draw across the edges, so that the lines of adjacent tiles join.
    for (const shift of [-6, 0, 6]) {
      context.beginPath()
      context.moveTo(shift - 1, 7)
      context.lineTo(shift + 7, -1)
      context.stroke()
    }
    this.#hatch = this.#context.createPattern(tile, 'repeat')
    this.#draw()
  }

  /** Updates rows and numbers. The canvas has its own loop. */
  update() {
    const now = this.#clock()
    this.#requests.forget(now)
    const { lanes } = this.#requests
    while (this.#rows.length < lanes.length) this.#rows.push(this.#makeRow())
    while (this.#rows.length > lanes.length) this.#rows.pop().row.remove()
    this.#empty.hidden = lanes.length > 0
    lanes.forEach((lane, i) => {
      fill(this.#rows[i], lane.at(-1), now)
    })
    if (this.#pointer) this.#showTip()
  }

  #makeRow() {
    const row = element('div', '', 'row')
    const who = element('span', '', 'who')
    const cells = { id: element('b'), state: element('i') }
    who.append(cells.id, cells.state)
    row.append(who, element('span'))
    for (const name of ['queue', 'prefill', 'decode', 'tokens', 'rate']) {
      cells[name] = element('span')
      row.append(cells[name])
    }
    this.#lanes.append(row)
    return { row, who, ...cells }
  }

  #draw() {
    const { lanes } = this.#requests
    const axis = this.#axis.getBoundingClientRect()
    const box = this.#box.getBoundingClientRect()
    const first = this.#lanes.getBoundingClientRect()
    const rowHeight = lanes.length > 0 ? first.height / lanes.length : 0
    const height = rowHeight * lanes.length
    const ratio = devicePixelRatio || 1
    const canvas = this.#canvas
    const size = [Math.round(axis.width * ratio), Math.round(height * ratio)]
    if (canvas.width !== size[0] || canvas.height !== size[1]) {
      ;[canvas.width, canvas.height] = size
      canvas.style.width = `${axis.width}px`
      canvas.style.height = `${height}px`
      canvas.style.left = `${axis.left - box.left}px`
      canvas.style.top = `${first.top - box.top}px`
    }
    const context = this.#context
    context.setTransform(ratio, 0, 0, ratio, 0, 0)
    context.clearRect(0, 0, axis.width, height)
    const now = this.#clock()
    const x = (time) => ((time - now) / WINDOW_MS + 1) * axis.width
    context.fillStyle = this.#colors.grid
    for (let s = 0; s <= WINDOW_MS; s += 5000)
      context.fillRect(Math.min(axis.width - 1, Math.round((s / WINDOW_MS) * axis.width)), 0, 1, height)
    lanes.forEach((lane, i) => {
      for (const request of lane) this.#drawRequest(request, x, now, (i + 0.5) * rowHeight)
    })
  }

  #drawRequest({ spans, marks, end, state }, x, now, middle) {
    const context = this.#context
    const top = middle - BAR / 2
    context.save()
    // Round corners at both ends, and a gap to the neighbours.
    const left = x(spans[0]?.from ?? now)
    const right = x(end ?? now)
    context.beginPath()
    context.roundRect(left, top, Math.max(2, right - left - 2), BAR, 4)
    context.clip()
    for (const { kind, from, to } of spans) {
      const start = x(from)
      const stop = x(to ?? now)
      if (stop < 0) continue
      context.fillStyle = kind === 'paused' ? this.#hatch : this.#colors[kind]
      context.fillRect(start, top, Math.max(1, stop - start), BAR)
      context.fillStyle = this.#colors.surface
      if (from > spans[0].from) context.fillRect(start - 0.5, top, 1, BAR)
    }
    context.restore()
    context.fillStyle = this.#colors.critical
    for (const at of marks) {
      context.beginPath()
      context.moveTo(x(at) - 5, top - 4)
      context.lineTo(x(at) + 5, top - 4)
      context.lineTo(x(at), top + 4)
      context.fill()
      context.strokeStyle = this.#colors.surface
      context.stroke()
    }
    if (state === 'failed') {
      context.strokeStyle = this.#colors.critical
      context.lineWidth = 2.2
      context.beginPath()
      for (const way of [1, -1]) {
        context.moveTo(right + 2, middle - 4 * way)
        context.lineTo(right + 10, middle + 4 * way)
      }
      context.stroke()
      context.lineWidth = 1
    }
  }

  #point(event) {
    this.#pointer = event && { x: event.clientX, y: event.clientY }
    this.#showTip()
  }

  #showTip() {
    const request = this.#pointer && this.#find(this.#pointer)
    this.#tip.hidden = !request
    if (!request) return
    this.#tip.replaceChildren(...details(request, this.#clock()))
    const { width, height } = this.#tip.getBoundingClientRect()
    const left = Math.min(this.#pointer.x + 14, innerWidth - width - 8)
    const below = this.#pointer.y + 16
    this.#tip.style.left = `${left}px`
    this.#tip.style.top = `${below + height > innerHeight ? this.#pointer.y - height - 10 : below}px`
  }

  /** The request at a point; outside the bars, the last one of the row. */
  #find({ x, y }) {
    const axis = this.#axis.getBoundingClientRect()
    const row = this.#rows.findIndex(({ row }) => {
      const { top, bottom } = row.getBoundingClientRect()
      return top <= y && y < bottom
    })
    const lane = this.#requests.lanes[row]
    if (!lane) return undefined
    if (x < axis.left || x > axis.right) return lane.at(-1)
    const now = this.#clock()
    const time = now + ((x - axis.left) / axis.width - 1) * WINDOW_MS
    return lane.find(({ begin, end = now }) => begin <= time && time <= end)
  }
}

function set(cell, text) {
  if (cell.textContent !== text) cell.textContent = text
}

function fill(row, request, now) {
  const { queueMs, prefillMs, decodeMs, tokens, perSecond } = timings(request, now)
  set(row.id, `#${request.id}`)
  set(row.state, stateName(request))
  row.who.dataset.state = request.state
  row.row.classList.toggle('dim', Boolean(request.end))
  set(row.queue, seconds(queueMs))
  set(row.prefill, seconds(prefillMs))
  set(row.decode, seconds(decodeMs))
  set(row.tokens, String(tokens))
  set(row.rate, perSecond === undefined ? '–' : perSecond.toFixed(perSecond < 10 ? 1 : 0))
}

const ENDINGS = { stop: 'finished', stopString: 'finished', context: 'context full' }

function stateName({ state }) {
  return STATES[state] ?? ENDINGS[state] ?? state
}

function details(request, now) {
  const { queueMs, prefillMs, decodeMs, tokens, perSecond } = timings(request, now)
  const { usage, reason } = request
  const title = element('p')
  title.append(element('b', `#${request.id} ${stateName(request)}`))
  const facts = [
    ['call', request.call],
    ...(request.state === 'failed' ? [['error', reason]] : reason ? [['ended by', reason]] : []),
    ['queue', seconds(queueMs)],
    ['prefill', seconds(prefillMs)],
    ['decode', seconds(decodeMs)],
    ...(usage ? [['prompt', `${usage.promptTokens} tokens, ${usage.cachedTokens} cached`]] : []),
    ['generated', `${tokens} tokens`],
    ...(perSecond === undefined ? [] : [['rate', `${perSecond.toFixed(1)} tokens/s`]]),
    ...(usage?.droppedTokens ? [['dropped', `${usage.droppedTokens} tokens`]] : []),
    ...(request.marks.length > 0 ? [['preempted', `${request.marks.length} times`]] : []),
  ]
  const list = element('dl', '', 'pairs')
  for (const [name, value] of facts) {
    const pair = element('div')
    pair.append(element('dt', name), element('dd', value ?? '–'))
    list.append(pair)
  }
  return [title, list]
}
