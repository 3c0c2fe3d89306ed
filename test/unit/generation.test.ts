import { replaceAddon } from '../../lib/binding'
import { CriaError, loadModel, type Model } from '../../lib/index'
import { FakeAddon, type FakeSetup, nativeError, usage } from './fake_addon'

async function start(setup: FakeSetup = {}): Promise<{ addon: FakeAddon; model: Model }> {
  const addon = new FakeAddon(setup)
  replaceAddon(addon)
  return { addon, model: await loadModel('model.gguf') }
}

async function failure(promise: PromiseLike<unknown>): Promise<CriaError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(CriaError)
  return error as CriaError
}

afterEach(() => replaceAddon(undefined))

const unhandled: unknown[] = []
const note = (reason: unknown) => unhandled.push(reason)
beforeAll(() => process.on('unhandledRejection', note))
afterAll(() => {
  process.off('unhandledRejection', note)
  expect(unhandled).toEqual([])
})
const idle = () => new Promise((resolve) => setTimeout(resolve, 5))

describe('a generation', () => {
  test('is a promise of the whole result', async () => {
    const { addon, model } = await start()
    const generation = model.generate('hello', { seed: 7, stop: 'x' })
    addon.last.chunk('a', 1)
    addon.last.chunk('', 2)
    addon.last.chunk('b', 3, 4)
    addon.last.end('stopString', 'x')
    const result = await generation
    expect(result).toEqual({
      text: 'ab',
      tokens: Uint32Array.from([1, 2, 3, 4]),
      finishReason: 'stopString',
      stopString: 'x',
      usage,
      seed: 7,
    })
    expect(await generation).toBe(result)
  })

  test('is an async iterable of chunks, buffered until they are read', async () => {
    const { addon, model } = await start()
    const generation = model.generate('hello')
    addon.last.chunk('a', 1)
    addon.last.chunk('b', 2)
    addon.last.end()
    const texts: string[] = []
    for await (const chunk of generation) texts.push(chunk.text)
    expect(texts).toEqual(['a', 'b'])
    expect((await generation).text).toBe('ab')
  })

  test('delivers chunks that arrive during the loop', async () => {
    const { addon, model } = await start()
    const generation = model.generate('hello')
    const iterator = generation[Symbol.asyncIterator]()
    const reads = [iterator.next(), iterator.next(), iterator.next(), iterator.next()]
    addon.last.chunk('a', 1)
    addon.last.chunk('b', 2)
    addon.last.end()
    const results = await Promise.all(reads)
    expect(results.map(({ done, value }) => [done, value?.text])).toEqual([
      [false, 'a'],
      [false, 'b'],
      [true, undefined],
      [true, undefined],
    ])
  })

  test('starts at once, without being awaited', async () => {
    const { addon, model } = await start()
    model.generate('hello')
    expect(addon.requests.length).toBe(1)
  })

  test('can be iterated once', async () => {
    const { addon, model } = await start({ answer: ['a'] })
    const generation = model.generate('hello')
    for await (const _ of generation);
    expect(() => generation[Symbol.asyncIterator]()).toThrow(
      expect.objectContaining({ code: 'ERR_ALREADY_ITERATED' }),
    )
    expect(addon.requests.length).toBe(1)
  })

  test('stops when the loop is left', async () => {
    const { addon, model } = await start()
    const generation = model.generate('hello')
    addon.last.chunk('a', 1)
    addon.last.chunk('b', 2)
    for await (const chunk of generation) {
      expect(chunk.text).toBe('a')
      break
    }
    expect(addon.last.cancelled).toBe(true)
    const error = await failure(generation)
    expect(error.code).toBe('ERR_ABORTED')
    expect(error.name).toBe('AbortError')
    expect(error.partial).toMatchObject({ text: 'ab', finishReason: 'abort', usage })
  })

  test('stops when the loop body throws, with the error of the body', async () => {
    const { addon, model } = await start()
    const generation = model.generate('hello')
    addon.last.chunk('a', 1)
    await expect(
      (async () => {
        for await (const _ of generation) throw new Error('mine')
      })(),
    ).rejects.toThrow('mine')
    expect(addon.last.cancelled).toBe(true)
    await idle()
  })

  test('leaving the loop after the end keeps the result', async () => {
    const { addon, model } = await start()
    const generation = model.generate('hello')
    addon.last.chunk('a', 1)
    addon.last.chunk('b', 2)
    addon.last.end()
    for await (const _ of generation) break
    expect((await generation).text).toBe('ab')
  })

  test('an abort rejects the promise and the loop, with the reason and the partial result', async () => {
    const { addon, model } = await start()
    const abort = new AbortController()
    const generation = model.generate('hello', { signal: abort.signal, seed: 3 })
    addon.last.chunk('a', 1)
    const reason = new Error('enough')
    abort.abort(reason)
    const texts: string[] = []
    const error = await failure(
      (async () => {
        for await (const chunk of generation) texts.push(chunk.text)
      })(),
    )
    expect(texts).toEqual(['a'])
    expect(error).toMatchObject({ code: 'ERR_ABORTED', name: 'AbortError', cause: reason })
    expect(error.partial).toMatchObject({ text: 'a', seed: 3, finishReason: 'abort' })
    expect(await failure(generation)).toBe(error)
  })

  test('an aborted signal starts nothing', async () => {
    const { addon, model } = await start()
    const generation = model.generate('hello', { signal: AbortSignal.abort('no') })
    expect(addon.requests.length).toBe(0)
    expect(await failure(generation)).toMatchObject({
      code: 'ERR_ABORTED',
      cause: 'no',
      partial: { text: '' },
    })
    await expect(generation[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: 'ERR_ABORTED' })
  })

  test('leaves no listener on the signal', async () => {
    const { addon, model } = await start()
    const { signal } = new AbortController()
    const remove = jest.spyOn(signal, 'removeEventListener')
    const generation = model.generate('hello', { signal })
    addon.last.end()
    await generation
    expect(remove).toHaveBeenCalledTimes(1)
  })

  test('many requests on one signal share one listener, and all stop', async () => {
    const { addon, model } = await start()
    const abort = new AbortController()
    const add = jest.spyOn(abort.signal, 'addEventListener')
    const generations = Array.from({ length: 50 }, () => model.generate('hello', { signal: abort.signal }))
    addon.requests[0]!.end()
    abort.abort()
    expect(add).toHaveBeenCalledTimes(1)
    const outcomes = await Promise.allSettled(generations)
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', ...new Array(49).fill('rejected')])
  })

  test('an abort after the end changes nothing', async () => {
    const { addon, model } = await start()
    const abort = new AbortController()
    const generation = model.generate('hello', { signal: abort.signal })
    addon.last.chunk('a', 1)
    addon.last.end()
    abort.abort()
    expect((await generation).text).toBe('a')
  })

  test('cancel() stops it', async () => {
    const { addon, model } = await start()
    const generation = model.generate('hello')
    generation.cancel('because')
    generation.cancel('again')
    expect(addon.last.cancelled).toBe(true)
    expect(await failure(generation)).toMatchObject({ code: 'ERR_ABORTED', cause: 'because' })
    generation.cancel()
  })

  test('a native failure keeps its code, its details and the partial result', async () => {
    const { addon, model } = await start()
    const generation = model.generate('hello')
    addon.last.chunk('a', 1)
    addon.last.emit({
      type: 'error',
      code: 'ERR_OUT_OF_MEMORY',
      message: 'no pages left',
      details: { pages: 3 },
    })
    const error = await failure(generation)
    expect(error).toMatchObject({
      code: 'ERR_OUT_OF_MEMORY',
      message: 'no pages left',
      details: { pages: 3 },
    })
    expect(error.partial).toMatchObject({ text: 'a', finishReason: 'error' })
  })

  test('a failure to start is a rejection', async () => {
    const { model } = await start({ generateError: nativeError('ERR_QUEUE_FULL', 'full') })
    const generation = model.generate('hello')
    expect(await failure(generation)).toMatchObject({ code: 'ERR_QUEUE_FULL' })
  })

  test('an unknown native code is an internal error with its cause', async () => {
    const cause = nativeError('ERR_WHATEVER', 'strange')
    const { model } = await start({ generateError: cause })
    expect(await failure(model.generate('hello'))).toMatchObject({ code: 'ERR_INTERNAL', cause })
  })

  test('a failure that nobody awaits is no unhandled rejection', async () => {
    const { addon, model } = await start()
    model.generate('hello')
    addon.last.emit({ type: 'error', code: 'ERR_INTERNAL', message: 'oh', details: {} })
    model.generate('hello', { signal: AbortSignal.abort() })
    await idle()
    expect(unhandled).toEqual([])
  })

  test('a failure in the loop is no unhandled rejection of the promise', async () => {
    const { addon, model } = await start()
    const generation = model.generate('hello')
    const reading = failure(
      (async () => {
        for await (const _ of generation);
      })(),
    )
    addon.last.emit({ type: 'error', code: 'ERR_INTERNAL', message: 'oh', details: {} })
    expect((await reading).code).toBe('ERR_INTERNAL')
    await idle()
    expect(unhandled).toEqual([])
  })

  test('has then, catch, finally and a tag', async () => {
    const { model } = await start({ answer: ['a'] })
    const generation = model.generate('hello')
    let ended = 0
    expect(await generation.finally(() => ended++).then(({ text }) => text)).toBe('a')
    expect(ended).toBe(1)
    expect(await generation.catch(() => 'never')).toMatchObject({ text: 'a' })
    expect(String(generation)).toBe('[object Generation]')
    expect(await Promise.all([generation, generation])).toHaveLength(2)
  })

  test('events after the end are ignored', async () => {
    const { addon, model } = await start()
    const generation = model.generate('hello')
    addon.last.end()
    addon.last.chunk('late', 1)
    addon.last.end('length')
    expect(await generation).toMatchObject({ text: '', finishReason: 'stop' })
  })

  test('logprobs are part of the chunks and the result if requested', async () => {
    const { addon, model } = await start()
    const generation = model.generate('hello', { logprobs: 1 })
    const entry = { token: 5, logprob: -0.5, top: [{ token: 5, logprob: -0.5 }] }
    addon.last.emit({ type: 'chunk', text: 'a', tokens: Uint32Array.of(5), logprobs: [entry] })
    addon.last.end()
    for await (const chunk of generation) expect(chunk.logprobs).toEqual([entry])
    expect((await generation).logprobs).toEqual([entry])
  })

  test('disposing the model ends it with ERR_DISPOSED', async () => {
    const { addon, model } = await start()
    const generation = model.generate('hello')
    addon.last.chunk('a', 1)
    await model.dispose()
    expect(await failure(generation)).toMatchObject({ code: 'ERR_DISPOSED', partial: { text: 'a' } })
  })
})

