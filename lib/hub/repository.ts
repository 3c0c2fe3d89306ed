/** A repository at one commit: on the hub, or as far as the cache has it. */

import { rename } from 'node:fs/promises'
import { CriaError } from '../errors'
import { type RepositoryCache, tagCache } from './cache'
import { fileError, fileSize, hashOf, showBlob } from './files'
import { type HttpClient, type Reply, shownUrl, TransientError } from './http'
import { acquireLock, type Lock } from './lock'
import type { Progress } from './progress'
import { type HubSpec, isCommit, isSafeName, specName } from './spec'
import { openPartial, transfer } from './transfer'

/** Questions to the hub at once. */
const MAX_QUESTIONS = 6

/** The files of a repository at one commit. */
export interface Snapshot {
  readonly commit: string
  list(): Promise<string[]>
  /** Puts files into the cache. */
  fetch(names: readonly string[]): Promise<void>
}

/** What the cache has of a snapshot. */
export class CachedSnapshot implements Snapshot {
  constructor(
    readonly call: string,
    readonly spec: HubSpec,
    readonly cache: RepositoryCache,
    readonly commit: string,
  ) {}

  list(): Promise<string[]> {
    return this.cache.files(this.commit)
  }

  async fetch(names: readonly string[]): Promise<void> {
    for (const name of names) {
      if ((await fileSize(this.cache.file(this.commit, name))) === undefined) {
        throw notCached(this.call, this.spec, name)
      }
    }
  }
}

export function notCached(call: string, spec: HubSpec, file?: string): CriaError {
  const message = `${call}: ${file ? `${file} of ` : ''}${specName(spec)} is not in the cache, and downloads are off (HF_HUB_OFFLINE, or the option offline)`
  return new CriaError('ERR_OFFLINE', message, {
    details: { model: specName(spec), ...(file ? { file } : {}) },
  })
}

interface RemoteFile {
  readonly name: string
  /** The name of the blob: SHA-256, or git's SHA-1. */
  readonly hash: string
  readonly bytes: number | undefined
}

/** A snapshot on the hub, whose files come into the cache on demand. */
export class RemoteSnapshot implements Snapshot {
  #names: string[] | undefined

  private constructor(
    readonly client: HttpClient,
    readonly cache: RepositoryCache,
    readonly progress: Progress,
    readonly commit: string,
  ) {}

  /**
   * Asks the hub for the commit of a revision: by the list of files, or, if only one file is wanted, by that
   * file.
   */
  static async open(
    client: HttpClient,
    spec: HubSpec,
    cache: RepositoryCache,
    progress: Progress,
  ): Promise<RemoteSnapshot> {
    if (spec.file !== undefined) {
      const { linked, url } = await askAbout(client, spec.repo, spec.revision, spec.file)
      return new RemoteSnapshot(client, cache, progress, checkCommit(client, linked.commit, url))
    }
    const url = new URL(
      `${client.settings.endpoint}/api/models/${spec.repo}/revision/${encodeURIComponent(spec.revision)}`,
    )
    const { sha, siblings } = await client.json(url)
    const snapshot = new RemoteSnapshot(client, cache, progress, checkCommit(client, sha, url))
    if (!Array.isArray(siblings)) throw client.failure(`${shownUrl(url)} answered no list of files`)
    snapshot.#names = siblings
      .map((file) => (file as { rfilename?: unknown } | null)?.rfilename)
      .filter((name) => typeof name === 'string' && isSafeName(name)) as string[]
    return snapshot
  }

  async list(): Promise<string[]> {
    return this.#names ?? []
  }

