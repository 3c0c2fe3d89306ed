/** Every example runs and prints something. */

import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'

const root = join(__dirname, '..', '..')
const examples = join(root, 'examples')

// In the checkout, so that 'cria' resolves to this package.
const compiled = mkdtempSync(join(root, 'build', 'examples-'))
afterAll(() => rmSync(compiled, { recursive: true, force: true }))

function run(file: string): string {
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [file], {
    cwd: root,
    encoding: 'utf8',
    timeout: 60_000,
  })
  expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' })
  return stdout
}

test.each(readdirSync(examples).filter((name) => name.endsWith('.mjs')))('%s', (name) => {
  const stdout = run(join(examples, name))
  expect(stdout.length).toBeGreaterThan(60)
  expect(stdout).not.toMatch(/undefined|NaN|\[object/)
})

test.each(readdirSync(examples).filter((name) => name.endsWith('.mts')))('%s, compiled', (name) => {
  const tsc = join(dirname(require.resolve('typescript/package.json')), 'bin', 'tsc')
  const options =
    '--ignoreConfig --target es2022 --module node20 --lib es2022,esnext.disposable --strict --types node'
  const { status, stdout } = spawnSync(
    process.execPath,
    [tsc, ...options.split(' '), '--rootDir', examples, '--outDir', compiled, join(examples, name)],
    { cwd: root, encoding: 'utf8' },
  )
  expect({ status, stdout }).toEqual({ status: 0, stdout: '' })
  expect(run(join(compiled, name.replace('.mts', '.mjs')))).toMatch(/tokens, ended by: (abort|context)/)
})
