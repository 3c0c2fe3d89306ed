/**
 * Malformed files: each gives a typed error that names the fault, within a second and 64 MB, and leaks
 * nothing.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CriaError, loadModel } from '../../lib/index'
import { splitFiles, splitGguf, writeGguf } from '../fixtures/gguf'
import { malformed } from '../fixtures/malformed'
import { tolerated } from '../fixtures/malformed/vocabulary'
import { tinyLlama } from '../fixtures/tiny_llama'

const MAX_MS = 1000
const MAX_BYTES = 64 * 2 ** 20

let folder: string

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'cria-malformed-'))
})

afterAll(() => {
  rmSync(folder, { recursive: true, force: true })
})

interface Failure {
  error: unknown
  ms: number
  /** Growth of the process, at its peak and at the end. */
  peakBytes: number
  keptBytes: number
}

async function failureOf(path: string): Promise<Failure> {
  const peakBefore = process.resourceUsage().maxRSS * 1024
  const rssBefore = process.memoryUsage.rss()
  const begin = performance.now()
  let error: unknown
  try {
    const model = await loadModel(path, { threads: 1 })
    await model.dispose()
  } catch (caught) {
    error = caught
  }
  return {
    error,
    ms: performance.now() - begin,
    // An earlier peak may hide this one; then only the growth at the end is known.
    peakBytes: process.resourceUsage().maxRSS * 1024 - Math.max(peakBefore, rssBefore),
    keptBytes: process.memoryUsage.rss() - rssBefore,
  }
}

function expectTypedError({ error, ms, peakBytes, keptBytes }: Failure): CriaError {
  expect(error).toBeInstanceOf(CriaError)
  expect(ms).toBeLessThan(MAX_MS)
  expect(peakBytes).toBeLessThan(MAX_BYTES)
  expect(keptBytes).toBeLessThan(MAX_BYTES)
  const typed = error as CriaError
  // Fit for a log: one line, no control characters, no megabytes of the file.
  expect(typed.message).toMatch(/^[^\p{Cc}]{10,1000}$/u)
  return typed
}

describe('malformed files', () => {
  test('there are at least 60, with unique names', () => {
    expect(malformed.length).toBeGreaterThanOrEqual(60)
    expect(new Set(malformed.map(({ name }) => name)).size).toBe(malformed.length)
  })

  for (const [i, { name, files, sparse, open, code, mentions }] of malformed.entries()) {
    test(name, async () => {
      const own = join(folder, String(i))
      mkdirSync(own)
      for (const [file, bytes] of Object.entries(files)) writeFileSync(join(own, file), bytes)
      for (const [file, size] of Object.entries(sparse ?? {})) truncateSync(join(own, file), size)
      const error = expectTypedError(await failureOf(join(own, open)))
      expect([code].flat()).toContain(error.code)
      if (mentions) expect(error.message).toMatch(mentions)
      rmSync(own, { recursive: true })
    })
  }
})

describe('tolerated vocabularies', () => {
  test.each(tolerated)('$name', async ({ edit, warning }) => {
    const gguf = tinyLlama()
    edit(gguf)
    const path = join(folder, 'tolerated.gguf')
    writeFileSync(path, writeGguf(gguf))
    const model = await loadModel(path, { threads: 1 })
    expect(model.info.warnings.some((line) => warning?.test(line))).toBe(warning !== undefined)
    await model.dispose()
  })
})

describe('paths that name no file', () => {
  test('a missing file', async () => {
    const error = expectTypedError(await failureOf(join(folder, 'missing.gguf')))
    expect(error.code).toBe('ERR_FILE_NOT_FOUND')
    expect(error.message).toContain('missing.gguf')
  })

  test('a directory', async () => {
    const error = expectTypedError(await failureOf(folder))
    expect(error.code).toBe('ERR_FILE_NOT_FOUND')
    expect(error.message).toContain('a folder without config.json')
  })

  test('a pipe without a writer', async () => {
    const pipe = join(folder, 'pipe')
    execFileSync('mkfifo', [pipe])
    const error = expectTypedError(await failureOf(pipe))
    expect(error.code).toBe('ERR_IO')
    expect(error.message).toContain('pipe')
  })
})

describe('after all that', () => {
  test('a good file loads', async () => {
    const path = join(folder, 'good.gguf')
    writeFileSync(path, writeGguf(tinyLlama()))
    const model = await loadModel(path, { threads: 1 })
    expect(model.info.layers).toBe(2)
    expect(model.info.kvHeads).toBe(2)
    await model.dispose()
  })

  test('a good split model loads by any of its parts', async () => {
    const parts = splitFiles(splitGguf(tinyLlama(), 3), 'split')
    for (const [name, bytes] of Object.entries(parts)) writeFileSync(join(folder, name), bytes)
    for (const name of Object.keys(parts)) {
      const model = await loadModel(join(folder, name), { threads: 1 })
      expect(model.info.layers).toBe(2)
      await model.dispose()
    }
  })
})
