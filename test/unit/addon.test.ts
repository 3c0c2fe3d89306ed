/** The real addon with the demo model: its results, and its errors after misuse. */

import { CriaError, inspect, loadModel, loadTokenizer, type Model } from '../../lib/index'
import { setScalar, vocabularyOnly, writeGguf } from '../fixtures/gguf'
import { tinyLlama } from '../fixtures/tiny_llama'
import { demo, scratchFolder, soon, tinyModel } from './real_models'

const { folder, write } = scratchFolder()
const prompt = 'Once upon a time'
const greedy = { temperature: 0, maxTokens: 40 }

async function failure(promise: PromiseLike<unknown>): Promise<CriaError> {
  const error = await soon(promise).then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(CriaError)
  return error as CriaError
}

let model: Model
beforeAll(async () => {
  model = await loadModel(demo)
})
afterAll(() => model.dispose())

describe('a model', () => {
  test('says what it is', () => {
    expect(model.info).toMatchObject({ architecture: 'llama', device: 'cpu', kvDtype: 'f16', path: demo })
    expect(model.info.vocabSize).toBe(model.tokenizer.vocabSize)
    expect(model.info.parameters).toBeGreaterThan(100_000)
    expect(model.info.contextLength).toBeLessThanOrEqual(model.info.trainedContextLength)
    expect(model.info.heads % model.info.kvHeads).toBe(0)
  })

  test('streams what it returns', async () => {
    const generation = model.generate(prompt, greedy)
    let text = ''
    const tokens: number[] = []
    let chunks = 0
    for await (const chunk of generation) {
      chunks++
      text += chunk.text
      tokens.push(...chunk.tokens)
    }
    const result = await generation
    expect(chunks).toBeGreaterThan(1)
    expect(text).toBe(result.text)
    expect(tokens).toEqual([...result.tokens])
    expect(result.tokens.length).toBe(40)
    expect(result.finishReason).toBe('length')
    expect(result.usage.generatedTokens).toBe(40)
    expect(result.usage.promptTokens).toBe((await model.tokenizer.encode(prompt)).length)
    expect(result.text.length).toBeGreaterThan(40)
    const ids = [...(await model.tokenizer.encode(prompt)), ...result.tokens]
    expect(await model.tokenizer.decode(ids)).toBe(prompt + result.text)
  })

  test('gives the same tokens for ids as for text, and in a second run', async () => {
    const ids = await model.tokenizer.encode(prompt)
    const [a, b, c] = await Promise.all([
      model.generate(prompt, greedy),
      model.generate(ids, greedy),
      model.generate([...ids], greedy),
    ])
    expect([...b.tokens]).toEqual([...a.tokens])
    expect([...c.tokens]).toEqual([...a.tokens])
  })

  test('the same seed gives the same tokens, another seed gives others', async () => {
    const run = (seed: number | bigint) =>
      model.generate(prompt, { seed, temperature: 1.5, topK: 0, maxTokens: 60 })
    const [a, b, c] = [await run(1), await run(1n), await run(2)]
    expect([...b.tokens]).toEqual([...a.tokens])
    expect([...c.tokens]).not.toEqual([...a.tokens])
    const drawn = await model.generate(prompt, { maxTokens: 30 })
    const again = await model.generate(prompt, { maxTokens: 30, seed: drawn.seed })
    expect([...again.tokens]).toEqual([...drawn.tokens])
  })

  test('many requests at once give the same as one after another', async () => {
    const prompts = [
      'Once upon a time',
      'The little dog',
      'One day',
      'A girl called',
      'There was',
      'In the morning',
    ]
    const options = { temperature: 0.9, seed: 5, maxTokens: 30 }
    const alone: number[][] = []
    for (const one of prompts) alone.push([...(await model.generate(one, options)).tokens])
    const together = await Promise.all(prompts.map((one) => model.generate(one, options)))
    expect(together.map(({ tokens }) => [...tokens])).toEqual(alone)
  })

  test('logits are those of the greedy choice, and of the logprobs', async () => {
    const ids = await model.tokenizer.encode(prompt)
    const logits = await model.logits(ids)
    expect(logits.length).toBe(model.info.vocabSize)
    const result = await model.generate(ids, { temperature: 0, maxTokens: 1, logprobs: 5 })
    const best = logits.indexOf(Math.max(...logits))
    expect(result.tokens[0]).toBe(best)
    const [entry] = result.logprobs!
    expect(entry!.token).toBe(best)
    expect(entry!.top).toHaveLength(5)
    expect(entry!.top[0]).toEqual({ token: best, logprob: entry!.logprob })
    const sum = Math.log(logits.reduce((total, logit) => total + Math.exp(logit - logits[best]!), 0))
    expect(entry!.logprob).toBeCloseTo(-sum, 3)
    const falling = entry!.top.map(({ logprob }) => logprob)
    expect(falling).toEqual([...falling].sort((a, b) => b - a))
  })

  test('logprobs: 0 reports only the chosen token; without the option there are no logprobs', async () => {
    const { logprobs, tokens } = await model.generate(prompt, { maxTokens: 3, logprobs: 0, ignoreEos: true })
    expect(logprobs!.map(({ token }) => token)).toEqual([...tokens])
    expect(logprobs!.every(({ top, logprob }) => top.length === 0 && logprob <= 0)).toBe(true)
    expect(await model.generate(prompt, { maxTokens: 3 })).not.toHaveProperty('logprobs')
  })

  test('stops before a stop string', async () => {
    const { text } = await model.generate(prompt, greedy)
    const stop = text.slice(10, 15)
    const stopped = await model.generate(prompt, { ...greedy, stop: ['\u0000never', stop] })
    expect(stopped.finishReason).toBe('stopString')
    expect(stopped.stopString).toBe(stop)
    expect(stopped.text).toBe(text.slice(0, text.indexOf(stop)))
  })

  test('no chunk contains a stop string or a part of it', async () => {
    const { text } = await model.generate(prompt, greedy)
    const stop = text.slice(12, 24)
    let streamed = ''
    for await (const chunk of model.generate(prompt, { ...greedy, stop })) streamed += chunk.text
    expect(streamed).toBe(text.slice(0, text.indexOf(stop)))
  })

  test('stops at a stop token', async () => {
    const { tokens } = await model.generate(prompt, greedy)
    const stopToken = tokens[5]!
    const stopped = await model.generate(prompt, { ...greedy, stopTokens: [stopToken] })
    expect(stopped.finishReason).toBe('stop')
    expect(stopped.tokens.length).toBeLessThanOrEqual(6)
  })

  test('a logit bias forbids a token, or forces one', async () => {
    const { tokens } = await model.generate(prompt, greedy)
    const first = tokens[0]!
    const without = await model.generate(prompt, { ...greedy, logitBias: { [first]: -Infinity } })
    expect(without.tokens).not.toContain(first)
    const only = await model.generate(prompt, { maxTokens: 5, logitBias: [[first, 1000]] })
    expect([...only.tokens]).toEqual(new Array(5).fill(first))
  })

  test('ends when the context is full', async () => {
    const small = await loadModel(demo, { contextLength: 64 })
    expect(small.info.contextLength).toBe(64)
    const result = await small.generate(prompt, { maxTokens: Infinity, ignoreEos: true, temperature: 0 })
    expect(result.finishReason).toBe('context')
    expect(result.usage.promptTokens + result.tokens.length).toBeLessThanOrEqual(65)
    expect(result.usage.promptTokens + result.tokens.length).toBeGreaterThanOrEqual(63)
    const error = await failure(small.generate(new Array(100).fill(5)))
    expect(error.code).toBe('ERR_PROMPT_TOO_LONG')
    expect((await small.generate(prompt, { maxTokens: 2, ignoreEos: true })).tokens.length).toBe(2)
    await small.dispose()
  })

  test('gives the same with other threads, prefill chunks and mmap', async () => {
    const expected = [...(await model.generate(prompt, greedy)).tokens]
    const ids = await model.tokenizer.encode(prompt.repeat(20))
    const logits = await model.logits(ids)
    for (const options of [
      { threads: 1 },
      { threads: 2 },
      { threads: 3 },
      { prefillChunk: 3 },
      { mmap: true },
    ]) {
      const other = await loadModel(demo, options)
      expect([...(await other.generate(prompt, greedy)).tokens]).toEqual(expected)
      expect(await other.logits(ids)).toEqual(logits)
      await other.dispose()
    }
  })

  test('chats', async () => {
    const answer = await model.chat([{ role: 'user', content: 'Hello!' }], { temperature: 0, maxTokens: 100 })
    expect(answer.text.length).toBeGreaterThan(0)
    expect(answer.text).toBe(answer.text.trimStart())
    expect(answer.message).toEqual({ role: 'assistant', content: answer.text })
    expect(answer.text).not.toMatch(/<\|/)
  })

  test('handles an empty prompt, and unusual characters', async () => {
    expect((await model.generate('', { maxTokens: 5, ignoreEos: true })).tokens.length).toBe(5)
    const strange = '\u0000\ud800🦙\u200d\ufffd\ufdd0'
    expect((await model.generate(strange, { maxTokens: 2, ignoreEos: true })).tokens.length).toBe(2)
    expect(await model.tokenizer.decode(await model.tokenizer.encode('\ud800'))).toBe('\ufffd')
  })
})

