/** Conversion, quantization while loading, perplexity and importance matrices, on the real addon. */

import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { addon } from '../../lib/binding'
import { FILE_TYPES } from '../../lib/file_types'
import { computeImatrix, convertModel, type FileType, inspect, loadModel, perplexity } from '../../lib/index'
import { demo, scratchFolder, tinyModel } from './real_models'

const { folder, write } = scratchFolder()
const at = (name: string) => join(folder, name)
const tiny = write('tiny.gguf', tinyModel())
const story =
  'Once upon a time there was a little girl called Lily. She had a red ball and a small dog. One day they went to ' +
  'the park to play. '
const text = story.repeat(40)

const logitsOf = async (path: string, options = {}) => {
  await using model = await loadModel(path, { contextLength: 64, ...options })
  return await model.logits((await model.tokenizer.encode(story)).slice(0, 32))
}
function distance(a: Float32Array, b: Float32Array): number {
  let error = 0
  let norm = 0
  for (let i = 0; i < a.length; i++) {
    error += (a[i]! - b[i]!) ** 2
    norm += b[i]! ** 2
  }
  return Math.sqrt(error / norm)
}

test('the library and the addon know the same file types', () => {
  expect(addon().fileTypes).toEqual(FILE_TYPES)
})

test('a converted model computes what the quantized one computes, and loading quantizes to the same bits', async () => {
  const exact = await logitsOf(tiny)
  const allowed: Array<[FileType, number]> = [
    ['F32', 1e-6],
    ['BF16', 0.05],
    ['Q8_0', 0.1],
    ['Q4_1', 1],
  ]
  for (const [type, error] of allowed) {
    const path = at(`${type}.gguf`)
    const seen: number[] = []
    const result = await convertModel(tiny, path, {
      type,
      threads: 2,
      onProgress: ({ fraction }) => seen.push(fraction),
    })
    expect(result).toMatchObject({ path, type, fileBytes: statSync(path).size })
    expect(seen.at(-1)).toBe(1)
    const converted = await logitsOf(path)
    expect(distance(converted, exact)).toBeLessThan(error)
    expect(await logitsOf(tiny, { quantize: type })).toEqual(converted)
  }
})

test('the file says what it is, and keeps the metadata', async () => {
  const path = at('named.gguf')
  await convertModel(tiny, path, { type: 'Q8_0' })
  const [before, after] = await Promise.all([inspect(tiny), inspect(path)])
  const value = (info: typeof after, key: string) => info.metadata.find((entry) => entry.key === key)?.value
  expect(value(after, 'general.file_type')).toBe(7)
  expect(value(after, 'general.quantization_version')).toBe(2)
  // These say how the file itself is laid out.
  const own = ['general.file_type', 'general.quantization_version', 'general.alignment']
  for (const { key, value: wanted } of before.metadata)
    if (!own.includes(key)) expect(value(after, key)).toEqual(wanted)
  expect(after.tensors.map(({ name, shape }) => ({ name, shape }))).toEqual(
    before.tensors.map(({ name, shape }) => ({ name, shape })),
  )
})

test('quantizing while loading takes the memory of the type', async () => {
  await using plain = await loadModel(tiny)
  await using small = await loadModel(tiny, { quantize: 'Q8_0' })
  expect(small.info.weightBytes).toBeLessThan(plain.info.weightBytes / 2)
  expect(small.info.tensorTypes.Q8_0).toBeGreaterThan(0)
  expect(small.info.fileBytes).toBe(plain.info.fileBytes)
})

