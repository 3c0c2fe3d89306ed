/**
 * The whole CUDA backend, kernels and host code, without a GPU: the golden cases on the device 'cuda-emulated', which the
 * addon built for the tests has (and no other). The reference is the one of the CPU's tests.
 */

import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { loadModel, type ModelInfo } from '../../lib/index'
import {
  archCases,
  available,
  dataPath,
  describeConformance,
  quantizedCases,
  readJson,
  relativeError,
} from './data'

/** Greedy tokens that are compared: emulated, one costs thousands of times what it costs a GPU. */
const TOKENS = 48

interface Answer {
  device: string
  deviceReason: string
  stories: Array<{ logits: number[]; halfLogits: number[]; ids: number[]; halfIds: number[] }>
  divided: Array<{ info: ModelInfo; ids: number[]; logits: number[] }>
  quantized: Array<{ file: string; logits: number[] }>
  /** With all layers on the device, and with one of the two. */
  arch: Array<{ file: string; logitsAtMid: number[]; logits?: number[] }>
}

const emulated = join(__dirname, '..', '..', 'build', 'test', 'native', 'cria_emulated.node')
const built = existsSync(emulated)

test('no other addon knows the emulated device', async () => {
  const model = join(__dirname, '..', '..', 'models', 'demo.gguf')
  await expect(loadModel(model, { device: 'cuda-emulated' as 'cuda' })).rejects.toMatchObject({
    code: 'ERR_INVALID_ARGUMENT',
  })
})

if (!built) test.skip('the emulated device (npm run build:tests builds its addon)', () => {})
else
  describeConformance('golden logits and text on the emulated CUDA device', () => {
    const stories = available
      ? readJson<{ cases: Array<{ logitsAfterPrompt: number[]; greedyIds: number[] }> }>(
          'tinystories-260k',
          'golden.json',
        ).cases
      : []
    const quantized = quantizedCases()
    let answer: Answer
    beforeAll(() => {
      const { status, signal, stdout, stderr } = spawnSync(
        process.execPath,
        [
          join(__dirname, 'emulated_child.js'),
          dataPath(),
          String(TOKENS),
          JSON.stringify(
            archCases.map(({ file, ids, mid, contextLength }) => ({ file, ids, mid, contextLength })),
          ),
        ],
        { encoding: 'utf8', env: { ...process.env, CRIA_BINARY: emulated }, maxBuffer: 2 ** 28 },
      )
      expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' })
      answer = JSON.parse(stdout) as Answer
    }, 300_000)

    test('is what runs', () => {
      expect(answer.device).toBe('cuda-emulated:0')
      expect(answer.deviceReason).toMatch(/asked for by name; emulated device/)
      expect([stories.length, quantized.length]).toEqual([4, 38])
    })

    test.each(stories.map((story, index) => [index, story] as const))('story %d', (index, story) => {
      const { logits, halfLogits, ids, halfIds } = answer.stories[index]!
      expect(relativeError(logits, story.logitsAfterPrompt)).toBeLessThanOrEqual(1e-4)
      // With an F16 cache q and the exponentials are F16 too (docs/gpu.md).
      expect(relativeError(halfLogits, story.logitsAfterPrompt)).toBeLessThanOrEqual(1e-3)
      expect(ids).toEqual(story.greedyIds.slice(0, TOKENS))
      expect(halfIds).toEqual(story.greedyIds.slice(0, TOKENS))
    })

    test('the first story with any number of layers on the device, the others on the CPU', () => {
      const { greedyIds, logitsAfterPrompt } = stories[0]!
      expect(answer.divided.length).toBe(answer.divided[0]!.info.layers + 1)
      for (const [gpuLayers, { info, ids, logits }] of answer.divided.entries()) {
        expect(info.gpuLayers).toBe(gpuLayers)
        expect(info.device).toBe(gpuLayers === 0 ? 'cpu' : 'cuda-emulated:0')
        expect(ids).toEqual(greedyIds.slice(0, 16))
        expect(relativeError(logits, logitsAfterPrompt)).toBeLessThanOrEqual(1e-3)
      }
    })

    test.each(quantized.map((one) => [one.file, one] as const))('%s', (file, one) => {
      const logits = answer.quantized.find((other) => other.file === file)!.logits
      expect(relativeError(logits, one.logits)).toBeLessThanOrEqual(0.02)
    })

    test.each(archCases.map((one) => [one.file, one] as const))('arch/%s', (file, one) => {
      const answers = answer.arch.filter((other) => other.file === file)
      expect(answers.length).toBe(2)
      for (const { logitsAtMid, logits } of answers) {
        expect(relativeError(logitsAtMid, one.logitsAtMid)).toBeLessThanOrEqual(1e-4)
        if (logits) expect(relativeError(logits, one.logits)).toBeLessThanOrEqual(1e-4)
      }
    })
  })
