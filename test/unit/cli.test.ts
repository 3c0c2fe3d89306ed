/** The command as a process: its output and its exit codes. */

import { spawn, spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { version } from '../../lib/index'
import { setScalar, writeGguf } from '../fixtures/gguf'
import { tinyLlama } from '../fixtures/tiny_llama'
import { demo, scratchFolder } from './real_models'

const main = join(__dirname, '..', '..', 'dist', 'cli', 'main.js')
const { folder, write } = scratchFolder()

function cria(args: string[], input = '', env: NodeJS.ProcessEnv = {}) {
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [main, ...args], {
    encoding: 'utf8',
    input,
    env: { ...process.env, ...env },
    timeout: 60_000,
  })
  return { status, signal, stdout, stderr }
}

const fine = { status: 0, signal: null, stderr: '' }
const short = ['-n', '12', '-t', '0']

test('generate prints the answer and nothing else', () => {
  const { stdout, ...rest } = cria(['generate', 'Once upon a time', ...short])
  expect(rest).toEqual(fine)
  expect(stdout.length).toBeGreaterThan(10)
  expect(stdout.endsWith('\n')).toBe(true)
  expect(stdout).not.toMatch(/Once upon|loading|cria/)
})

test('without a prompt the demo model tells a story; another model needs one', () => {
  expect(cria(['generate', ...short])).toEqual(cria(['generate', 'Once upon a time', ...short]))
  const { status, stderr } = cria(['generate', '-m', demo])
  expect({ status, stderr }).toEqual({
    status: 2,
    stderr: "cria: generate needs a prompt, got none; '-' reads it from standard input\n",
  })
})

test('a prompt from standard input', () => {
  expect(cria(['generate', '-', ...short], 'Once upon a time').stdout).toBe(
    cria(['generate', 'Once upon a time', ...short]).stdout,
  )
})

test('JSON', () => {
  const { stdout, ...rest } = cria([
    'generate',
    'The fox',
    '--json',
    '--seed',
    '18446744073709551615',
    '-n',
    '5',
    '--ignore-eos',
  ])
  expect(rest).toEqual(fine)
  const result = JSON.parse(stdout)
  expect(result).toMatchObject({ prompt: 'The fox', finishReason: 'length', seed: '18446744073709551615' })
  expect(result.tokens).toHaveLength(5)
  expect(result.usage.generatedTokens).toBe(5)
})

test('a stop string, and a seed', () => {
  const run = () => cria(['generate', 'Once upon a time', '-n', '30', '--seed', '3', '--stop', '.']).stdout
  expect(run()).toBe(run())
  expect(run()).not.toContain('.')
})

test('chat answers a message, from the line or from standard input', () => {
  const one = cria(['chat', 'Hello!', '-t', '0', '-n', '60'])
  expect(one).toMatchObject(fine)
  expect(one.stdout.trim().length).toBeGreaterThan(0)
  expect(cria(['chat', '-t', '0', '-n', '60'], 'Hello!').stdout).toBe(one.stdout)
  const { message } = JSON.parse(cria(['chat', 'Hello!', '-t', '0', '-n', '60', '--json']).stdout)
  expect(`${message.content}\n`).toBe(one.stdout)
})

test('chat needs a message', () => {
  expect(cria(['chat'], '\n')).toMatchObject({
    status: 2,
    stdout: '',
    stderr: 'cria: chat needs a message, got an empty one\n',
  })
})

test('chat with another template', () => {
  const template = write('template.jinja', "{{ bos_token }}{{ messages[-1]['content'] }}")
  expect(cria(['chat', 'Once upon a time', '--template', template, ...short])).toMatchObject(fine)
  expect(cria(['chat', 'x', '--template', `${folder}/nothing.jinja`])).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/^cria: ERR_FILE_NOT_FOUND: .*nothing\.jinja.*\n$/),
  })
})

test('inspect, for people and for programs', () => {
  const text = cria(['inspect', demo])
  expect(text).toMatchObject(fine)
  expect(text.stdout).toContain('general.architecture')
  expect(text.stdout).toContain('token_embd.weight')
  const info = JSON.parse(cria(['inspect', demo, '--json']).stdout)
  expect(info).toMatchObject({ format: 'gguf', path: demo })
  expect(cria(['inspect']).stdout.length).toBeGreaterThan(100)
})