describe('aborts', () => {
  test('end a generation at once with a partial result, and leave the model usable', async () => {
    const abort = new AbortController()
    const generation = model.generate(prompt, { maxTokens: 400, ignoreEos: true, signal: abort.signal })
    const reason = new Error('enough')
    let text = ''
    const error = await failure(
      (async () => {
        for await (const chunk of generation) {
          text += chunk.text
          if (text.length > 20) abort.abort(reason)
        }
      })(),
    )
    expect(error).toMatchObject({ code: 'ERR_ABORTED', name: 'AbortError', cause: reason })
    expect(error.partial!.text).toBe(text)
    expect(error.partial!.tokens.length).toBeLessThan(400)
    expect(error.partial!.usage.generatedTokens).toBeGreaterThan(0)
    expect((await model.generate(prompt, greedy)).tokens.length).toBe(40)
  })

  test('leaving the loop stops the request', async () => {
    const generation = model.generate(prompt, { maxTokens: 400, ignoreEos: true })
    for await (const _ of generation) break
    expect((await failure(generation)).code).toBe('ERR_ABORTED')
  })

  test('before the start', async () => {
    const generation = model.generate(prompt, { signal: AbortSignal.abort() })
    expect((await failure(generation)).code).toBe('ERR_ABORTED')
    expect((await failure(loadModel(demo, { signal: AbortSignal.abort() }))).code).toBe('ERR_ABORTED')
    expect((await failure(loadTokenizer(demo, { signal: AbortSignal.abort() }))).code).toBe('ERR_ABORTED')
    expect((await failure(model.logits([1], { signal: AbortSignal.abort() }))).code).toBe('ERR_ABORTED')
  })

  test('right after the start of anything', async () => {
    const calls: Array<(signal: AbortSignal) => PromiseLike<unknown>> = [
      (signal) => model.generate(prompt, { signal, maxTokens: 400, ignoreEos: true }),
      (signal) => loadModel(demo, { signal }).then((loaded) => loaded.dispose()),
      (signal) => loadTokenizer(demo, { signal }),
      (signal) => inspect(demo, { signal }),
      (signal) => model.logits(new Array(400).fill(5), { signal }),
      (signal) => model.tokenizer.encode('hello world '.repeat(100_000), { signal }),
    ]
    for (const call of calls) {
      const abort = new AbortController()
      const running = soon(call(abort.signal)).then(
        () => 'finished',
        (error: unknown) => (error as CriaError).code,
      )
      abort.abort()
      // A task may finish before the abort.
      expect(['finished', 'ERR_ABORTED']).toContain(await running)
    }
    expect((await model.generate(prompt, greedy)).tokens.length).toBe(40)
  })

  test('a hundred requests, all aborted', async () => {
    const abort = new AbortController()
    const all = Array.from({ length: 100 }, () =>
      model.generate(prompt, { signal: abort.signal, ignoreEos: true }),
    )
    setTimeout(() => abort.abort(), 5)
    const codes = await soon(
      Promise.all(
        all.map((one) =>
          one.then(
            () => 'finished',
            (error: unknown) => (error as CriaError).code,
          ),
        ),
      ),
    )
    expect(new Set(codes).has('ERR_ABORTED')).toBe(true)
    expect((await model.generate(prompt, greedy)).tokens.length).toBe(40)
  })
})

