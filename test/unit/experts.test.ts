/** Mixtures of experts as models: both forms of their files, memory, batches, and what `info` says. */

import type { Model } from '../../lib/index'
import { loadModel } from '../../lib/index'
import type { TinyLlamaOptions } from '../fixtures/tiny_llama'
import { scratchFolder, tinyModel } from './real_models'

const { write } = scratchFolder()
const prompt = Array.from({ length: 50 }, (_, i) => 3 + ((i * 37) % 250))

let files = 0
async function withModel<T>(
  options: TinyLlamaOptions,
  load: Parameters<typeof loadModel>[1],
  use: (model: Model) => Promise<T>,
): Promise<T> {
  const model = await loadModel(write(`experts-${files++}.gguf`, tinyModel(options)), { threads: 2, ...load })
  try {
    return await use(model)
  } finally {
    await model.dispose()
  }
}

const mixture: TinyLlamaOptions = { hidden: 64, ffnHidden: 96, experts: 6, expertsUsed: 2, type: 'Q4_0' }
const logitsOf = (model: Model) => model.logits(prompt)

test('info counts the experts, and parameters are those of all', async () => {
  const dense = await withModel({ ...mixture, experts: 0 }, {}, async (model) => model.info)
  expect(dense).toMatchObject({ experts: 0, expertsUsed: 0 })
  const info = await withModel(mixture, {}, async (model) => model.info)
  expect(info).toMatchObject({ experts: 6, expertsUsed: 2, ffnHidden: 96 })
  expect(info.parameters - dense.parameters).toBe(2 * (5 * 3 * 64 * 96 + 6 * 64))
})

test('stacked experts and a tensor for each are the same model, read or mapped', async () => {
  const expected = await withModel(mixture, {}, logitsOf)
  expect(expected.every(Number.isFinite)).toBe(true)
  for (const stackedExperts of [true, false])
    for (const mmap of [true, false])
      expect(await withModel({ ...mixture, stackedExperts }, { mmap }, logitsOf)).toEqual(expected)
})

test('the number of experts that a token uses matters, and so does every expert', async () => {
  const two = await withModel(mixture, {}, logitsOf)
  expect(await withModel({ ...mixture, expertsUsed: 3 }, {}, logitsOf)).not.toEqual(two)
})

test('a prompt gives the same logits in chunks of any size, with any number of threads', async () => {
  const expected = await withModel(mixture, { prefillChunk: 64 }, logitsOf)
  for (const prefillChunk of [1, 7]) {
    expect(await withModel(mixture, { prefillChunk, threads: 1 }, logitsOf)).toEqual(expected)
  }
})

test('requests that share steps get the tokens that they get alone', async () => {
  await withModel(mixture, {}, async (model) => {
    const options = (seed: number) => ({ maxTokens: 12, temperature: 1, seed, ignoreEos: true })
    const alone = []
    for (let seed = 1; seed <= 5; seed++)
      alone.push((await model.generate(prompt.slice(0, 4 * seed), options(seed))).tokens)
    const together = await Promise.all(
      alone.map((_, i) => model.generate(prompt.slice(0, 4 * (i + 1)), options(i + 1))),
    )
    expect(together.map(({ tokens }) => tokens)).toEqual(alone)
  })
})
