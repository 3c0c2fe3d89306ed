import { homedir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { CriaError, invalidArgument } from './errors'

/** A path as the addon takes it: of `file:` URLs the path, of `~` the home folder. */
export function filePath(call: string, path: unknown): string {
  if (typeof path === 'string' && /^file:\/\//i.test(path) && URL.canParse(path))
    return filePath(call, new URL(path))
  if (path instanceof URL || (typeof path === 'object' && path !== null && 'href' in path)) {
    try {
      return fileURLToPath(String((path as URL).href))
    } catch (error) {
      const message = `${call}: path must be a path or a file: URL, got ${(path as URL).href}`
      throw new CriaError('ERR_INVALID_ARGUMENT', message, { details: { call, name: 'path' }, cause: error })
    }
  }
  if (typeof path !== 'string' || path.length === 0 || path.includes('\0')) {
    throw invalidArgument(call, 'path', 'a non-empty string or a file: URL', path)
  }
  return expandHome(path)
}

/** Replaces a leading `~` by the home folder. */
export function expandHome(path: string): string {
  return path === '~' || path.startsWith('~/') ? join(homedir(), path.slice(1)) : path
}