describe('disposal', () => {
  test('in the middle of a generation', async () => {
    const other = await loadModel(demo)
    const generations = Array.from({ length: 3 }, () =>
      other.generate(prompt, { maxTokens: 400, ignoreEos: true }),
    )
    const logits = other.logits(new Array(300).fill(5)).catch((error: unknown) => error)
    const encoding = other.tokenizer.encode('hello '.repeat(200_000)).catch((error: unknown) => error)
    await generations[0]![Symbol.asyncIterator]().next()
    await soon(Promise.all([other.dispose(), other.dispose()]))
    for (const generation of generations) {
      const error = await failure(generation)
      expect(error.code).toBe('ERR_DISPOSED')
      expect(error.partial).toBeDefined()
    }
    for (const outcome of await Promise.all([logits, encoding])) {
      if (outcome instanceof Error)
        expect(['ERR_DISPOSED', 'ERR_ABORTED']).toContain((outcome as CriaError).code)
    }
    expect((await failure(other.generate(prompt))).code).toBe('ERR_DISPOSED')
    expect((await failure(other.logits([1]))).code).toBe('ERR_DISPOSED')
    await other.dispose()
    expect((await model.generate(prompt, greedy)).tokens.length).toBe(40)
  })

  test('right after loading, and many times', async () => {
    for (let i = 0; i < 10; i++) {
      const other = await loadModel(demo, { contextLength: 64 })
      if (i % 2) other.generate(prompt)
      await soon(other.dispose())
    }
  })

  test('of one of two models leaves the other usable', async () => {
    const file = write('tiny.gguf', tinyModel({ contextLength: 256 }))
    const [a, b] = await Promise.all([loadModel(demo), loadModel(file)])
    const [one, two] = await Promise.all([
      a.generate(prompt, greedy),
      b.generate('the', { ...greedy, ignoreEos: true }),
    ])
    expect(two.tokens.length).toBe(40)
    const running = b.generate('the', { maxTokens: 100, temperature: 0, ignoreEos: true })
    await a.dispose()
    const after = await running
    expect([...after.tokens.slice(0, 40)]).toEqual([...two.tokens])
    await b.dispose()
    expect([...(await model.generate(prompt, greedy)).tokens]).toEqual([...one.tokens])
  })
})

