/** Back-pressure, samples, request events and stats, with a fake addon and with the real one. */

import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { replaceAddon } from '../../lib/binding'
import { CriaError, type GenerationResult, loadModel, type Model, type RequestEvent } from '../../lib/index'
import { FakeAddon } from './fake_addon'
import { demo, scratchFolder, soon, tinyModel } from './real_models'

/** The finish reason of a request, or the code of its error. */
async function outcome(generation: PromiseLike<GenerationResult>): Promise<string> {
  try {
    return (await generation).finishReason
  } catch (error) {
    return (error as CriaError).code
  }
}

function writeTiny(folder: string): string {
  const path = join(folder, 'tiny.gguf')
  writeFileSync(path, tinyModel())
  return path
}

const idle = () => new Promise((resolve) => setTimeout(resolve, 5))

async function fake(): Promise<{ addon: FakeAddon; model: Model }> {
  const addon = new FakeAddon()
  replaceAddon(addon)
  const model = await loadModel('model.gguf')
  replaceAddon(undefined)
  return { addon, model }
}

describe('a slow reader', () => {
  test('pauses its request, and resumes it by reading', async () => {
    const { addon, model } = await fake()
    const iterator = model.generate('hello')[Symbol.asyncIterator]()
    const request = addon.last
    for (let token = 0; token <= 256; token++) request.chunk('x', token)
    expect(request.paused).toBe(true)
    let read = 0
    while (request.paused) {
      expect((await iterator.next()).done).toBe(false)
      read++
    }
    expect(read).toBe(257 - 64)
    request.end('length')
    while (!(await iterator.next()).done) read++
    expect(read).toBe(257)
  })

  test('pauses nothing before it begins to read, nor when the result is awaited', async () => {
    const { addon, model } = await fake()
    const late = model.generate('hello')
    for (let token = 0; token < 1000; token++) addon.last.chunk('x', token % 300)
    expect(addon.last.paused).toBe(false)
    const iterator = late[Symbol.asyncIterator]()
    addon.last.chunk('x', 1)
    expect(addon.last.paused).toBe(true)
    const whole = late.then((result) => result.text.length)
    expect(addon.last.paused).toBe(false)
    for (let token = 0; token < 1000; token++) addon.last.chunk('x', token % 300)
    expect(addon.last.paused).toBe(false)
    addon.last.end()
    expect(await whole).toBe(2001)
    expect((await iterator.next()).value?.text).toBe('x')
  })

  test('leaving the loop while paused cancels', async () => {
    const { addon, model } = await fake()
    const generation = model.generate('hello')
    const iterator = generation[Symbol.asyncIterator]()
    for (let token = 0; token < 300; token++) addon.last.chunk('x', token)
    expect(addon.last.paused).toBe(true)
    await iterator.return?.()
    expect(addon.last.cancelled).toBe(true)
  })
})

describe('samples', () => {
  test('are generations with consecutive seeds', async () => {
    const { addon, model } = await fake()
    expect(model.generateSamples('hello', 3, { seed: 5 })).toHaveLength(3)
    expect(addon.requests.map((r) => r.request.sampling.seed)).toEqual([5n, 6n, 7n])
    model.generateSamples('hello', 2, { seed: 2n ** 64n - 1n })
    expect(addon.requests.slice(3).map((r) => r.request.sampling.seed)).toEqual([2n ** 64n - 1n, 0n])
    model.generateSamples('hello', 2)
    const [a, b] = addon.requests.slice(5).map((r) => r.request.sampling.seed)
    expect(b! - a!).toBe(1n)
  })

  test.each([0, -1, 1.5, 1025, '3', undefined])('a count of %p is refused', async (count) => {
    const { addon, model } = await fake()
    expect(() => model.generateSamples('hello', count as number)).toThrow(/count must be an integer/)
    expect(() => model.generateSamples('hello', 2, { seed: -1 })).toThrow(/seed/)
    expect(addon.requests).toHaveLength(0)
  })
})

