/** Hugging Face and Meta folders against transformers and Meta's own code. */

import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { convertModel, inspect, loadModel } from '../../lib/index'
import { dataPath, describeConformance, readJson, relativeError } from './data'

interface Story {
  prompt: string
  promptIds: number[]
  logitsAfterPrompt: number[]
  greedyIds: number[]
  greedyText: string
}

interface Folder {
  folder: string
  ids: number[]
  logits: number[]
  greedyIds: number[]
  greedyMargins: number[]
}

/** 16-bit weights meet activations rounded to their type. */
const TOLERANCE: Record<string, number> = { F32: 1e-4, F16: 5e-3, BF16: 1e-2 }

describeConformance('folders', () => {
  const stories = () => readJson<{ cases: Story[] }>('tinystories-260k', 'golden.json').cases
  const folders = () => readJson<{ cases: Folder[] }>('hf', 'golden.json').cases

  test.each(['hf', 'meta', 'meta-2shards'])('tinystories-260k/%s', async (form) => {
    const model = await loadModel(dataPath('tinystories-260k', form), { kvDtype: 'f32' })
    for (const { prompt, promptIds, logitsAfterPrompt, greedyIds, greedyText } of stories()) {
      expect([...(await model.tokenizer.encode(prompt))]).toEqual(promptIds)
      expect(relativeError(await model.logits(promptIds), logitsAfterPrompt)).toBeLessThanOrEqual(1e-4)
      const { tokens } = await model.generate(promptIds, {
        temperature: 0,
        maxTokens: greedyIds.length,
        ignoreEos: true,
      })
      expect([...tokens]).toEqual(greedyIds)
      expect(await model.tokenizer.decode([...promptIds, ...tokens])).toBe(greedyText)
    }
    await model.dispose()
  })

  test.each(['hf', 'meta', 'meta-2shards'])('tinystories-260k/%s as a GGUF file', async (form) => {
    const target = join(mkdtempSync(join(tmpdir(), 'cria-folders-')), 'model.gguf')
    await convertModel(dataPath('tinystories-260k', form), target, { type: 'F32' })
    const model = await loadModel(target, { kvDtype: 'f32' })
    for (const { prompt, promptIds, logitsAfterPrompt, greedyText } of stories()) {
      expect([...(await model.tokenizer.encode(prompt))]).toEqual(promptIds)
      expect(relativeError(await model.logits(promptIds), logitsAfterPrompt)).toBeLessThanOrEqual(1e-4)
      expect(await model.tokenizer.decode(await model.tokenizer.encode(greedyText))).toBe(greedyText)
    }
    await model.dispose()
    rmSync(dirname(target), { recursive: true })
  })

  test('the weights of a folder cannot be mapped', async () => {
    await expect(loadModel(dataPath('tinystories-260k', 'hf'), { mmap: true })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringContaining('mmap'),
    })
  })

  test('every folder has a golden', () => {
    const names = readdirSync(dataPath('hf'), { withFileTypes: true }).filter((entry) => entry.isDirectory())
    expect(
      folders()
        .map(({ folder }) => folder)
        .sort(),
    ).toEqual(names.map(({ name }) => name).sort())
  })

  const names = readdirSync(dataPath('hf'), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name)
  test.each(names)('hf/%s', async (name) => {
    const path = dataPath('hf', name)
    const { ids, logits, greedyIds, greedyMargins } = folders().find(({ folder }) => folder === name)!
    const { tensors } = await inspect(path)
    const type = tensors.find((tensor) => tensor.name === 'blk.0.attn_q.weight')!.type
    const tolerance = TOLERANCE[type]!
    const model = await loadModel(path, { kvDtype: 'f32' })
    expect(relativeError(await model.logits(ids), logits)).toBeLessThanOrEqual(tolerance)
    // Greedy ids may differ from the first place on where two tokens are about as likely.
    const close = greedyMargins.findIndex((margin) => margin < 20 * tolerance)
    const sure = close < 0 ? greedyIds.length : close
    const { tokens } = await model.generate(ids, {
      temperature: 0,
      maxTokens: greedyIds.length,
      ignoreEos: true,
    })
    expect([...tokens].slice(0, sure)).toEqual(greedyIds.slice(0, sure))
    await model.dispose()
  })
})