describe('conversion refuses', () => {
  const refused = (promise: Promise<unknown>, code: string) => expect(promise).rejects.toMatchObject({ code })

  test('wrong options', async () => {
    await refused(convertModel(tiny, at('x.gguf'), { type: 'Q4_K_X' as FileType }), 'ERR_INVALID_ARGUMENT')
    await refused(convertModel(tiny, at('x.gguf'), { speed: 1 } as object), 'ERR_INVALID_ARGUMENT')
    await refused(convertModel('', at('x.gguf')), 'ERR_INVALID_ARGUMENT')
    await refused(loadModel(tiny, { quantize: 'Q8' as FileType }), 'ERR_INVALID_ARGUMENT')
    await refused(loadModel(tiny, { quantize: 'Q8_0', mmap: true }), 'ERR_INVALID_ARGUMENT')
  })

  test('missing files, and what is no model', async () => {
    await refused(convertModel(at('none.gguf'), at('x.gguf')), 'ERR_FILE_NOT_FOUND')
    await refused(convertModel(write('text.gguf', 'no model'), at('x.gguf')), 'ERR_INVALID_FILE')
    await refused(convertModel(tiny, at('no/such/folder.gguf')), 'ERR_IO')
    await refused(convertModel(tiny, at('x.gguf'), { imatrix: tiny }), 'ERR_INVALID_FILE')
  })

  test('what is quantized already, unless asked for', async () => {
    await convertModel(tiny, at('q8.gguf'), { type: 'Q8_0' })
    await refused(convertModel(at('q8.gguf'), at('x.gguf'), { type: 'Q4_0' }), 'ERR_INVALID_ARGUMENT')
    await refused(loadModel(at('q8.gguf'), { quantize: 'Q4_0' }), 'ERR_INVALID_ARGUMENT')
    await convertModel(at('q8.gguf'), at('q4.gguf'), { type: 'Q4_0', requantize: true })
  })

  test('and leaves no file behind', async () => {
    const before = readdirSync(folder).sort()
    const abort = new AbortController()
    // So large that the first report comes long before the end.
    const large = write('large.gguf', tinyModel({ hidden: 512, ffnHidden: 2048, nLayers: 4 }))
    before.push('large.gguf')
    const options = {
      type: 'Q6_K' as const,
      threads: 1,
      signal: abort.signal,
      onProgress: () => abort.abort(),
    }
    await refused(convertModel(large, at('aborted.gguf'), options), 'ERR_ABORTED')
    const failing = convertModel(tiny, at('thrown.gguf'), {
      onProgress() {
        throw new RangeError('enough')
      },
    })
    await expect(failing).rejects.toThrow(RangeError)
    expect(readdirSync(folder).sort()).toEqual(before.sort())
  })
})

