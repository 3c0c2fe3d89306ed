/**
 * Every shape and key that llama.cpp reads for the architecture "llama", on small models: its logits and its greedy ids.
 * cuda_emulated.test.ts does the same on the emulated device.
 */

import { loadModel } from '../../lib/index'
import { type ArchCase, archCases, dataPath, describeConformance, relativeError } from './data'

/** Greedy ids may differ from the first choice on that was this close. */
const CLOSE = 0.01

function choicesThatCount({ greedyIds, greedyMargins }: ArchCase): number[] {
  const close = greedyMargins.findIndex((margin) => margin < CLOSE)
  return greedyIds.slice(0, close < 0 ? greedyIds.length : close)
}

describeConformance('architecture "llama"', () => {
  test('there are 23 models', () => expect(archCases.length).toBe(23))

  test.each(archCases.map((one) => [one.file, one] as const))('%s', async (file, one) => {
    const { ids, mid, contextLength } = one
    for (const mmap of [false, true]) {
      const model = await loadModel(dataPath('arch', file), { kvDtype: 'f32', mmap, contextLength })
      expect(relativeError(await model.logits(ids.slice(0, mid)), one.logitsAtMid)).toBeLessThanOrEqual(1e-4)
      expect(relativeError(await model.logits(ids), one.logits)).toBeLessThanOrEqual(1e-4)
      const expected = choicesThatCount(one)
      const { tokens } = await model.generate(ids, {
        temperature: 0,
        maxTokens: one.greedyIds.length,
        ignoreEos: true,
      })
      expect([...tokens].slice(0, expected.length)).toEqual(expected)
      expect(model.info.warnings.length).toBe(file === 'unknown-keys.gguf' ? 5 : 0)
      await model.dispose()
    }
  })
})
