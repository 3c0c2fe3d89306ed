/**
 * Fetches one file into a partial file, which later attempts, also of other processes, continue with the
 * bytes that are missing (RFC 9110: Range, If-Range).
 */

import { constants } from 'node:fs'
import { type FileHandle, mkdir, open } from 'node:fs/promises'
import { dirname } from 'node:path'
import { checkSpace, fileError } from './files'
import { type HttpClient, kindOf, networkProblem, type Reply, shownUrl, TransientError } from './http'

/** Bytes that may wait for the disk. */
const MAX_QUEUED = 8 * 2 ** 20

export interface Transfer {
  readonly client: HttpClient
  readonly url: URL
  /** The name for messages. */
  readonly name: string
  /** The partial file. */
  readonly partial: string
  /** The size, if it is known beforehand. */
  readonly bytes?: number | undefined
  /** The strong ETag of the bytes that are there already. */
  validator?: string | undefined
  /** Whether bytes may be continued without a validator: their name in the cache is the content's hash. */
  readonly pinned: boolean
  /** Called with the validator of new content, before its first byte is written. */
  onStart?(reply: Reply, validator: string | undefined): Promise<void>
  /** Called with the bytes on the disk and, once known, the size. */
  onBytes(loaded: number, total: number | undefined): void
}

/** Opens a partial file for reading and writing. It must not be a link to somewhere else. */
export async function openPartial(path: string): Promise<FileHandle> {
  await mkdir(dirname(path), { recursive: true })
  return open(path, constants.O_RDWR | constants.O_CREAT | (constants.O_NOFOLLOW ?? 0), 0o666)
}

/**
 * Fetches the bytes that `file` lacks. It then has the announced size; whether its content is right is the
 * caller's to check.
 * @throws ERR_DOWNLOAD, ERR_DISK_FULL, ERR_IO and those of `HttpClient.ask`
 */
export async function transfer(task: Transfer, file: FileHandle): Promise<void> {
  const { client } = task
  const state = new State(task, file, (await file.stat()).size)
  if (state.size > 0 && !task.pinned && task.validator === undefined) await state.restart()
  if (task.bytes !== undefined && state.size > task.bytes) await state.restart()
  if (task.bytes !== undefined) {
    await checkSpace(client.call, dirname(task.partial), task.bytes - state.size)
    if (state.size === task.bytes) return task.onBytes(state.size, task.bytes)
  }
  task.onBytes(state.size, task.bytes)
  await client.retrying(
    () => attempt(state),
    () => state.progress,
  )
  await file.datasync().catch((error) => {
    throw fileError(client.call, task.partial, error)
  })
}

/** The partial file and what is known about its content. */
class State {
  /** The largest size so far. A server that makes the file start anew does not raise it. */
  progress = 0
  total: number | undefined

  constructor(
    readonly task: Transfer,
    readonly file: FileHandle,
    /** Bytes in the file. */
    public size: number,
  ) {
    this.total = task.bytes
    this.progress = size
  }

  /** Drops what was there: it is of another content. */
  async restart(): Promise<void> {
    await this.file.truncate(0)
    this.size = 0
    this.task.validator = undefined
  }

  async write(chunks: readonly Buffer[]): Promise<void> {
    const { task, file } = this
    try {
      for (let rest = chunks; rest.length > 0; ) {
        const { bytesWritten } = await file.writev(rest, this.size)
        this.size += bytesWritten
        rest = after(rest, bytesWritten)
      }
    } catch (error) {
      throw fileError(task.client.call, task.partial, error)
    }
    this.progress = Math.max(this.progress, this.size)
    task.onBytes(this.size, this.total)
  }
}

/** What remains of chunks after some bytes of them: a full disk takes a part. */
function after(chunks: readonly Buffer[], bytes: number): readonly Buffer[] {
  let left = bytes
  for (const [i, chunk] of chunks.entries()) {
    if (left < chunk.length) return [chunk.subarray(left), ...chunks.slice(i + 1)]
    left -= chunk.length
  }
  return []
}

async function attempt(state: State): Promise<void> {
  const { task } = state
  const { client, url } = task
  const headers: Record<string, string> = {}
  if (state.size > 0) {
    headers.range = `bytes=${state.size}-`
    if (task.validator !== undefined) headers['if-range'] = task.validator
  }
  const reply = await client.ask('GET', url, { headers })
  try {
    await begin(state, reply)
    await receive(reply, state)
  } finally {
    reply.body.destroy()
  }
  const { size, total } = state
  if (total !== undefined && size < total) {
    throw new TransientError(`${shownUrl(url)}: the body ended after ${size} of ${total} bytes`)
  }
}