describe('perplexity', () => {
  const options = { chunkTokens: 64, threads: 2 }

  test('is e to the mean negative log-likelihood of the tokens that count', async () => {
    const result = await perplexity(demo, text, { ...options, maxChunks: 2 })
    await using model = await loadModel(demo)
    const ids = await model.tokenizer.encode(text)
    let nll = 0
    let tokens = 0
    for (let chunk = 0; chunk < 2; chunk++) {
      const own = ids.slice(64 * chunk, 64 * (chunk + 1))
      if (model.tokenizer.addsBos) own[0] = model.tokenizer.bos!
      for (let i = 32; i < 63; i++) {
        const logits = await model.logits(own.slice(0, i + 1))
        const max = Math.max(...logits)
        const sum = logits.reduce((total, logit) => total + Math.exp(logit - max), 0)
        nll -= logits[own[i + 1]!]! - max - Math.log(sum)
        tokens++
      }
    }
    expect(result).toMatchObject({ chunks: 2, tokens, textTokens: ids.length })
    expect(result.perplexity).toBeCloseTo(Math.exp(nll / tokens), 3)
    expect(result.error).toBeGreaterThan(0)
    expect(result.chunkNlls).toHaveLength(2)
  })

  test('of a model beside itself: no divergence; beside its quantization: some', async () => {
    const compare = { ...options, maxChunks: 2, compare: demo }
    const same = await perplexity(demo, text, compare)
    expect(same.comparison).toMatchObject({ klDivergence: 0, maxKlDivergence: 0, sameTop: 1 })
    expect(same.comparison!.perplexity).toBeCloseTo(same.perplexity, 9)
    const f32 = { ...options, maxChunks: 2, compare: tiny }
    const other = await perplexity(tiny, text, { ...f32, quantize: 'Q4_0' })
    expect(other.comparison!.klDivergence).toBeGreaterThan(0)
    expect(other.comparison!.sameTop).toBeLessThanOrEqual(1)
  })

  test('continues where it was interrupted', async () => {
    const whole = await perplexity(demo, text, { ...options, maxChunks: 4 })
    const state = at('state.json')
    const abort = new AbortController()
    const seen: number[] = []
    const interrupted = perplexity(demo, text, {
      ...options,
      maxChunks: 4,
      state,
      signal: abort.signal,
      onChunk({ chunk }) {
        seen.push(chunk)
        if (chunk === 2) abort.abort()
      },
    })
    await expect(interrupted).rejects.toMatchObject({ code: 'ERR_ABORTED' })
    const done = JSON.parse(readFileSync(state, 'utf8')).scores.length
    expect(done).toBeGreaterThanOrEqual(2)
    const rest: number[] = []
    const resumed = await perplexity(demo, text, {
      ...options,
      maxChunks: 4,
      state,
      onChunk: ({ chunk }) => rest.push(chunk),
    })
    expect(resumed).toEqual(whole)
    expect(rest).toHaveLength(4 - done)

    const wrong = (code: string, own: object) =>
      expect(perplexity(demo, text, { ...options, maxChunks: 4, state, ...own })).rejects.toMatchObject({
        code,
      })
    await wrong('ERR_STATE_MISMATCH', { chunkTokens: 32 })
    await wrong('ERR_STATE_MISMATCH', { compare: demo })
    await expect(perplexity(tiny, text, { ...options, state })).rejects.toMatchObject({
      code: 'ERR_STATE_MISMATCH',
    })
    for (const content of [
      '',
      '{',
      '[]',
      '{"version":1}',
      '{"version":1,"key":"","fingerprint":"","scores":[{}]}',
    ]) {
      writeFileSync(state, content)
      await wrong('ERR_INVALID_FILE', {})
    }
  })

  test('needs a chunk of text, and models of one vocabulary', async () => {
    const refused = (promise: Promise<unknown>) =>
      expect(promise).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
    await refused(perplexity(demo, 'too short', options))
    await refused(perplexity(demo, text, { ...options, compare: tiny }))
    await refused(perplexity(demo, text, { chunkTokens: 1 }))
    await refused(perplexity(demo, 5 as unknown as string))
  })
})

describe('importance matrices', () => {
  test('hold the mean squares of what the matrices are multiplied with', async () => {
    const path = at('imatrix.gguf')
    const result = await computeImatrix(tiny, text, path, {
      chunkTokens: 32,
      maxChunks: 3,
      textName: 'story',
    })
    const info = await inspect(path)
    expect(result).toEqual({ path, chunks: 3, entries: info.tensors.length / 2 })
    const value = (key: string) => info.metadata.find((entry) => entry.key === key)?.value
    expect(value('general.type')).toBe('imatrix')
    expect(value('imatrix.chunk_count')).toBe(3)
    expect(value('imatrix.chunk_size')).toBe(32)
    expect(value('imatrix.datasets')).toMatchObject({ head: ['story'] })
    const names = info.tensors.map(({ name }) => name)
    for (const weight of ['attn_q', 'attn_k', 'attn_v', 'attn_output', 'ffn_gate', 'ffn_up', 'ffn_down']) {
      expect(names).toContain(`blk.0.${weight}.weight.in_sum2`)
    }
    // A quantization by it is another than one without.
    await convertModel(tiny, at('by.gguf'), { type: 'Q4_0', imatrix: path })
    await convertModel(tiny, at('without.gguf'), { type: 'Q4_0' })
    expect(readFileSync(at('by.gguf')).equals(readFileSync(at('without.gguf')))).toBe(false)
    expect((await logitsOf(at('by.gguf'))).every(Number.isFinite)).toBe(true)
  })

  test('an aborted one leaves no file', async () => {
    const abort = new AbortController()
    const promise = computeImatrix(tiny, text, at('none.gguf'), {
      chunkTokens: 32,
      signal: abort.signal,
      onProgress: () => abort.abort(),
    })
    await expect(promise).rejects.toMatchObject({ code: 'ERR_ABORTED' })
    expect(readdirSync(folder)).not.toContain('none.gguf')
  })
})