describe('files', () => {
  test.each([
    ['nothing there', () => `${folder}/nothing.gguf`, ['ERR_FILE_NOT_FOUND']],
    ['a folder', () => folder, ['ERR_FILE_NOT_FOUND', 'ERR_INVALID_FILE']],
    ['an empty file', () => write('empty.gguf', ''), ['ERR_INVALID_FILE']],
    [
      'a text',
      () => write('text.gguf', 'this is no model, is it?'),
      ['ERR_INVALID_FILE', 'ERR_UNSUPPORTED_FILE'],
    ],
    ['half a model', () => write('half.gguf', tinyModel().slice(0, 20_000)), ['ERR_INVALID_FILE']],
    ['a path with a line end', () => `${folder}/a\nb.gguf`, ['ERR_FILE_NOT_FOUND']],
  ])('%s', async (_name, path, codes) => {
    for (const call of [loadModel, loadTokenizer, inspect]) {
      const file = path()
      const error = await (call as (path: string) => Promise<unknown>)(file).then(
        (value) => value,
        (reason: unknown) => reason,
      )
      // inspect and loadTokenizer read no tensors, so half a file may suffice.
      if (error instanceof CriaError) expect(codes).toContain(error.code)
      else expect(call).not.toBe(loadModel)
    }
  })

  test('the error names the file', async () => {
    const error = await failure(loadModel(`${folder}/nothing.gguf`))
    expect(error.message).toContain('nothing.gguf')
  })

  test('a file with only a vocabulary', async () => {
    const file = write('vocabulary.gguf', writeGguf(vocabularyOnly(tinyLlama())))
    const tokenizer = await loadTokenizer(file)
    expect(await tokenizer.decode(await tokenizer.encode('the thing'))).toBe('the thing')
    expect((await failure(loadModel(file))).code).toBe('ERR_INVALID_MODEL')
  })

  test('inspect shows metadata and tensors', async () => {
    const info = await inspect(demo)
    expect(info).toMatchObject({ format: 'gguf', version: 3, path: demo })
    expect(info.metadata.find(({ key }) => key === 'general.architecture')!.value).toBe('llama')
    const embedding = info.tensors.find(({ name }) => name === 'token_embd.weight')!
    expect(embedding.shape).toEqual([model.info.hidden, model.info.vocabSize])
  })

  test('what a file asks for and does not get is a warning, of inspect and of a model', async () => {
    expect(model.info.warnings).toEqual([])
    expect((await inspect(demo)).warnings).toEqual([])
    const gguf = tinyLlama()
    setScalar(gguf, 'llama.attention.sliding_window', 'u32', 8)
    setScalar(gguf, 'llama.something.new', 'string', 'x')
    const file = write('warnings.gguf', writeGguf(gguf))
    const expected = [
      '"llama.attention.sliding_window" is 8 and is ignored, as llama.cpp ignores it for this architecture',
      '"llama.something.new" is not known and is ignored',
    ]
    expect((await inspect(file)).warnings).toEqual(expected)
    const loaded = await loadModel(file)
    expect(loaded.info.warnings).toEqual(expected)
    await loaded.dispose()
  })

  test('cuda is refused; auto explains its choice', async () => {
    expect((await failure(loadModel(demo, { device: 'cuda' }))).code).toBe('ERR_UNSUPPORTED_DEVICE')
    expect(model.info.deviceReason.length).toBeGreaterThan(0)
  })

  test('gpuLayers: at most those of the model, and 0 on the CPU', async () => {
    expect(model.info.gpuLayers).toBe(0)
    const error = await failure(loadModel(demo, { gpuLayers: 7 }))
    expect(error.code).toBe('ERR_INVALID_ARGUMENT')
    expect(error.message).toContain('expected at most 6, the layers of the model, found 7')
    expect(error.details).toMatchObject({ expected: 6, found: 7 })
  })

  test('progress ends at 1', async () => {
    const seen: number[] = []
    const loaded = await loadModel(demo, { onProgress: ({ fraction }) => seen.push(fraction) })
    await loaded.dispose()
    expect(seen).toEqual([...seen].sort((a, b) => a - b))
    for (const fraction of seen) expect(fraction >= 0 && fraction <= 1).toBe(true)
  })
})
