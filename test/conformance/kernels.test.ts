/** The forward pass of examples/kernels/llama.mts against Meta's own code, at every ISA level. */

import { spawnSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { cpuInfo } from '../../lib/index'
import { compileExamples } from '../fixtures/compile_example'
import { available, dataPath, describeConformance, readJson } from './data'

interface Story {
  promptIds: number[]
  greedyIds: number[]
}

const child = `
  const [, , example, model, stories] = process.argv
  const { loadLlama } = await import(example)
  const found = []
  for (const { promptIds, greedyIds } of JSON.parse(stories)) {
    const next = await loadLlama(model, 'F32')
    const ids = [await next(promptIds)]
    while (ids.length < greedyIds.length) ids.push(await next([ids.at(-1)]))
    found.push(ids)
  }
  process.stdout.write(JSON.stringify(found))`

describeConformance('a Llama from kernels alone', () => {
  const stories = available ? readJson<{ cases: Story[] }>('tinystories-260k', 'golden.json').cases : []
  const levels = available ? cpuInfo().isaLevels : []
  const root = join(__dirname, '..', '..')
  let compiled: string
  beforeAll(() => {
    compiled = compileExamples(join(root, 'examples', 'kernels'), ['llama.mts'])
  })
  afterAll(() => rmSync(compiled, { recursive: true, force: true }))

  test.each([...levels])('%s: every greedy id of 4 stories', (isa) => {
    expect(stories).toHaveLength(4)
    const model = dataPath('tinystories-260k', 'gguf', 'tinystories-260k-f32.gguf')
    const wanted = JSON.stringify(stories.map(({ promptIds, greedyIds }) => ({ promptIds, greedyIds })))
    const { status, stderr, stdout } = spawnSync(
      process.execPath,
      ['--input-type=module', '-e', child, 'child', join(compiled, 'llama.mjs'), model, wanted],
      { cwd: root, encoding: 'utf8', env: { ...process.env, CRIA_CPU_ISA: isa }, maxBuffer: 2 ** 26 },
    )
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(JSON.parse(stdout)).toEqual(stories.map(({ greedyIds }) => greedyIds))
  })
})
