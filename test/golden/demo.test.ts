/** The demo model against models/demo.golden.json: numpy in float64, written apart from the engine (models/train/check.py). */

import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { type ChatMessage, demoModelPath, loadModel, type Model } from '../../lib/index'

interface Golden {
  prompts: Array<{
    prompt: string
    messages?: ChatMessage[]
    promptIds: number[]
    greedyIds: number[]
    greedyText: string
    /** The best logit less the second best, at each step. */
    margins: number[]
    logitsAfterPrompt: number[]
  }>
}

const { prompts } = JSON.parse(
  readFileSync(join(dirname(demoModelPath()), 'demo.golden.json'), 'utf8'),
) as Golden

// The file's matrices are Q8_0, so the engine quantizes activations to 8 bits, which the reference does not.
const LOGITS_TOLERANCE = 0.04
/** Where two tokens are nearer than this, the engine may take the other one. */
const CLOSE = 0.2

function relativeError(actual: ArrayLike<number>, expected: number[]): number {
  let difference = 0
  let norm = 0
  expected.forEach((value, index) => {
    difference += (actual[index]! - value) ** 2
    norm += value ** 2
  })
  return Math.sqrt(difference / norm)
}

describe.each(['f32', 'f16'] as const)('the demo model with an %s cache', (kvDtype) => {
  let model: Model
  beforeAll(async () => {
    model = await loadModel(demoModelPath(), { kvDtype })
  })
  afterAll(() => model.dispose())

  test.each(prompts.map((one) => [one.prompt, one] as const))('%j', async (prompt, one) => {
    if (one.messages) expect(model.renderChat(one.messages)).toBe(prompt)
    const encoded = await model.tokenizer.encode(prompt, one.messages ? { bos: false, special: true } : {})
    expect([...encoded]).toEqual(one.promptIds)

    const logits = await model.logits(one.promptIds)
    expect(logits.length).toBe(one.logitsAfterPrompt.length)
    expect(relativeError(logits, one.logitsAfterPrompt)).toBeLessThanOrEqual(LOGITS_TOLERANCE)

    const maxTokens = one.greedyIds.length
    const { tokens, text } = await model.generate(one.promptIds, {
      temperature: 0,
      maxTokens,
      ignoreEos: true,
    })
    const parted = one.greedyIds.findIndex((id, index) => tokens[index] !== id)
    if (parted >= 0) expect(one.margins[parted]).toBeLessThan(CLOSE)
    else expect(text.trim()).toBe(one.greedyText.trim())
  })
})
