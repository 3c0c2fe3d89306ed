/** Streams of requests for the dashboard. */

const NAMES = 'Anna Ben Clara Dario Ella Finn Greta Hugo Ivy Jonas Kira Leo Mia Noah Olive Pip'.split(' ')
const ANIMALS = 'fox bear owl mouse rabbit frog hedgehog squirrel duck kitten puppy pony'.split(' ')
const ADJECTIVES = 'little big brave shy curious sleepy kind clever hungry cheerful'.split(' ')
const THINGS = 'kite lantern boat hat drum ball basket umbrella whistle blanket'.split(' ')
const PLACES = 'by the river|in the garden|on the hill|under the old oak|near the barn|at the pond'.split('|')

const MAX_STREAMS = 256
/** Time of a slow reader for each chunk. */
const SLOW_MS = 40

const pick = (list) => list[Math.floor(Math.random() * list.length)]
const between = (low, high) => low + Math.floor(Math.random() * (high - low + 1))
const rest = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

const sentence = () => {
  const animal = `The ${pick(ADJECTIVES)} ${pick(ANIMALS)}`
  return `${animal} found a ${pick(THINGS)} ${pick(PLACES)}, and ${pick(NAMES)} was very happy.`
}
const opening = () =>
  `Once upon a time there was a ${pick(ADJECTIVES)} ${pick(ANIMALS)} called ${pick(NAMES)}.`

export class Load {
  #model
  #feed
  #streams = new Set()
  #generations = new Set()
  /** Number of calls of `stop`. A stream that began before the last call makes no more requests. */
  #stops = 0
  /** The prefix of the prompts that share one. */
  #common

  constructor(model, feed) {
    this.#model = model
    this.#feed = feed
    // About a third of the context: a sentence has about twenty tokens.
    this.sentences = Math.max(1, Math.min(40, Math.floor(model.info.contextLength / 60)))
    this.#common = this.#beginning()
  }

  #beginning() {
    return [opening(), ...Array.from({ length: this.sentences }, sentence)].join(' ')
  }

  get streams() {
    return this.#streams.size
  }

  /**
   * Starts up to `streams` streams. A stream makes one request or, with `repeat`, one after another until
   * `stop`.
   */
  start({ streams, shared, slow, repeat }) {
    const count = Math.min(streams, MAX_STREAMS - this.#streams.size)
    for (let i = 0; i < count; i++) {
      const options = { shared, repeat, slow: slow && i % 4 === 3 }
      const stream = this.#run(options).finally(() => this.#streams.delete(stream))
      this.#streams.add(stream)
    }
    return count
  }

  async #run({ shared, slow, repeat }) {
    const stops = this.#stops
    do {
      await this.#request({ shared, slow }).catch((error) => {
        // Aborted, disposed, queue full: the page shows it.
        if (!error.code?.startsWith('ERR_')) throw error
      })
      if (repeat) await rest(between(0, 400))
    } while (repeat && stops === this.#stops)
  }

  async #request({ shared, slow }) {
    const prompt = `${shared ? this.#common : this.#beginning()} ${sentence()} ${pick(NAMES)}`
    const half = this.#model.info.contextLength >> 1
    const generation = this.#model.generate(prompt, {
      temperature: 0.8,
      ignoreEos: slow || undefined,
      maxTokens: slow ? 500 : between(Math.min(60, half), Math.min(300, half)),
      onContextFull: 'shift',
    })
    const id = this.#feed.lastId
    this.#generations.add(generation)
    try {
      for await (const { tokens } of generation) {
        this.#feed.countTokens(id, tokens.length)
        // Slower than the engine: the unread tokens pause the request.
        if (slow) await rest(SLOW_MS)
      }
    } finally {
      this.#generations.delete(generation)
    }
  }

  /** Stops all streams; resolves when they have ended. */
  async stop() {
    this.#stops++
    for (const generation of this.#generations) generation.cancel()
    await Promise.allSettled([...this.#streams])
  }
}
