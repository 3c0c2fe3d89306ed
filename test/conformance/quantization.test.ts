/** Files that cria quantizes, beside those of llama.cpp's quantize tool; and perplexity, beside exact figures. */

import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { convertModel, type FileType, inspect, loadModel, perplexity } from '../../lib/index'
import { available, dataPath, describeConformance, readJson, relativeError } from './data'

interface Quantized {
  file: string
  ids: number[]
  logits: number[]
}

describeConformance('quantizers beside llama.cpp', () => {
  const folder = mkdtempSync(join(tmpdir(), 'cria-quantize-'))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  const cases = available
    ? ['golden.json', 'golden-more.json'].flatMap(
        (name) => readJson<{ cases: Quantized[] }>('quantized', name).cases,
      )
    : []
  const source = dataPath('quantized', 'tiny-F32.gguf')
  const made = cases.filter(({ file }) => file.startsWith('tiny-') && file !== 'tiny-F32.gguf')

  test('there are 33 files of llama.cpp', () => {
    expect(made).toHaveLength(33)
  })

  test.each(made.map((one) => [one.file, one] as const))('%s', async (file, { ids, logits }) => {
    const type = /tiny-(.*)\.gguf/.exec(file)![1] as FileType
    const path = join(folder, file)
    const reference = await inspect(dataPath('quantized', file))
    const byImatrix = reference.metadata.some(({ key }) => key === 'quantize.imatrix.file')
    const imatrix = byImatrix ? dataPath('quantized', 'tiny-imatrix.gguf') : undefined
    await convertModel(source, path, { type, imatrix })
    await using model = await loadModel(path, { kvDtype: 'f32' })
    const found = await model.logits(ids)
    await using exact = await loadModel(source, { kvDtype: 'f32' })
    const wanted = await exact.logits(ids)
    // What each differs from the exact logits by is about the same, or cria's file differs by less.
    expect(relativeError(found, wanted)).toBeLessThanOrEqual(1.25 * relativeError(logits, wanted) + 1e-3)
  })
})

describeConformance('perplexity', () => {
  const text = available ? readFileSync(dataPath('real', 'perplexity.txt'), 'utf8') : ''

  test('of a real model', async () => {
    const expected = readJson<{
      tokens: number
      chunks: number
      context: number
      exact: { perplexity: number; meanNllOfChunks: number[] }
    }>('real', 'perplexity.json')
    const result = await perplexity(dataPath('real', 'SmolLM2-135M-Instruct.Q4_1.gguf'), text, {
      chunkTokens: expected.context,
    })
    expect(result).toMatchObject({ textTokens: expected.tokens, chunks: expected.chunks })
    expect(Math.abs(result.perplexity / expected.exact.perplexity - 1)).toBeLessThan(0.005)
    for (const [i, nll] of result.chunkNlls.entries()) {
      expect(Math.abs(nll - expected.exact.meanNllOfChunks[i]!)).toBeLessThan(0.05)
    }
  }, 300_000)

  test('of a quantized model, beside the model itself', async () => {
    const story = dataPath('tinystories-260k', 'gguf', 'tinystories-260k-f32.gguf')
    const options = { chunkTokens: 256, maxChunks: 4, compare: story }
    const small = await perplexity(story, text, { ...options, quantize: 'Q4_0' })
    const large = await perplexity(story, text, { ...options, quantize: 'Q8_0' })
    // Measured: 0.0015.
    expect(large.comparison!.klDivergence).toBeLessThan(0.003)
    expect(small.comparison!.klDivergence).toBeGreaterThan(10 * large.comparison!.klDivergence)
    expect(large.comparison!.sameTop).toBeGreaterThan(0.97)
    expect(small.comparison!.sameTop).toBeLessThan(large.comparison!.sameTop)
    expect(large.comparison!.perplexity).toBe(small.comparison!.perplexity)
  })
})
