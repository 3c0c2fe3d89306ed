/** Logits and greedy text against Meta's own code and llama.cpp, at every ISA level and thread count. */

import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { cpuInfo } from '../../lib/index'
import { available, dataPath, describeConformance, quantizedCases, readJson, relativeError } from './data'

interface Story {
  prompt: string
  promptIds: number[]
  logitsAfterPrompt: number[]
  greedyIds: number[]
  greedyText: string
}

interface Answer {
  isa: string
  modelIsa: string
  threads: number
  stories: Array<{
    promptIds: number[]
    logits: number[]
    halfLogits: number[]
    greedyIds: number[]
    text: string
    decoded: string
  }>
  quantized: Array<{ file: string; logits: number[] }>
}

function answers(isa: string, threads: number): Answer {
  const { status, signal, stdout, stderr } = spawnSync(
    process.execPath,
    [join(__dirname, 'golden_child.js'), dataPath(), String(threads)],
    { encoding: 'utf8', env: { ...process.env, CRIA_CPU_ISA: isa }, maxBuffer: 2 ** 28 },
  )
  expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' })
  return JSON.parse(stdout) as Answer
}

describeConformance('golden logits and text', () => {
  const stories = available ? readJson<{ cases: Story[] }>('tinystories-260k', 'golden.json').cases : []
  const quantized = quantizedCases()
  const levels = available ? cpuInfo().isaLevels : []
  const runs = levels.flatMap((isa) => [1, 2].map((threads) => [isa, threads] as const))

  test('there are 4 stories, 38 quantized files and an ISA level', () => {
    expect([stories.length, quantized.length]).toEqual([4, 38])
    expect(levels.length).toBeGreaterThan(0)
  })

  const first = new Map<string, Answer>()

  describe.each(runs)('%s, %d threads', (isa, threads) => {
    let answer: Answer
    beforeAll(() => {
      answer = answers(isa, threads)
    }, 120_000)

    test('is what runs', () => {
      expect({ isa: answer.isa, modelIsa: answer.modelIsa, threads: answer.threads }).toEqual({
        isa,
        modelIsa: isa,
        threads,
      })
    })

    test.each(stories.map((story, index) => [index, story] as const))('story %d', (index, story) => {
      const { promptIds, logits, halfLogits, greedyIds, decoded, text } = answer.stories[index]!
      expect(promptIds).toEqual(story.promptIds)
      expect(relativeError(logits, story.logitsAfterPrompt)).toBeLessThanOrEqual(1e-4)
      expect(relativeError(halfLogits, story.logitsAfterPrompt)).toBeLessThanOrEqual(3e-3)
      expect(greedyIds).toEqual(story.greedyIds)
      expect(decoded).toBe(story.greedyText)
      expect(story.greedyText.endsWith(text.trimStart())).toBe(true)
    })

    test.each(quantized.map((one) => [one.file, one] as const))('%s', (file, one) => {
      const logits = answer.quantized.find((other) => other.file === file)!.logits
      expect(relativeError(logits, one.logits)).toBeLessThanOrEqual(0.02)
    })

    test('gives the bits that the first run of this level gave', () => {
      const other = first.get(isa)
      if (other) expect({ ...answer, threads: 0 }).toEqual({ ...other, threads: 0 })
      else first.set(isa, answer)
    })
  })
})
