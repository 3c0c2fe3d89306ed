/** The only loader of the addon. Loads it at the first call that needs it, not at import. */

import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

import nodeGypBuild = require('node-gyp-build')

import { CriaError } from './errors'
import type { NativeAddon } from './native'

const root = join(__dirname, '..')

/** The version of this package, from package.json. */
export const version: string = (
  JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
).version

let loaded: NativeAddon | undefined

/** The addon, loaded once per thread. Throws ERR_ADDON_LOAD. */
export function addon(): NativeAddon {
  loaded ??= load()
  return loaded
}

/** For tests: replaces the addon by a fake; `undefined` restores the real one. */
export function replaceAddon(fake: NativeAddon | undefined): void {
  loaded = fake
}

function load(): NativeAddon {
  // The path of another cria.node, such as a debug or sanitizer build.
  const override = process.env.CRIA_BINARY
  const tried: string[] = []
  let native: NativeAddon
  try {
    const file = override ? resolve(override) : nodeGypBuild.resolve(root)
    tried.push(file)
    native = require(file) as NativeAddon
  } catch (error) {
    if (tried.length === 0) {
      const prebuilds = join(root, 'prebuilds', `${process.platform}-${process.arch}`)
      tried.push(join(root, 'build', 'Release'), prebuilds)
    }
    throw loadError(`could not be loaded (${firstLine(error)})`, tried, override, error)
  }
  if (native.version !== version) {
    throw loadError(`must have this package's version ${version}, has ${native.version}`, tried, override)
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
    ? 'CRIA_BINARY must be the path of a cria.node for this platform and version'
    : 'reinstall cria on this platform, or run npm run build:native in a checkout'
  const { platform, arch, version: node } = process
  const message = `the native addon for ${platform}-${arch} ${problem}; tried ${tried.join(', ')}; ${advice}`
  return new CriaError('ERR_ADDON_LOAD', message, {
    details: { platform, arch, node, tried },
    ...(cause === undefined ? {} : { cause }),
  })
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n', 1)[0]!
}
