/** The only loader of the addon. It is loaded at the first call that needs it, not at import. */

import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

import nodeGypBuild = require('node-gyp-build')

import { CriaError } from './errors'
import type { NativeAddon } from './native'

const root = join(__dirname, '..')

/** This package's version, from package.json. */
export const version: string = (
  JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
).version

let loaded: NativeAddon | undefined

/** The addon, loaded once per thread. Throws ERR_ADDON_LOAD. */
export function addon(): NativeAddon {
  loaded ??= load()
  return loaded
}

/** Tests put a fake in the addon's place; `undefined` brings the real one back. */
export function replaceAddon(fake: NativeAddon | undefined): void {
  loaded = fake
}

function load(): NativeAddon {
  // CRIA_BINARY: a path to a cria.node of one's own (a debug or sanitizer build, an unpacked Electron archive).
  const override = process.env.CRIA_BINARY
  const tried: string[] = []
  let native: NativeAddon
  try {
    const file = override ? resolve(override) : nodeGypBuild.resolve(root)
    tried.push(file)
    native = require(file) as NativeAddon
  } catch (error) {
    if (tried.length === 0)
      tried.push(
        join(root, 'build', 'Release'),
        join(root, 'prebuilds', `${process.platform}-${process.arch}`),
      )
    throw loadError(`could not be loaded (${firstLine(error)})`, tried, override, error)
  }
  if (native.version !== version) {
    throw loadError(`is of version ${native.version}, this package of ${version}`, tried, override)
  }
  return native
}

function loadError(
  problem: string,
  tried: string[],
  override: string | undefined,
  cause?: unknown,
): CriaError {
  const advice = override
    ? 'CRIA_BINARY must name a cria.node built for this platform and version'
    : 'install cria again for this platform, or in a checkout run: npm run build:native'
  return new CriaError(
    'ERR_ADDON_LOAD',
    `the native addon for ${process.platform}-${process.arch} ${problem}; tried ${tried.join(', ')}; ${advice}`,
    {
      details: { platform: process.platform, arch: process.arch, node: process.version, tried },
      ...(cause === undefined ? {} : { cause }),
    },
  )
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n', 1)[0]!
}
