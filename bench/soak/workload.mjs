/**
 * The requests of the soak. Each kind runs one request until it ends in some way, and reports to `soak` what
 * must not happen.
 */

const WORDS =
  `once upon a time there was the little big old red fox bear owl mouse rabbit who lived in under near
hill river house garden forest and went looking for hat kite ball boat lantern friend said smiled laughed
found lost very happy sad sunny windy morning night`.split(/\s+/)

export function words(random, count) {
  return Array.from({ length: count }, () => random.pick(WORDS)).join(' ')
}

/** Prefixes of prompts: from nothing to more than half of a context. */
export function beginnings(random, contextLength) {
  return [0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6].map((share) =>
    words(random, Math.floor((share * contextLength) / 2)),
  )
}

function prompt(soak) {
  const { random } = soak
  // One prompt in fifty does not fit into the context.
  const tail = random.chance(0.02) ? soak.contextLength : random.integer(1, soak.contextLength >> 3)
  return `${random.pick(soak.beginnings)} ${words(random, tail)}`
}

function options(soak) {
  const { random } = soak
  return {
    seed: random.integer(0, 2 ** 31),
    maxTokens: random.integer(1, random.chance(0.3) ? soak.contextLength : 64),
    temperature: random.pick([0, 0.7, 1]),
    ignoreEos: random.chance(0.7),
    onContextFull: random.pick(['stop', 'error', 'shift']),
    ...(random.chance(0.2) ? { priority: random.integer(-2, 2) } : {}),
    ...(random.chance(0.1) ? { repetitionPenalty: 1.1 } : {}),
    ...(random.chance(0.1) ? { logprobs: 2 } : {}),
    ...(random.chance(0.1) ? { stop: ['forest', 'The end'] } : {}),
  }
}

/** Options of a request that is longer than the context. */
const long = (soak) => ({
  ...options(soak),
  maxTokens: 2 * soak.contextLength,
  ignoreEos: true,
  onContextFull: 'shift',
  stop: [],
})

/** Stops a generation after some tokens or milliseconds, and measures how long that takes. */
async function stopSoon(soak, generation, stop) {
  const { random } = soak
  const ms = random.chance(0.5) ? (random.chance(0.3) ? 0 : random.integer(0, 400)) : Infinity
  const tokens = ms === Infinity ? random.integer(1, 30) : Infinity
  const due = new Promise((resolve) => {
    if (ms < Infinity) setTimeout(resolve, ms)
    soak.read(generation, (received) => received >= tokens && resolve()).then(resolve)
  })
  await due
  return soak.stopped(generation, stop)
}

