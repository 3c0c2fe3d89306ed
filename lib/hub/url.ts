/** Files of plain URLs: `urls/<host>-<hash of the address>/<file>`, with what the server said in `<file>.json`. */

import { createHash } from 'node:crypto'
import { rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { CriaError } from '../errors'
import { fileError, fileSize, hashOf, readText, writeAtomically } from './files'
import { discard, type HttpClient, type Reply, TransientError } from './http'
import { acquireLock, type Lock } from './lock'
import type { Progress } from './progress'
import { lostLock, wrongHash } from './repository'
import { splitParts } from './select'
import { isSafeName, type UrlSpec } from './spec'
import { openPartial, transfer } from './transfer'

/** What is known about a file, complete or not. */
export interface UrlFacts {
  url: string
  /** Strong, in quotes. */
  etag?: string
  lastModified?: string
  bytes?: number
  sha256?: string
}

/** Where files of a URL's folder are kept. The parts of a split file share one. */
export function urlFolder(urlDir: string, url: URL): string {
  const folder = `${url.origin}${url.pathname.slice(0, url.pathname.lastIndexOf('/') + 1)}${url.search}`
  const hash = createHash('sha256').update(folder).digest('hex').slice(0, 16)
  return join(urlDir, `${url.hostname.replace(/[^a-z0-9.-]/gi, '_').slice(0, 100)}-${hash}`)
}

/** The last part of a URL's path as a name of a file. */
export function urlFileName(url: URL): string {
  let name = url.pathname.slice(url.pathname.lastIndexOf('/') + 1)
  try {
    name = decodeURIComponent(name)
  } catch {}
  name = name.replace(/[^\w.+@=, -]/g, '_').slice(-200)
  return isSafeName(name) && !name.startsWith('.') ? name : `file_${name.replace(/^\.+/, '')}`
}

/**
 * The path of a URL's file, which is downloaded if it is not in the cache or has changed.
 * @throws ERR_DOWNLOAD, ERR_UNAUTHORIZED, ERR_FILE_NOT_FOUND, ERR_OFFLINE, ERR_DISK_FULL, ERR_IO
 */
export async function urlModel(client: HttpClient, spec: UrlSpec, progress: Progress): Promise<string> {
  const folder = urlFolder(client.settings.urlDir, spec.url)
  const name = urlFileName(spec.url)
  const parts = splitParts(name) ?? [name]
  if (parts.length > 1 && spec.sha256 !== undefined) {
    throw client.failure('a fragment #sha256= can check a whole file, not the parts of a split one')
  }
  for (const part of parts) {
    const url = new URL(spec.url)
    url.pathname = `${url.pathname.slice(0, url.pathname.lastIndexOf('/') + 1)}${encodeURIComponent(part)}`
    const file = new UrlFile(client, parts.length > 1 ? url : spec.url, join(folder, part), part, spec.sha256)
    try {
      await client.retrying(() => file.provide(progress))
    } catch (error) {
      throw fileError(client.call, join(folder, part), error)
    }
  }
  return join(folder, parts[0]!)
}

class UrlFile {
  constructor(
    readonly client: HttpClient,
    readonly url: URL,
    readonly path: string,
    readonly name: string,
    readonly sha256: string | undefined,
  ) {}

  async provide(progress: Progress): Promise<void> {
    const { client, path, name } = this
    const partial = `${path}.incomplete`
    const lock = await acquireLock(`${path}.cria-lock`, client.signal, async () => {
      const facts = await readFacts(`${partial}.json`)
      const loaded = await fileSize(partial)
      if (loaded !== undefined && facts?.bytes !== undefined) progress.update(name, loaded, facts.bytes)
    })
    try {
      const cached = await this.#cached()
      if (cached && (await this.#isCurrent(cached))) {
        return progress.update(name, cached.bytes ?? 0, cached.bytes ?? 0)
      }
      await this.#download(partial, lock, progress)
    } finally {
      await lock.release()
    }
  }

  /** The facts of a complete file; undefined if there is none, or of another hash than the caller's. */
  async #cached(): Promise<UrlFacts | undefined> {
    const [facts, bytes] = [await readFacts(`${this.path}.json`), await fileSize(this.path)]
    if (!facts || bytes === undefined || facts.bytes !== bytes) return undefined
    return this.sha256 === undefined || this.sha256 === facts.sha256 ? facts : undefined
  }

  /** Asks the server. If it cannot be reached, the file in the cache counts as current. */
  async #isCurrent(cached: UrlFacts): Promise<boolean> {
    const { client, url, sha256 } = this
    // The caller's hash leaves no question.
    if (client.settings.offline || sha256 !== undefined) return true
    try {
      // Not HEAD: addresses that are signed for GET refuse it.
      const reply = discard(
        await client.ask('GET', url, {
          headersMs: client.settings.metadataMs,
          headers: {
            ...(cached.etag === undefined ? {} : { 'if-none-match': cached.etag }),
            ...(cached.lastModified === undefined ? {} : { 'if-modified-since': cached.lastModified }),
          },
        }),
      )
      const { headers } = reply
      const etag = headers.get('etag')
      if (reply.status === 304) return true
      if (cached.etag !== undefined && etag !== undefined) return etag === cached.etag
      const modified = headers.get('last-modified')
      if (cached.lastModified !== undefined && modified !== undefined && modified !== cached.lastModified)
        return false
      return (headers.bytes('content-length') ?? cached.bytes) === cached.bytes
    } catch (error) {
      if (error instanceof TransientError) return true
      throw error
    }
  }

  async #download(partial: string, lock: Lock, progress: Progress): Promise<void> {
    const { client, url, path, name, sha256 } = this
    if (client.settings.offline) throw this.#offline()
    const notes = `${partial}.json`
    const known = await readFacts(notes)
    let facts: UrlFacts = known ?? { url: url.href }
    const onStart = async (reply: Reply, validator: string | undefined) => {
      facts = factsOf(url, reply, validator)
      await writeAtomically(notes, JSON.stringify(facts))
    }
    const onBytes = (loaded: number, total = loaded) => progress.update(name, loaded, total)
    const handle = await openPartial(partial)
    try {
      for (let attempt = 0; ; attempt++) {
        await transfer(
          {
            client,
            url,
            name,
            partial,
            bytes: attempt === 0 && facts.etag !== undefined ? facts.bytes : undefined,
            validator: attempt === 0 ? facts.etag : undefined,
            pinned: false,
            onStart,
            onBytes,
          },
          handle,
        )
        const found = await hashOf(handle, 'sha256', client.signal)
        facts = { ...facts, bytes: (await handle.stat()).size, sha256: found }
        if (sha256 === undefined || found === sha256) break
        await handle.truncate(0)
        if (attempt > 0) throw wrongHash(client, url, name, sha256, found)
      }
      if (!(await lock.isHeld())) throw lostLock(name)
      // A crash between the two leaves a file without facts, which counts as missing.
      await rm(`${path}.json`, { force: true })
      await rename(partial, path)
      await writeAtomically(`${path}.json`, JSON.stringify(facts))
      await rm(notes, { force: true })
    } finally {
      await handle.close()
    }
  }

  #offline(): CriaError {
    const message = `${this.client.call}: ${this.url.href} is not in the cache, and downloads are off (HF_HUB_OFFLINE, or the option offline)`
    return new CriaError('ERR_OFFLINE', message, { details: { model: this.url.href } })
  }
}

