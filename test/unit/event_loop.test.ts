/** Nothing blocks the JS thread for long: no load, no encoding of a megabyte, no generation. */

import { monitorEventLoopDelay } from 'node:perf_hooks'
import { inspect, loadModel, loadTokenizer, type Model, type Tokenizer } from '../../lib/index'
import { demo, scratchFolder, tinyModel } from './real_models'

const LIMIT_MS = 20
const ATTEMPTS = 3

const { write } = scratchFolder()

/** The longest delay of the event loop, in ms. */
async function longestDelay(work: () => Promise<unknown>): Promise<number> {
  // The monitor itself sleeps for its resolution between samples.
  const monitor = monitorEventLoopDelay({ resolution: 1 })
  let longest = 0
  let last = performance.now()
  const timer = setInterval(() => {
    const now = performance.now()
    longest = Math.max(longest, now - last - 1)
    last = now
  }, 1)
  monitor.enable()
  await work()
  monitor.disable()
  clearInterval(timer)
  return Math.max(longest, monitor.max / 1e6 - 1)
}

const rest = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

/**
 * Other load on the machine delays every loop. So the delay counts that the work adds to that of an idle loop
 * measured just before, in the best of a few attempts.
 */
async function expectFree(work: () => Promise<unknown>): Promise<void> {
  const delays: string[] = []
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const idle = await longestDelay(() => rest(100))
    const busy = await longestDelay(work)
    delays.push(`${busy.toFixed(1)} ms (idle ${idle.toFixed(1)} ms)`)
    if (busy <= LIMIT_MS + Math.max(0, idle - 5)) return
  }
  throw new Error(`the event loop stood still for ${delays.join(', ')}`)
}

test('the measurement detects a blocked loop', async () => {
  const delay = await longestDelay(async () => {
    await rest(20)
    const end = performance.now() + 60
    while (performance.now() < end);
    await rest(20)
  })
  expect(delay).toBeGreaterThan(40)
})

describe('the event loop keeps running during', () => {
  let model: Model
  let tokenizer: Tokenizer
  let big: string
  beforeAll(async () => {
    model = await loadModel(demo)
    tokenizer = await loadTokenizer(demo)
    big = write(
      'big.gguf',
      tinyModel({ hidden: 256, ffnHidden: 512, nLayers: 4, nHeads: 8, nKvHeads: 4, contextLength: 4096 }),
    )
  }, 120_000)
  afterAll(() => model.dispose())

  test('a load', async () => {
    await expectFree(async () => {
      const loaded = await loadModel(big)
      await loaded.dispose()
    })
  }, 60_000)

  test('a load of a mapped file', async () => {
    await expectFree(async () => {
      const loaded = await loadModel(big, { mmap: true })
      await loaded.logits([1, 2, 3])
      await loaded.dispose()
    })
  }, 60_000)

  test('loading a vocabulary and inspecting', async () => {
    await expectFree(() => Promise.all([loadTokenizer(demo), inspect(demo), inspect(big)]))
  })

  test('encoding and decoding a megabyte', async () => {
    const words = ['Once', 'upon', 'a', 'time,', 'there', 'was', '  two', '1234', 'naïve', '中文', '🦙', '\n']
    let text = ''
    for (let i = 0; text.length < 2 ** 20; i++) text += `${words[(i * 7919) % words.length]} `
    await expectFree(async () => {
      const ids = await tokenizer.encode(text)
      await tokenizer.decode(ids)
    })
  })

  test('encoding a megabyte of one letter and of spaces', async () => {
    await expectFree(() =>
      Promise.all([tokenizer.encode('a'.repeat(2 ** 20)), tokenizer.encode(' '.repeat(2 ** 20))]),
    )
  })

  test('generating', async () => {
    await expectFree(() =>
      Promise.all(
        Array.from({ length: 4 }, () =>
          model.generate('Once upon a time', { maxTokens: 200, ignoreEos: true, logprobs: 20 }),
        ),
      ),
    )
  })

  test('a long prompt, a large vocabulary of logits, and a chat', async () => {
    await expectFree(() =>
      Promise.all([
        model.logits(new Array(500).fill(7)),
        model.generate('word '.repeat(200), { maxTokens: 5 }),
        model.chat([{ role: 'user', content: 'Tell me a story about a fox.' }], { maxTokens: 50 }),
      ]),
    )
  })
})
