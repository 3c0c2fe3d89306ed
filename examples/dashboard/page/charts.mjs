/** The sparklines of the last minute, and the bar of KV cache pages. */

const MINUTE = 60_000
const SVG = 'http://www.w3.org/2000/svg'

const number = new Intl.NumberFormat('en')
export const count = (value) => number.format(Math.round(value))

function shape(name, className) {
  const node = document.createElementNS(SVG, name)
  node.setAttribute('class', className)
  return node
}

export class Sparkline {
  #figure
  #svg = document.createElementNS(SVG, 'svg')
  #area = shape('path', 'area')
  #line = shape('path', 'line')
  #base = shape('line', 'base')
  #label = Object.assign(document.createElement('span'), { className: 'label' })
  #at = Object.assign(document.createElement('span'), { className: 'at', hidden: true })
  #points = []
  #now = 0
  #pointer

  constructor(figure) {
    this.#figure = figure
    this.#svg.setAttribute('viewBox', '0 0 100 100')
    this.#svg.setAttribute('preserveAspectRatio', 'none')
    for (const [name, value] of Object.entries({ x1: 0, x2: 100, y1: 100, y2: 100 }))
      this.#base.setAttribute(name, value)
    this.#svg.append(this.#base, this.#area, this.#line)
    figure.append(this.#svg, this.#at, this.#label)
    figure.addEventListener('pointermove', ({ clientX }) => {
      const { left, width } = figure.getBoundingClientRect()
      this.#pointer = (clientX - left) / width
      this.#showLabel()
    })
    figure.addEventListener('pointerleave', () => {
      this.#pointer = undefined
      this.#showLabel()
    })
  }

  /** `points` are `[time, value]`, oldest first. */
  draw(points, now) {
    this.#points = points
    this.#now = now
    const max = Math.max(1, ...points.map(([, value]) => value))
    const x = (time) => 100 + ((time - now) / MINUTE) * 100
    const y = (value) => 100 - (value / max) * 96
    const path = points.map(
      ([time, value], i) => `${i ? 'L' : 'M'}${x(time).toFixed(2)} ${y(value).toFixed(2)}`,
    )
    this.#line.setAttribute('d', path.join(''))
    const ends = points.length > 0 ? [x(points[0][0]), x(points.at(-1)[0])] : [0, 0]
    this.#area.setAttribute(
      'd',
      path.length > 1 ? `${path.join('')}L${ends[1].toFixed(2)} 100L${ends[0].toFixed(2)} 100Z` : '',
    )
    this.#showLabel()
  }

  /** Shows the maximum of the minute, or the value under the pointer. */
  #showLabel() {
    const time = this.#pointer === undefined ? undefined : this.#now + (this.#pointer - 1) * MINUTE
    const near = time !== undefined && nearest(this.#points, time)
    this.#at.hidden = !near
    if (near) {
      this.#at.style.left = `${100 + ((near[0] - this.#now) / MINUTE) * 100}%`
      this.#label.textContent = `${count(near[1])}, ${Math.round((this.#now - near[0]) / 1000)} s ago`
    } else {
      const max = Math.max(0, ...this.#points.map(([, value]) => value))
      this.#label.textContent = max > 0 ? `peak ${count(max)}` : ''
    }
    this.#figure.setAttribute('aria-label', this.#label.textContent)
  }
}

function nearest(points, time) {
  let best
  for (const point of points) if (!best || Math.abs(point[0] - time) < Math.abs(best[0] - time)) best = point
  return best && Math.abs(best[0] - time) < 2000 ? best : undefined
}

export class PagesBar {
  #bar = document.getElementById('pages-bar')
  #legend = document.getElementById('pages-legend')
  #note = document.getElementById('pages-note')
  #parts

  constructor() {
    const names = {
      shared: 'held by several requests',
      used: 'held by one',
      cached: 'cached for later prompts',
      free: 'free',
    }
    this.#parts = Object.entries(names).map(([kind, text]) => {
      const span = Object.assign(document.createElement('span'), { className: 'part' })
      const item = document.createElement('li')
      const value = document.createElement('b')
      for (const node of [span, item]) node.dataset.kind = kind
      item.append(value, text)
      this.#bar.append(span)
      this.#legend.append(item)
      return { kind, span, value }
    })
  }

  draw({ total, used, shared, cached, free, tokens }) {
    const counts = { shared, used: used - shared, cached, free }
    for (const { kind, span, value } of this.#parts) {
      span.style.width = `${(counts[kind] / total) * 100}%`
      span.toggleAttribute('data-zero', counts[kind] === 0)
      value.textContent = count(counts[kind])
    }
    const percent = Math.round((used / total) * 100)
    this.#note.textContent = `${count(total)} pages of ${tokens} tokens, ${percent} % in use`
    this.#bar.setAttribute(
      'aria-label',
      `${used} of ${total} pages in use, ${shared} shared, ${cached} cached`,
    )
  }
}