/** Checks that a reply continues the file, or starts it anew. */
async function begin(state: State, reply: Reply): Promise<void> {
  const { task } = state
  const { client } = task
  const shown = shownUrl(reply.url)
  checkKind(task, reply)
  if (reply.status === 416) {
    // The partial file is longer than the content: it is of something else.
    await state.restart()
    throw new TransientError(`${shown} has no bytes at ${state.size}`, { status: 416 })
  }
  if (reply.status === 200 || (reply.status === 206 && state.size === 0)) await beginAnew(state, reply)
  if (reply.status === 206) checkRange(state, reply)
  else if (reply.status !== 200)
    throw client.failure(`${shown} answered ${reply.status}`, { status: reply.status })
  const length = reply.headers.bytes('content-length')
  const expected = state.total === undefined || length === undefined ? undefined : state.total - state.size
  if (expected !== undefined && length !== expected) {
    throw new TransientError(`${shown} announces ${length} bytes where ${expected} are missing`)
  }
}

async function beginAnew(state: State, reply: Reply): Promise<void> {
  const { task } = state
  // The server ignores ranges, or the content has changed.
  if (state.size > 0) await state.restart()
  const etag = reply.headers.get('etag')
  // A weak ETag does not promise equal bytes.
  task.validator = etag !== undefined && /^"[\x21\x23-\x7e]{1,256}"$/.test(etag) ? etag : undefined
  const isKnown = task.pinned && task.bytes !== undefined
  if (!isKnown && reply.status === 200) {
    state.total = reply.headers.bytes('content-length')
    if (state.total !== undefined) await checkSpace(task.client.call, dirname(task.partial), state.total)
  }
  await task.onStart?.(reply, task.validator)
}

function checkRange(state: State, reply: Reply): void {
  const text = reply.headers.get('content-range') ?? ''
  const [, start, end, total] = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15}|\*)$/.exec(text) ?? []
  const size = total === '*' || total === undefined ? undefined : Number(total)
  state.total ??= size
  const fits =
    Number(start) === state.size &&
    Number(end) >= state.size &&
    (size === undefined || (size === state.total && Number(end) < size))
  if (fits) return
  const wanted = `bytes from ${state.size} of ${state.total ?? 'unknown'}`
  throw new TransientError(
    `${shownUrl(reply.url)} sent the range '${text.slice(0, 60)}' instead of ${wanted}`,
  )
}

/** Refuses pages of logins and firewalls, and compressed bodies. */
function checkKind({ client, name }: Transfer, reply: Reply): void {
  const encoding = reply.headers.get('content-encoding') ?? 'identity'
  if (encoding !== 'identity') {
    throw client.failure(`${shownUrl(reply.url)} sent data compressed by ${encoding.slice(0, 20)}`)
  }
  const type = reply.headers.get('content-type') ?? ''
  if (reply.status !== 416 && /^text\/html\b/i.test(type) && !/\.html?$/i.test(name)) {
    throw client.failure(`${shownUrl(reply.url)} sent ${kindOf(reply)} instead of ${name}`)
  }
}

/** Writes a body to the file. What has arrived before a failure is written, too. */
async function receive(reply: Reply, state: State): Promise<void> {
  const { body } = reply
  let chunks: Buffer[] = []
  let queued = 0
  let ended = false
  let failure: unknown
  let wake = () => {}
  const end = (error?: unknown) => {
    failure ??= error
    ended = true
    wake()
  }
  body.on('data', (chunk: Buffer) => {
    chunks.push(chunk)
    queued += chunk.length
    if (queued > MAX_QUEUED) body.pause()
    wake()
  })
  body.on('end', () => end())
  body.on('error', end)
  const close = () =>
    end(body.errored ?? (body.readableEnded ? undefined : new Error('the connection was cut')))
  body.on('close', close)
  // It may have failed before anybody listened.
  if (body.destroyed) close()
  while (chunks.length > 0 || !ended) {
    if (chunks.length === 0) {
      await new Promise<void>((resolve) => {
        wake = resolve
      })
      continue
    }
    // All that has arrived during the last write: fewer and larger writes on a busy machine.
    const batch = chunks
    checkLength(state, queued, reply)
    chunks = []
    queued = 0
    await state.write(batch)
    if (body.isPaused()) body.resume()
  }
  const { signal } = state.task.client
  if (signal.aborted) throw signal.reason
  if (failure !== undefined) {
    throw new TransientError(`${shownUrl(reply.url)}: ${networkProblem(failure)}`, {}, { cause: failure })
  }
}

function checkLength({ size, total }: State, more: number, reply: Reply): void {
  if (total !== undefined && size + more > total) {
    throw new TransientError(`${shownUrl(reply.url)} sent more than the ${total} bytes that it announced`)
  }
}
