/**
 * The cache folder of huggingface_hub for Python:
 *
 *     models--owner--repo/
 *       refs/main                       the commit of a branch or tag
 *       snapshots/<commit>/<file>       a link to the blob
 *       blobs/<hash>                    the content
 *       blobs/<hash>.incomplete         a download that is not complete
 *     .locks/models--owner--repo/       locks
 *
 * https://huggingface.co/docs/huggingface_hub/guides/manage-cache
 */

import type { Dirent } from 'node:fs'
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileSize, isMissing, readText, writeAtomically } from './files'
import { isCommit } from './spec'

// https://bford.info/cachedir/
const CACHE_TAG = `Signature: 8a477f597d28d172789f06886806bc55
# This file is a cache directory tag created by cria.
# For information about cache directory tags, see https://bford.info/cachedir/
`

/** Deeper folders of a snapshot are not looked at. */
const MAX_DEPTH = 8

/** Where the cache keeps a repository. */
export class RepositoryCache {
  readonly folder: string
  readonly locks: string

  constructor(
    readonly cacheDir: string,
    readonly repo: string,
  ) {
    const name = `models--${repo.replace('/', '--')}`
    this.folder = join(cacheDir, name)
    this.locks = join(cacheDir, '.locks', name)
  }

  blob(hash: string): string {
    return join(this.folder, 'blobs', hash)
  }

  partial(hash: string): string {
    return join(this.folder, 'blobs', `${hash}.incomplete`)
  }

  /** Not Python's `<hash>.lock`: that file stays behind, and its lock is the system's flock. */
  lock(hash: string): string {
    return join(this.locks, `${hash}.cria-lock`)
  }

  snapshot(commit: string): string {
    return join(this.folder, 'snapshots', commit)
  }

  /** The path of a file that `isSafeName` has accepted. */
  file(commit: string, name: string): string {
    return join(this.snapshot(commit), ...name.split('/'))
  }

  /** The commit of a revision, as far as the cache knows. */
  async commitOf(revision: string): Promise<string | undefined> {
    if (isCommit(revision)) return revision
    const text = (await readText(this.#ref(revision)))?.trim()
    return isCommit(text) ? text : undefined
  }

  async remember(revision: string, commit: string): Promise<void> {
    if (revision === commit || (await this.commitOf(revision)) === commit) return
    try {
      await writeAtomically(this.#ref(revision), commit)
    } catch (error) {
      // A cache that others have filled may be read-only.
      if (!['EROFS', 'EACCES', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
    }
  }

  #ref(revision: string): string {
    return join(this.folder, 'refs', ...revision.split('/'))
  }

  /** Revisions by commit. */
  async refs(): Promise<Map<string, string[]>> {
    const found = new Map<string, string[]>()
    for (const revision of await filesBelow(join(this.folder, 'refs'))) {
      const commit = await this.commitOf(revision)
      if (commit) found.set(commit, [...(found.get(commit) ?? []), revision].sort())
    }
    return found
  }

  async commits(): Promise<string[]> {
    return (await entries(join(this.folder, 'snapshots')))
      .filter((entry) => entry.isDirectory() && isCommit(entry.name))
      .map(({ name }) => name)
      .sort()
  }

  /** Names of the complete files of a snapshot, relative to it, with `/`. */
  async files(commit: string): Promise<string[]> {
    const names = await filesBelow(this.snapshot(commit))
    const sizes = await Promise.all(names.map((name) => fileSize(this.file(commit, name))))
    return names.filter((_, i) => sizes[i] !== undefined)
  }
}

/** Tells backup programs that the folder can be made again. */
export async function tagCache(cacheDir: string): Promise<void> {
  await writeFile(join(cacheDir, 'CACHEDIR.TAG'), CACHE_TAG, { flag: 'wx' }).catch(() => {})
}

export async function entries(folder: string): Promise<Dirent[]> {
  try {
    return await readdir(folder, { withFileTypes: true })
  } catch (error) {
    if (isMissing(error)) return []
    throw error
  }
}

async function filesBelow(folder: string, prefix = '', depth = 0): Promise<string[]> {
  const names: string[] = []
  for (const entry of await entries(folder)) {
    const name = `${prefix}${entry.name}`
    if (!entry.isDirectory()) names.push(name)
    else if (depth < MAX_DEPTH) {
      names.push(...(await filesBelow(join(folder, entry.name), `${name}/`, depth + 1)))
    }
  }
  return names.sort()
}
