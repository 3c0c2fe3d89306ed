import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const root = join(__dirname, '..', '..')
const folder = mkdtempSync(join(tmpdir(), 'cria-binding-'))
afterAll(() => rmSync(folder, { recursive: true }))

/** Runs a script against the built package, in another process. */
function run(script: string, env: NodeJS.ProcessEnv = {}) {
  const { status, stdout, stderr, signal } = spawnSync(process.execPath, ['-e', script], {
    cwd: root,
    encoding: 'utf8',
    env: { ...process.env, ...env },
  })
  return { status, signal, stdout, stderr }
}

const report = `.then(() => {}, (e) => console.log(JSON.stringify({ name: e.name, code: e.code, message: e.message, details: e.details })))`

test('importing the package loads no addon', () => {
  const { status, stdout } = run(`require('cria'); console.log('fine')`, {
    CRIA_BINARY: '/nowhere/cria.node',
  })
  expect({ status, stdout }).toEqual({ status: 0, stdout: 'fine\n' })
})

test('a missing addon: ERR_ADDON_LOAD lists the paths and gives advice', () => {
  const { stdout } = run(`require('cria').loadModel('x')${report}`, { CRIA_BINARY: '/nowhere/cria.node' })
  const error = JSON.parse(stdout)
  expect(error).toMatchObject({ name: 'CriaError', code: 'ERR_ADDON_LOAD' })
  expect(error.details).toMatchObject({
    platform: process.platform,
    arch: process.arch,
    tried: ['/nowhere/cria.node'],
  })
  expect(error.message).toContain(`${process.platform}-${process.arch}`)
  expect(error.message).toContain('CRIA_BINARY must be the path of a cria.node')
  expect(error.message).not.toContain('\n')
})

test('a file that is no addon', () => {
  const file = join(folder, 'text.node')
  writeFileSync(file, 'not an addon')
  expect(
    JSON.parse(run(`require('cria').loadTokenizer('x')${report}`, { CRIA_BINARY: file }).stdout).code,
  ).toBe('ERR_ADDON_LOAD')
})

test('an addon of another version', () => {
  const file = join(folder, 'other.js')
  writeFileSync(file, `exports.version = '0.0.0-other'`)
  const { stdout } = run(`require('cria').inspect('x')${report}`, { CRIA_BINARY: file })
  expect(JSON.parse(stdout).message).toMatch(/must have this package's version \S+, has 0\.0\.0-other/)
})

test('require and import share one instance', () => {
  const { stdout, stderr } = run(
    `import('cria').then((esm) => { const cjs = require('cria');
     console.log(esm.loadModel === cjs.loadModel, esm.CriaError === cjs.CriaError, Object.keys(cjs).every((k) => k in esm)) })`,
  )
  expect({ stdout, stderr }).toEqual({ stdout: 'true true true\n', stderr: '' })
})

test('the exports of the package', () => {
  const { stdout } = run(`console.log(Object.keys(require('cria')).sort().join(' '))`)
  expect(stdout.trim().split(' ')).toEqual([
    'CriaError',
    'computeImatrix',
    'convertModel',
    'cpuInfo',
    'demoModelPath',
    'downloadModel',
    'inspect',
    'listModels',
    'loadModel',
    'loadTokenizer',
    'perplexity',
    'removeModel',
    'version',
  ])
})
