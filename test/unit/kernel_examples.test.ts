/** The examples in examples/kernels run and print their results. */

import { spawnSync } from 'node:child_process'
import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { compileExamples } from '../fixtures/compile_example'

const root = join(__dirname, '..', '..')
const folder = join(root, 'examples', 'kernels')
const names = readdirSync(folder).filter((name) => name.endsWith('.mts'))
const compiled = compileExamples(folder, names)
afterAll(() => rmSync(compiled, { recursive: true, force: true }))

const EXPECTED: Record<string, RegExp> = {
  'rms_norm.mts': /largest difference is \d\.\de-[678]\n[\s\S]*the kernel \d+ µs[\s\S]*GB\/s/,
  'attention.mts': /(difference is \d\.\de-[678]\n[\s\S]*){2}changes 0 of 512 values/,
  'llama.mts': /Once upon a time.{40}[\s\S]*40 tokens, the same as generate's/,
}

test('every example is listed', () => {
  expect(Object.keys(EXPECTED).sort()).toEqual(names.sort())
})

test.each(Object.entries(EXPECTED))('%s', (name, expected) => {
  const { status, signal, stdout, stderr } = spawnSync(
    process.execPath,
    [join(compiled, name.replace('.mts', '.mjs'))],
    { cwd: root, encoding: 'utf8', timeout: 60_000 },
  )
  expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' })
  expect(stdout).toMatch(expected)
})
