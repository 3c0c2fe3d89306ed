/** LoRA adapters against PEFT and llama.cpp, at every ISA level. */

import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { cpuInfo } from '../../lib/index'
import { available, dataPath, describeConformance, readJson, relativeError } from './data'

/** Float32 on both sides; only the order of sums differs. */
const TOLERANCE = 1e-4
/** Greedy tokens are compared up to the first whose two best logits are closer than this. */
const MARGIN = 0.005

interface Golden {
  logits: number[]
  greedyIds: number[]
  greedyMargins: number[]
}

interface Case extends Golden {
  adapter: string | string[]
  atScaleHalf?: Golden
}

interface Result {
  alone: number[]
  together: number[]
  greedyIds: number[]
}

interface Answer {
  device: string
  cases: Array<Partial<Result> & { error?: string; half?: Result }>
}

function answers(env: Record<string, string>): Answer {
  const { status, signal, stdout, stderr } = spawnSync(
    process.execPath,
    [join(__dirname, 'lora_child.js'), dataPath()],
    { encoding: 'utf8', env: { ...process.env, ...env }, maxBuffer: 2 ** 28 },
  )
  expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' })
  return JSON.parse(stdout) as Answer
}

function expectGolden(result: Partial<Result> | undefined, golden: Golden): void {
  const { alone, together, greedyIds } = result as Result
  expect(relativeError(alone, golden.logits)).toBeLessThanOrEqual(TOLERANCE)
  expect(together).toEqual(alone)
  const close = golden.greedyMargins.findIndex((margin) => margin < MARGIN)
  const n = Math.min(greedyIds.length, close < 0 ? Infinity : close)
  expect(greedyIds.slice(0, n)).toEqual(golden.greedyIds.slice(0, n))
}

describeConformance('LoRA adapters', () => {
  const cases = available ? readJson<{ cases: Case[] }>('lora', 'golden.json').cases : []
  const runs: Array<[string, Record<string, string>]> = available
    ? cpuInfo().isaLevels.map((isa) => [isa, { CRIA_CPU_ISA: isa }])
    : []

  test('there are cases with one adapter and with several', () => {
    expect(cases.some(({ adapter }) => typeof adapter === 'string')).toBe(true)
    expect(cases.some(({ adapter }) => Array.isArray(adapter))).toBe(true)
  })

  describe.each(runs)('%s', (_name, env) => {
    let answer: Answer
    beforeAll(() => {
      answer = answers(env)
    }, 300_000)

    test('is what runs', () => {
      expect(answer.device).toBe('cpu')
    })

    test.each(cases.map((one, index) => [String(one.adapter), index] as const))(
      '%s (case %d)',
      (adapter, index) => {
        const result = answer.cases[index]!
        if (adapter === 'dora') {
          expect(result.error).toMatch(/^ERR_UNSUPPORTED_MODEL: .*DoRA/)
          return
        }
        expect(result.error).toBeUndefined()
        expectGolden(result, cases[index]!)
        const { atScaleHalf } = cases[index]!
        if (atScaleHalf) expectGolden(result.half, atScaleHalf)
      },
    )
  })
})