export const KINDS = [
  {
    name: 'awaited',
    weight: 20,
    run: (soak) => soak.ended(soak.generate(prompt(soak), options(soak))),
  },
  {
    name: 'read',
    weight: 15,
    async run(soak) {
      const generation = soak.generate(prompt(soak), options(soak))
      await soak.read(generation)
      await soak.ended(generation)
    },
  },
  {
    name: 'samples',
    weight: 3,
    async run(soak) {
      const count = soak.random.integer(2, 6)
      const all = soak.model.generateSamples(prompt(soak), count, { ...options(soak), maxTokens: 24 })
      await Promise.all(all.map((generation) => soak.ended(generation)))
    },
  },
  {
    name: 'shifted',
    weight: 4,
    run: (soak) => soak.ended(soak.generate(prompt(soak), long(soak))),
  },
  {
    // Its tokens are known: it also ran alone, at the beginning.
    name: 'repeated',
    weight: 15,
    async run(soak) {
      const reference = soak.random.pick(soak.references)
      const generation = soak.generate(reference.prompt, reference.options)
      if (soak.random.chance(0.5)) await soak.read(generation)
      soak.checkSame(reference, await soak.ended(generation))
    },
  },
  {
    name: 'repeated and stopped',
    weight: 5,
    async run(soak) {
      const reference = soak.random.pick(soak.references)
      const generation = soak.generate(reference.prompt, reference.options)
      const outcome = await stopSoon(soak, generation, () => generation.cancel())
      soak.checkBeginning(reference, outcome)
    },
  },
  {
    name: 'aborted',
    weight: 10,
    async run(soak) {
      const controller = new AbortController()
      const generation = soak.generate(prompt(soak), {
        ...options(soak),
        maxTokens: soak.contextLength,
        signal: controller.signal,
      })
      await stopSoon(soak, generation, () => controller.abort())
    },
  },
  {
    name: 'aborted by a time limit',
    weight: 4,
    async run(soak) {
      const signal = AbortSignal.timeout(soak.random.integer(1, 500))
      // Listens before the library does, so it counts from the moment of the abort.
      const watch = soak.watchStop(signal)
      const generation = soak.generate(prompt(soak), { ...long(soak), signal })
      soak.read(generation)
      await watch(generation)
    },
  },
  {
    name: 'left',
    weight: 8,
    async run(soak) {
      const generation = soak.generate(prompt(soak), long(soak))
      const limit = soak.random.integer(1, 40)
      const iterator = await soak.read(generation, (received) => received >= limit)
      await soak.stopped(generation, () => iterator.return())
    },
  },
  {
    name: 'timed out',
    weight: 6,
    async run(soak) {
      const timeout = soak.random.integer(1, 1500)
      const begin = performance.now()
      const generation = soak.generate(prompt(soak), { ...long(soak), timeout })
      const { error } = await soak.ended(generation)
      if (error?.code === 'ERR_TIMEOUT') soak.timeoutMs.add(Math.max(0, performance.now() - begin - timeout))
    },
  },
  {
    // Reads slowly, so that the request is paused; then reads the rest, leaves, or cancels.
    name: 'slow',
    weight: 10,
    async run(soak) {
      const { random } = soak
      const generation = soak.generate(prompt(soak), long(soak))
      const late = random.chance(0.3)
      if (late) await soak.nap(random.integer(500, 3000))
      const iterator = generation[Symbol.asyncIterator]()
      const until = performance.now() + random.integer(1000, 12_000)
      try {
        while (performance.now() < until && !soak.draining) {
          const { done } = await iterator.next()
          if (done) break
          await soak.nap(random.integer(50, 1500))
        }
        if (random.chance(0.4)) await soak.stopped(generation, () => iterator.return())
        else if (random.chance(0.3)) await soak.stopped(generation, () => generation.cancel())
        else while (!(await iterator.next()).done);
      } catch {}
      await soak.ended(generation)
    },
  },
  {
    name: 'logits',
    weight: 3,
    async run(soak) {
      const { ids, logits } = soak.logits
      const signal = soak.random.chance(0.5) ? AbortSignal.timeout(soak.random.integer(1, 100)) : undefined
      const found = await soak.settled(soak.model.logits(ids, { signal }), 'logits')
      if (found.value && !Buffer.from(found.value.buffer).equals(Buffer.from(logits.buffer)))
        soak.violation('different logits for the same tokens')
    },
  },
]

/**
 * Requests that must give the same tokens every time: sampled and greedy, short and long, with penalties and
 * with context shifts.
 */
export function referenceRequests(random, beginnings, contextLength) {
  const base = (i) => ({ seed: i, maxTokens: 40, temperature: 0.9, ignoreEos: true })
  const kinds = [
    (i) => base(i),
    (i) => ({ ...base(i), temperature: 0 }),
    (i) => ({ ...base(i), maxTokens: 150 }),
    (i) => ({ ...base(i), repetitionPenalty: 1.2, frequencyPenalty: 0.1, topP: 0.9 }),
    (i) => ({ ...base(i), maxTokens: contextLength + 60, onContextFull: 'shift' }),
    (i) => ({ ...base(i), ignoreEos: false, minP: 0.1, logprobs: 1 }),
  ]
  return Array.from({ length: 18 }, (_, i) => ({
    prompt: `${beginnings[i % beginnings.length]} ${words(random, random.integer(1, 40))}`,
    options: kinds[i % kinds.length](i),
  }))
}
