import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Reference data that nobody computed with this project's code; beside the checkout, not in it. */
const folder = join(__dirname, '..', '..', '..', 'shared', 'data')

export const available = existsSync(join(folder, 'README.md'))

/** `describe`, or, where the data is not, a suite that is reported as skipped. */
export function describeConformance(name: string, suite: () => void): void {
  if (available) describe(name, suite)
  else describe.skip(`${name} (no ../shared/data)`, () => test('skipped', () => {}))
}

export const dataPath = (...parts: string[]): string => join(folder, ...parts)

export function readJson<T>(...parts: string[]): T {
  return JSON.parse(readFileSync(dataPath(...parts), 'utf8')) as T
}

/** Quantized models with the logits that llama.cpp gives after their ids. */
export function quantizedCases(): Array<{ file: string; ids: number[]; logits: number[] }> {
  if (!available) return []
  return ['golden.json', 'golden-more.json'].flatMap(
    (name) => readJson<{ cases: ReturnType<typeof quantizedCases> }>('quantized', name).cases,
  )
}

/** A case of arch/golden.json: from llama.cpp, F32 throughout. */
export interface ArchCase {
  file: string
  /** Absent: the file's. */
  contextLength?: number
  ids: number[]
  /** `logitsAtMid` are those after this many of `ids`. */
  mid: number
  logitsAtMid: number[]
  logits: number[]
  greedyIds: number[]
  /** By how much the logit of each of `greedyIds` exceeds the next best. */
  greedyMargins: number[]
}

export const archCases: ArchCase[] = available
  ? readJson<{ cases: ArchCase[] }>('arch', 'golden.json').cases
  : []

/** Relative error in the 2-norm. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(actual.length).toBe(expected.length)
  let difference = 0
  let norm = 0
  for (let i = 0; i < expected.length; i++) {
    difference += (actual[i]! - expected[i]!) ** 2
    norm += expected[i]! ** 2
  }
  return Math.sqrt(difference / norm)
}
