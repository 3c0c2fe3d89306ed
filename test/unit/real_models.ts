/** Models for tests against the real addon. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { demoModelPath } from '../../lib/index'
import { writeGguf } from '../fixtures/gguf'
import { type TinyLlamaOptions, tinyLlama } from '../fixtures/tiny_llama'

export const demo = demoModelPath()

/** A folder for the files of a test file, removed at its end. */
export function scratchFolder(): {
  folder: string
  write: (name: string, bytes: Uint8Array | string) => string
} {
  const folder = mkdtempSync(join(tmpdir(), 'cria-'))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  return {
    folder,
    write(name, bytes) {
      const path = join(folder, name)
      writeFileSync(path, bytes)
      return path
    },
  }
}

export function tinyModel(options: TinyLlamaOptions = {}): Uint8Array {
  return writeGguf(tinyLlama(options))
}

/** Rejects if a promise takes too long. */
export async function soon<T>(promise: PromiseLike<T>, ms = 10_000): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  try {
    return await Promise.race([
      promise,
      new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new Error(`nothing came for ${ms} ms`)), ms)
      }),
    ])
  } finally {
    clearTimeout(timer)
  }
}