function factsOf(url: URL, { headers, status }: Reply, etag: string | undefined): UrlFacts {
  const lastModified = headers.get('last-modified')
  const bytes =
    status === 206
      ? Number(/\/(\d+)$/.exec(headers.get('content-range') ?? '')?.[1] ?? Number.NaN)
      : headers.bytes('content-length')
  return {
    url: url.href,
    ...(etag === undefined ? {} : { etag }),
    ...(lastModified === undefined ? {} : { lastModified }),
    ...(bytes === undefined || Number.isNaN(bytes) ? {} : { bytes }),
  }
}

/** The facts beside a file; undefined if there are none, or no sensible ones. */
export async function readFacts(path: string): Promise<UrlFacts | undefined> {
  try {
    const { url, etag, lastModified, bytes, sha256 } = JSON.parse((await readText(path)) ?? '') as UrlFacts
    const text = (value: unknown): value is string => typeof value === 'string'
    if (!text(url)) return undefined
    return {
      url,
      ...(text(etag) && /^"[\x21\x23-\x7e]*"$/.test(etag) ? { etag } : {}),
      ...(text(lastModified) ? { lastModified } : {}),
      ...(Number.isSafeInteger(bytes) && bytes! >= 0 ? { bytes: bytes! } : {}),
      ...(text(sha256) ? { sha256 } : {}),
    }
  } catch {
    return undefined
  }
}
