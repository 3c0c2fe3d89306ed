/** Checks the events of every request: they come in a valid order, and each request ends exactly once. */

import { Histogram } from './measure.mjs'

/** The events that may follow each event. A request can be stopped in any state. */
const AFTER = {
  queued: ['started', 'preempted', 'paused', 'finished', 'failed'],
  started: ['firstToken', 'preempted', 'finished', 'failed', 'paused', 'resumed'],
  preempted: ['started', 'firstToken', 'preempted', 'paused', 'resumed', 'finished', 'failed'],
  firstToken: ['preempted', 'paused', 'finished', 'failed'],
  paused: ['resumed', 'preempted', 'started', 'firstToken', 'finished', 'failed'],
  resumed: ['paused', 'preempted', 'started', 'firstToken', 'finished', 'failed'],
}

export class Watch {
  counts = {}
  ended = 0
  #open = new Map()
  #violation
  firstTokenMs = new Histogram()
  requestMs = new Histogram()

  constructor(model, violation) {
    this.#violation = violation
    model.on('request', (event) => this.#receive(event))
  }

  #receive({ id, type, at }) {
    this.counts[type] = (this.counts[type] ?? 0) + 1
    const request = this.#open.get(id)
    if (type === 'queued') {
      if (request) this.#violation('a request was queued twice')
      this.#open.set(id, { last: type, begin: at, at })
      return
    }
    if (!request) {
      this.#violation(`'${type}' after the end of a request`)
      return
    }
    if (!AFTER[request.last].includes(type)) this.#violation(`'${type}' after '${request.last}'`)
    if (at < request.at) this.#violation('an event is older than the one before it')
    request.last = type
    request.at = at
    if (type === 'firstToken') this.firstTokenMs.add(at - request.begin)
    if (type === 'finished' || type === 'failed') {
      this.#open.delete(id)
      this.ended++
      this.requestMs.add(at - request.begin)
    }
  }

  checkIdle({ finished, failed, cancelled }) {
    if (this.#open.size > 0) this.#violation(`${this.#open.size} requests have no final event`)
    // The engine also counts calls of logits(), but not requests that were stopped before they reached it.
    if (finished + failed + cancelled < this.counts.finished)
      this.#violation('the engine counts fewer requests than have finished')
  }
}
