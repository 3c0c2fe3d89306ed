/** Streams of requests to look at. */

const NAMES = 'Anna Ben Clara Dario Ella Finn Greta Hugo Ivy Jonas Kira Leo Mia Noah Olive Pip'.split(' ')
const ANIMALS = 'fox bear owl mouse rabbit frog hedgehog squirrel duck kitten puppy pony'.split(' ')
const ADJECTIVES = 'little big brave shy curious sleepy kind clever hungry cheerful'.split(' ')
const THINGS = 'kite lantern boat hat drum ball basket umbrella whistle blanket'.split(' ')
const PLACES = 'by the river|in the garden|on the hill|under the old oak|near the barn|at the pond'.split('|')

const MAX_STREAMS = 256
/** What a slow reader takes for a token. */
const SLOW_MS = 40

const pick = (list) => list[Math.floor(Math.random() * list.length)]
const between = (low, high) => low + Math.floor(Math.random() * (high - low + 1))
const rest = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

const sentence = () =>
  `The ${pick(ADJECTIVES)} ${pick(ANIMALS)} found a ${pick(THINGS)} ${pick(PLACES)}, and ${pick(NAMES)} was very happy.`
const opening = () =>
  `Once upon a time there was a ${pick(ADJECTIVES)} ${pick(ANIMALS)} called ${pick(NAMES)}.`

export class Load {
  #model
  #feed
  #streams = new Set()
  #generations = new Set()
  /** How often it was stopped: a stream of before then starts nothing more. */
  #stops = 0
  /** What prompts with a common beginning begin with. */
  #common

  constructor(model, feed) {
    this.#model = model
    this.#feed = feed
    // About a third of the context: a sentence is some twenty tokens.
    this.sentences = Math.max(1, Math.min(40, Math.floor(model.info.contextLength / 60)))
    this.#common = this.#beginning()
  }

  #beginning() {
    return [opening(), ...Array.from({ length: this.sentences }, sentence)].join(' ')
  }

  get streams() {
    return this.#streams.size
  }

  /** Starts so many streams, each of one request, or of one after the other until `stop`. */
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
        // Stopped, disposed, a queue that is full: the page shows it.
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
        // Slower than the engine: its request is paused when enough is unread.
        if (slow) await rest(SLOW_MS)
      }
    } finally {
      this.#generations.delete(generation)
    }
  }

  /** Stops all that runs; resolves when it has ended. */
  async stop() {
    this.#stops++
    for (const generation of this.#generations) generation.cancel()
    await Promise.allSettled([...this.#streams])
  }
}