  async fetch(names: readonly string[]): Promise<void> {
    const { cache, client, commit, progress } = this
    const sizes = await Promise.all(names.map((name) => fileSize(cache.file(commit, name))))
    for (const [i, name] of names.entries()) {
      if (sizes[i] !== undefined) progress.add(name, sizes[i], sizes[i])
    }
    const missing = names.filter((_, i) => sizes[i] === undefined)
    const files = await inParallel(missing, MAX_QUESTIONS, (name) =>
      client.retrying(() => this.#describe(name)),
    )
    for (const { name, bytes } of files) progress.add(name, bytes ?? 0)
    for (const file of files) {
      try {
        await client.retrying(() => this.#fetchOne(file))
      } catch (error) {
        throw fileError(client.call, cache.file(commit, file.name), error)
      }
    }
  }

  async #describe(name: string): Promise<RemoteFile> {
    const { client, cache, commit } = this
    const reply = await askAbout(client, cache.repo, commit, name)
    const { linked, headers, url } = reply
    const etag = (linked.etag ?? headers.get('etag') ?? '').replace(/^W\//, '').replace(/^"|"$/g, '')
    if (!/^([0-9a-f]{64}|[0-9a-f]{40})$/.test(etag)) {
      throw client.failure(`${shownUrl(url)} names no hash of ${name} (ETag), so it could not be verified`)
    }
    const isFile = linked.etag === undefined && reply.status === 200
    return { name, hash: etag, bytes: linked.size ?? (isFile ? headers.bytes('content-length') : undefined) }
  }

  async #fetchOne(file: RemoteFile): Promise<void> {
    const { cache, client, commit, progress } = this
    const { symlinks, cacheDir } = client.settings
    const path = cache.file(commit, file.name)
    const blob = cache.blob(file.hash)
    const onBytes = (loaded: number, total = loaded) => progress.update(file.name, loaded, total)
    const lock = await acquireLock(cache.lock(file.hash), client.signal, async () => {
      const loaded = await fileSize(cache.partial(file.hash))
      if (loaded !== undefined && file.bytes !== undefined && loaded < file.bytes) onBytes(loaded, file.bytes)
    })
    try {
      const existing = await fileSize(blob)
      const isNew = existing === undefined || (file.bytes !== undefined && existing !== file.bytes)
      // Without links, the process that had the lock before has moved the blob to this path.
      const shown = isNew ? await fileSize(path) : undefined
      if (shown === undefined) {
        if (isNew) await this.#download(file, lock, onBytes)
        await tagCache(cacheDir)
        await showBlob(blob, path, { symlinks, isNew })
      }
      const bytes = (await fileSize(path)) ?? 0
      onBytes(bytes, bytes)
    } finally {
      await lock.release()
    }
  }

  /**
   * Downloads and verifies a blob, and only then gives it its name. Wrong bytes cannot be told from right
   * ones, so a file with a wrong hash is dropped, and fetched once more from its beginning.
   */
  async #download(
    file: RemoteFile,
    lock: Lock,
    onBytes: (loaded: number, total?: number) => void,
  ): Promise<void> {
    const { cache, client, commit } = this
    const partial = cache.partial(file.hash)
    const url = fileUrl(client, cache.repo, commit, file.name)
    const handle = await openPartial(partial)
    try {
      for (let attempt = 0; ; attempt++) {
        await transfer(
          { client, url, name: file.name, partial, bytes: file.bytes, pinned: true, onBytes },
          handle,
        )
        const found = await hashOf(handle, file.hash.length === 64 ? 'sha256' : 'git-sha1', client.signal)
        if (found === file.hash) break
        await handle.truncate(0)
        if (attempt > 0) throw wrongHash(client, url, file.name, file.hash, found)
      }
      if (!(await lock.isHeld())) throw lostLock(file.name)
      await rename(partial, cache.blob(file.hash))
    } finally {
      await handle.close()
    }
  }
}

/** This process was stopped for so long that another one has taken over. */
export function lostLock(name: string): TransientError {
  return new TransientError(`another process has taken over the download of ${name}`)
}

export function wrongHash(
  client: HttpClient,
  url: URL,
  name: string,
  expected: string,
  found: string,
): CriaError {
  return client.failure(
    `${name} arrived with other bytes than announced: hash ${found}, expected ${expected}`,
    {
      url: shownUrl(url),
      expected,
      found,
    },
  )
}

function fileUrl(client: HttpClient, repo: string, revision: string, name: string): URL {
  const path = name.split('/').map(encodeURIComponent).join('/')
  return new URL(`${client.settings.endpoint}/${repo}/resolve/${encodeURIComponent(revision)}/${path}`)
}

/** Asks for a file's commit, hash and size. */
async function askAbout(client: HttpClient, repo: string, revision: string, name: string): Promise<Reply> {
  const url = fileUrl(client, repo, revision, name)
  return client.ask('HEAD', url, { stopAtLinked: true, headersMs: client.settings.metadataMs })
}

function checkCommit(client: HttpClient, commit: unknown, url: URL): string {
  if (isCommit(commit)) return commit
  throw client.failure(`${shownUrl(url)} names no commit; is it a hub (HF_ENDPOINT)?`)
}

/** Runs `work` on all items, `width` at a time. Fails with the first failure. */
async function inParallel<T, R>(
  items: readonly T[],
  width: number,
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = new Array(items.length)
  let next = 0
  const worker = async () => {
    while (next < items.length) {
      const index = next++
      results[index] = await work(items[index]!)
    }
  }
  await Promise.all(Array.from({ length: Math.min(width, items.length) }, worker))
  return results
}