describe('events', () => {
  test('report every change until the listener is removed', async () => {
    const { addon, model } = await fake()
    const events: RequestEvent[] = []
    const listener = (event: RequestEvent) => events.push(event)
    expect(model.on('request', listener)).toBe(model)
    const generation = model.generate('hello')
    addon.last.emit({ type: 'status', status: 'started' })
    addon.last.emit({ type: 'status', status: 'preempted' })
    addon.last.emit({ type: 'status', status: 'started' })
    addon.last.chunk('a', 1)
    addon.last.chunk('b', 2)
    addon.last.end()
    await generation
    const aborted = model.chat([{ role: 'user', content: 'x' }], { signal: AbortSignal.abort() })
    await expect(aborted).rejects.toThrow(CriaError)
    expect(events.map((e) => [e.id, e.call, e.type])).toEqual([
      [1, 'model.generate', 'queued'],
      [1, 'model.generate', 'started'],
      [1, 'model.generate', 'preempted'],
      [1, 'model.generate', 'started'],
      [1, 'model.generate', 'firstToken'],
      [1, 'model.generate', 'finished'],
      [2, 'model.chat', 'queued'],
      [2, 'model.chat', 'failed'],
    ])
    expect(events[5]).toMatchObject({ finishReason: 'stop', usage: { promptTokens: 3 } })
    expect(events[7]).toMatchObject({ error: { code: 'ERR_ABORTED' } })
    model.off('request', listener)
    model.generate('hello')
    expect(events).toHaveLength(8)
  })

  test('wrong arguments throw', async () => {
    const { model } = await fake()
    expect(() => model.on('token' as 'request', () => {})).toThrow(/event must be 'request'/)
    expect(() => model.on('request', 1 as never)).toThrow(/listener must be a function/)
  })
})

