/** What the tests of downloads share. */

import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { retries } from '../../lib/hub/http'
import { CriaError, type DownloadModelOptions, downloadModel } from '../../lib/index'
import { FakeHub } from '../fixtures/fake_hub'

/** A hub and an empty cache for each test of a file. */
export function hubForTests() {
  const context = { hub: undefined as unknown as FakeHub, cacheDir: '', download }
  const { env } = process
  const before = { ...env }
  const { firstDelayMs, progressDelayMs } = retries

  function download(name: string, options: DownloadModelOptions = {}) {
    return downloadModel(name, { cacheDir: context.cacheDir, endpoint: context.hub.endpoint, ...options })
  }

  beforeAll(async () => {
    context.hub = await FakeHub.start()
    for (const name of Object.keys(env))
      if (/^(HF_|HUGGING|TRANSFORMERS_|https?_proxy|no_proxy)/i.test(name)) delete env[name]
    Object.assign(retries, { firstDelayMs: 5, progressDelayMs: 2 })
  })
  beforeEach(() => {
    context.hub.reset()
    context.cacheDir = mkdtempSync(join(tmpdir(), 'cria-hub-'))
    env.HF_HOME = context.cacheDir
  })
  afterEach(() => {
    rmSync(context.cacheDir, { recursive: true, force: true })
    for (const name of Object.keys(env)) if (!(name in before)) delete env[name]
    Object.assign(env, before)
  })
  afterAll(() => {
    context.hub.stop()
    Object.assign(retries, { firstDelayMs, progressDelayMs })
  })
  return context
}

/** Waits until a file has this many bytes. */
export async function untilSize(path: string, bytes: number): Promise<void> {
  while (!existsSync(path) || statSync(path).size < bytes) await sleep(10)
}

/** The error of a promise that must fail. */
export async function failure(promise: Promise<unknown>): Promise<CriaError> {
  try {
    await promise
  } catch (error) {
    if (error instanceof CriaError) return error
    throw error
  }
  throw new Error('it did not fail')
}