describe('seeds', () => {
  test('a random seed is reported, is a safe integer, and differs each time', async () => {
    const { addon, model } = await start({ answer: ['a'] })
    const seeds = [(await model.generate('x')).seed, (await model.generate('x')).seed]
    expect(seeds.every(Number.isSafeInteger)).toBe(true)
    expect(seeds[0]).not.toBe(seeds[1])
    expect(addon.last.request.sampling.seed).toBe(BigInt(seeds[1]!))
  })

  test('64-bit seeds go through', async () => {
    const { addon, model } = await start({ answer: ['a'] })
    const seed = 2n ** 64n - 1n
    expect((await model.generate('x', { seed })).seed).toBe(seed)
    expect(addon.last.request.sampling.seed).toBe(seed)
  })
})

describe('requests', () => {
  test('the defaults of generate', async () => {
    const { addon, model } = await start()
    model.generate('hello')
    expect(addon.last.request).toEqual({
      prompt: [['hello', false]],
      bos: null,
      maxTokens: 512,
      stop: [],
      stopTokens: new Uint32Array(0),
      ignoreEos: false,
      showSpecial: false,
      startsText: false,
      priority: 0,
      timeoutMs: 0,
      adapters: [],
      onContextFull: 'stop',
      keepTokens: -1,
      sampling: {
        temperature: 0.8,
        topK: 40,
        topP: 0.95,
        minP: 0.05,
        typicalP: 1,
        repetitionPenalty: 1,
        frequencyPenalty: 0,
        presencePenalty: 0,
        penaltyWindow: 64,
        logitBias: [],
        seed: expect.any(BigInt),
        logprobs: -1,
      },
    })
  })

  test('every option reaches the addon', async () => {
    const { addon, model } = await start()
    model.generate('hello', {
      maxTokens: Infinity,
      temperature: 0,
      topK: 1,
      topP: 0.5,
      minP: 0.1,
      typicalP: 0.9,
      repetitionPenalty: 1.1,
      frequencyPenalty: 0.2,
      presencePenalty: 0.3,
      penaltyWindow: Infinity,
      logitBias: { 5: -Infinity },
      seed: 9,
      logprobs: 0,
      stop: ['a', 'b'],
      stopTokens: [7],
      ignoreEos: true,
      showSpecial: true,
      priority: -3,
      timeout: 5000,
      onContextFull: 'shift',
      keepTokens: 12,
      bos: false,
      special: true,
    })
    expect(addon.last.request).toMatchObject({
      prompt: [['hello', true]],
      bos: false,
      maxTokens: -1,
      stop: ['a', 'b'],
      stopTokens: Uint32Array.of(7),
      ignoreEos: true,
      showSpecial: true,
      priority: -3,
      timeoutMs: 5000,
      onContextFull: 'shift',
      keepTokens: 12,
      sampling: {
        temperature: 0,
        topK: 1,
        topP: 0.5,
        minP: 0.1,
        typicalP: 0.9,
        repetitionPenalty: 1.1,
        frequencyPenalty: 0.2,
        presencePenalty: 0.3,
        penaltyWindow: -1,
        logitBias: [[5, -Infinity]],
        seed: 9n,
        logprobs: 0,
      },
    })
  })

  test('logit bias as an object, a Map or pairs', async () => {
    const { addon, model } = await start()
    for (const logitBias of [{ 5: 1.5 }, new Map([[5, 1.5]]), [[5, 1.5]] as const]) {
      model.generate('x', { logitBias })
      expect(addon.last.request.sampling.logitBias).toEqual([[5, 1.5]])
    }
  })

  test('prompts of ids', async () => {
    const { addon, model } = await start()
    model.generate([1, 2, 299])
    expect(addon.last.request.prompt).toEqual(Uint32Array.of(1, 2, 299))
    model.generate(Uint32Array.of(4))
    expect(addon.last.request.prompt).toEqual(Uint32Array.of(4))
  })
})