test('warnings go to stderr', () => {
  const gguf = tinyLlama()
  setScalar(gguf, 'llama.logit_scale', 'f32', 2)
  const file = write('warnings.gguf', writeGguf(gguf))
  const stderr =
    'cria: warning: "llama.logit_scale" is 2 and is ignored, as llama.cpp ignores it for this architecture\n'
  expect(cria(['inspect', file])).toMatchObject({ ...fine, stderr })
  expect(cria(['generate', 'x', '-m', file, ...short])).toMatchObject({ ...fine, stderr })
  const json = cria(['inspect', file, '--json'])
  expect(json).toMatchObject(fine)
  expect(JSON.parse(json.stdout).warnings.length).toBe(1)
})

test('help and version', () => {
  expect(cria(['--version'])).toEqual({ ...fine, stdout: `${version}\n` })
  for (const args of [[], ['--help'], ['generate', '--help'], ['help', 'chat']]) {
    expect(cria(args)).toMatchObject(fine)
    expect(cria(args).stdout).toContain('cria generate'.slice(0, 5))
  }
})

test.each([
  [['genrate'], 2, "cria: unknown command 'genrate'; did you mean 'generate'?\n"],
  [
    ['generate', 'x', '--temprature', '1'],
    2,
    "cria: unknown option '--temprature'; did you mean '--temperature'?\n",
  ],
  [['generate', 'x', '--temperature', '-5'], 2, expect.stringMatching(/^cria: .*temperature.*\n$/)],
  [
    ['generate', 'x', '--temperature=-5'],
    2,
    expect.stringMatching(/^cria: ERR_INVALID_ARGUMENT: .*temperature.* from 0 to 100.*\n$/),
  ],
  [
    ['generate', 'x', '--kv-dtype', 'q4'],
    2,
    expect.stringMatching(/^cria: ERR_INVALID_ARGUMENT: .*kvDtype.*\n$/),
  ],
  [
    ['generate', 'x', '-m', '/nothing/there.gguf'],
    1,
    expect.stringMatching(/^cria: ERR_FILE_NOT_FOUND: .*there\.gguf.*\n$/),
  ],
  [['generate', 'x', '--device', 'cuda'], 1, expect.stringMatching(/^cria: ERR_UNSUPPORTED_DEVICE: .*\n$/)],
  [['inspect', __filename], 1, expect.stringMatching(/^cria: ERR_[A-Z_]+: .*\n$/)],
])('%j: exit code %d', (args, status, stderr) => {
  expect(cria(args)).toEqual({ status, signal: null, stdout: '', stderr })
})

test('an addon that cannot be loaded is reported in one line', () => {
  const { status, stderr } = cria(['generate', 'x'], '', { CRIA_BINARY: '/nothing.node' })
  expect(status).toBe(1)
  expect(stderr).toMatch(/^cria: ERR_ADDON_LOAD: [^\n]*\n$/)
})

test('a reader that goes away ends the command quietly', async () => {
  const child = spawn(process.execPath, [main, 'generate', 'x', '-n', '450', '--ignore-eos'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stderr = ''
  child.stderr.on('data', (data) => {
    stderr += data
  })
  child.stdout.once('data', () => child.stdout.destroy())
  const [code, signal] = await new Promise<[number | null, string | null]>((resolve) =>
    child.on('close', (...outcome) => resolve(outcome)),
  )
  expect({ code, signal, stderr }).toEqual({ code: 0, signal: null, stderr: '' })
})

test('Ctrl-C ends the command with 130 and keeps the output so far', async () => {
  const child = spawn(process.execPath, [main, 'generate', 'Once upon a time', '-n', 'inf', '--ignore-eos'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (data) => {
    if (stdout === '') child.kill('SIGINT')
    stdout += data
  })
  child.stderr.on('data', (data) => {
    stderr += data
  })
  const [code, signal] = await new Promise<[number | null, string | null]>((resolve) =>
    child.on('close', (...outcome) => resolve(outcome)),
  )
  expect({ code, signal, stderr }).toEqual({ code: 130, signal: null, stderr: '' })
  expect(stdout.length).toBeGreaterThan(0)
})