describe('the real engine', () => {
  let model: Model
  beforeAll(async () => {
    model = await loadModel(demo)
  })
  afterAll(() => model.dispose())

  const options = (seed: number) => ({ seed, maxTokens: 60, temperature: 0.9, ignoreEos: true })

  test('32 requests at once give the same as one after another, and share their prefix', async () => {
    const prompt = (i: number) => `Once upon a time${' there was a little dog'.repeat(8)} and ${i % 4} cats`
    const alone: GenerationResult[] = []
    for (let i = 0; i < 32; i++) alone.push(await soon(model.generate(prompt(i), options(i))))
    const together = await soon(
      Promise.all(Array.from({ length: 32 }, (_, i) => model.generate(prompt(i), options(i)))),
      30_000,
    )
    expect(together.map((r) => r.text)).toEqual(alone.map((r) => r.text))
    for (const { usage } of together) expect(usage.cachedTokens).toBe(usage.promptTokens - 1)
    const stats = model.stats()
    expect(stats).toMatchObject({ running: 0, waiting: 0, paused: 0 })
    expect(stats.pages.used).toBe(0)
    expect(stats.pages.cached).toBeGreaterThan(0)
    expect(stats.pages.free + stats.pages.cached).toBe(stats.pages.total)
    expect(stats.pages.total).toBe(model.info.kvPages)
    expect(stats.totals.finished).toBe(64)
  })

  test('samples of one prompt equal generations with their seeds', async () => {
    const samples = await soon(Promise.all(model.generateSamples('One day', 4, options(100))))
    for (const [i, sample] of samples.entries()) {
      expect(sample.seed).toBe(100 + i)
      expect((await model.generate('One day', options(100 + i))).text).toBe(sample.text)
    }
    expect(new Set(samples.map((s) => s.text)).size).toBeGreaterThan(1)
  })

  test('a slow reader pauses only its own request, and loses nothing', async () => {
    const length = { ...options(1), maxTokens: 400 }
    const whole = await model.generate('One day', length)
    const iterator = model.generate('One day', length)[Symbol.asyncIterator]()
    let text = (await iterator.next()).value?.text ?? ''
    while (model.stats().paused === 0) await idle()
    const other = await soon(model.generate('Lily', options(2)))
    expect(other.tokens).toHaveLength(60)
    expect(model.stats().paused).toBe(1)
    for (let step = await iterator.next(); !step.done; step = await iterator.next()) text += step.value.text
    expect(text).toBe(whole.text)
  })

  test('a timeout keeps the text so far', async () => {
    const generation = model.generate('Once', {
      timeout: 400,
      maxTokens: Infinity,
      onContextFull: 'shift',
      ignoreEos: true,
    })
    const error = await soon(
      Promise.resolve(generation).then(
        () => undefined,
        (e: unknown) => e as CriaError,
      ),
    )
    expect(error).toMatchObject({ code: 'ERR_TIMEOUT', details: { timeoutMs: 400 } })
    expect(error?.partial?.finishReason).toBe('error')
    expect(error?.partial?.tokens.length).toBeGreaterThan(0)
  })

  test('a full context: stop, error, shift', async () => {
    const small = await loadModel(demo, { contextLength: 64 })
    try {
      const base = { maxTokens: 200, ignoreEos: true, seed: 1 }
      expect((await small.generate('Once', base)).finishReason).toBe('context')
      await expect(small.generate('Once', { ...base, onContextFull: 'error' })).rejects.toMatchObject({
        code: 'ERR_CONTEXT_FULL',
        details: { contextLength: 64 },
      })
      const shifted = await small.generate('Once', { ...base, onContextFull: 'shift' })
      expect(shifted.finishReason).toBe('length')
      expect(shifted.tokens).toHaveLength(200)
      expect(shifted.usage.droppedTokens).toBeGreaterThan(100)
    } finally {
      await small.dispose()
    }
  })

  test('a full queue refuses', async () => {
    const small = await loadModel(demo, { maxQueue: 2 })
    try {
      const all = Array.from({ length: 120 }, () => small.generate('Once', { ...options(1), maxTokens: 200 }))
      const outcomes = await Promise.all(all.map(outcome))
      const refused = outcomes.filter((o) => o === 'ERR_QUEUE_FULL').length
      expect(refused).toBeGreaterThan(0)
      expect(refused).toBeLessThanOrEqual(120 - 64)
      expect(outcomes.every((o) => o === 'ERR_QUEUE_FULL' || o === 'length' || o === 'stop')).toBe(true)
    } finally {
      await small.dispose()
    }
  })

  describe('a saved state', () => {
    const { folder } = scratchFolder()
    const prompt = `Once upon a time${' there was a little dog who ran'.repeat(6)}`

    test('spares another process the prompt', async () => {
      const path = join(folder, 'prefix.kv')
      const saved = await soon(model.saveState(path, prompt))
      expect(saved.tokens).toBe((await model.tokenizer.encode(prompt)).length)
      expect(statSync(path).size).toBeGreaterThan(saved.bytes)
      const expected = await model.generate(prompt, options(3))
      const other = await loadModel(demo)
      try {
        expect(await soon(other.restoreState(path))).toEqual(saved)
        const result = await other.generate(prompt, options(3))
        expect(result.text).toBe(expected.text)
        expect(result.usage.cachedTokens).toBe(result.usage.promptTokens - 1)
      } finally {
        await other.dispose()
      }
    })

    test('of another model or KV type, or a damaged one, is refused without harm', async () => {
      const path = join(folder, 'good.kv')
      await model.saveState(path, prompt)
      const f32 = await loadModel(demo, { kvDtype: 'f32' })
      const tiny = await loadModel(writeTiny(folder))
      try {
        for (const other of [f32, tiny])
          await expect(other.restoreState(path)).rejects.toMatchObject({ code: 'ERR_STATE_MISMATCH' })
      } finally {
        await f32.dispose()
        await tiny.dispose()
      }
      const bytes = readFileSync(path)
      const bad = join(folder, 'bad.kv')
      writeFileSync(bad, bytes.subarray(0, bytes.length - 1))
      await expect(model.restoreState(bad)).rejects.toMatchObject({ code: 'ERR_INVALID_FILE' })
      bytes[bytes.length >> 1]! ^= 1
      writeFileSync(bad, bytes)
      await expect(model.restoreState(bad)).rejects.toMatchObject({ code: 'ERR_INVALID_FILE' })
      await expect(model.restoreState(join(folder, 'none.kv'))).rejects.toMatchObject({
        code: 'ERR_FILE_NOT_FOUND',
      })
      await expect(model.saveState(join(folder, 'no', 'where.kv'), prompt)).rejects.toMatchObject({
        code: 'ERR_IO',
      })
      expect((await model.generate(prompt, options(3))).tokens).toHaveLength(60)
    })

    test('an abort leaves no file', async () => {
      const path = join(folder, 'aborted.kv')
      const controller = new AbortController()
      // A prompt that is not cached: its pages must be computed first.
      const fresh = Uint32Array.from({ length: 400 }, (_, i) => 300 + i)
      const saving = model.saveState(path, fresh, { signal: controller.signal })
      controller.abort()
      await expect(saving).rejects.toMatchObject({ code: 'ERR_ABORTED' })
      expect(readdirSync(folder)).not.toContain('aborted.kv')
      expect(() => model.saveState(path, prompt, { sginal: null } as never)).rejects.toThrow(
        /did you mean 'signal'/,
      )
    })
  })
})
