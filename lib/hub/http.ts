/** Requests to the hub and to other servers: redirects, tokens, proxies, time limits, retries. */

import { setTimeout as sleep } from 'node:timers/promises'
import type { Dispatcher } from 'undici'
import { version } from '../binding'
import { CriaError } from '../errors'
import type { Settings } from './settings'

/** A failure that may pass: of the network, or of a server that asks for patience. */
export class TransientError extends Error {
  constructor(
    message: string,
    readonly details: { status?: number; retryAfterMs?: number } = {},
    options?: ErrorOptions,
  ) {
    super(message, options)
  }
}

/** How failures are repeated. Progress in between starts the count anew. */
export const retries = { attempts: 5, firstDelayMs: 500, maxDelayMs: 10_000, progressDelayMs: 100 }

/** A server that asks for more patience than this is given up. */
const MAX_RETRY_AFTER_MS = 5 * 60_000
const MAX_REDIRECTS = 10
const CONNECT_MS = 15_000
/** Answers of the hub's API; lists of the largest repositories are below it. */
const MAX_JSON_BYTES = 32 * 2 ** 20

export interface Reply {
  readonly status: number
  readonly headers: Headers
  readonly body: Dispatcher.ResponseData['body']
  /** The address that answered, after redirects. */
  readonly url: URL
  /** What the hub says about a file, also when it then redirects to a storage server. */
  readonly linked: { commit?: string; etag?: string; size?: number }
}

export interface Ask {
  headers?: Record<string, string>
  headersMs?: number
  /** Do not follow the redirect that carries the hub's facts about a file. */
  stopAtLinked?: boolean
}

/** A response's headers, by name in lower case. Of repeated headers, the first counts. */
export class Headers {
  constructor(private readonly values: Record<string, string | string[] | undefined>) {}

  get(name: string): string | undefined {
    const value = this.values[name]
    return Array.isArray(value) ? value[0] : value
  }

  /** A count of bytes; undefined if it is missing or is none. */
  bytes(name: string): number | undefined {
    const text = this.get(name)
    return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined
  }
}

/** An address without its query, which may hold a signature. */
export function shownUrl(url: URL): string {
  return `${url.origin}${url.pathname}`
}

/** One client per download: it reads the proxy variables anew, and its connections end with it. */
export class HttpClient {
  readonly #agent: Dispatcher
  readonly #send: typeof import('undici').request

  private constructor(
    readonly call: string,
    readonly settings: Settings,
    readonly signal: AbortSignal,
    undici: typeof import('undici'),
  ) {
    // HTTPS_PROXY, HTTP_PROXY and NO_PROXY.
    this.#agent = new undici.EnvHttpProxyAgent({ connect: { timeout: CONNECT_MS } })
    this.#send = undici.request
  }

  static async create(call: string, settings: Settings, signal: AbortSignal): Promise<HttpClient> {
    try {
      return new HttpClient(call, settings, signal, await import('undici'))
    } catch (error) {
      const message = `${call}: the proxy in HTTPS_PROXY or HTTP_PROXY is not usable: ${(error as Error).message}`
      throw new CriaError('ERR_DOWNLOAD', message, { cause: error })
    }
  }

  close(): void {
    this.#agent.destroy().catch(() => {})
  }

  /**
   * Sends a request and follows redirects. The token goes to the endpoint alone.
   * @throws TransientError; ERR_DOWNLOAD, ERR_UNAUTHORIZED, ERR_FILE_NOT_FOUND
   */
  async ask(method: 'GET' | 'HEAD', start: URL, options: Ask = {}): Promise<Reply> {
    let url = start
    const linked: { commit?: string; etag?: string; size?: number } = {}
    for (let hops = 0; hops <= MAX_REDIRECTS; hops++) {
      const reply = await this.#once(method, url, options, linked, url !== start)
      const location = reply.headers.get('location')
      if (![301, 302, 303, 307, 308].includes(reply.status) || location === undefined) return reply
      if (options.stopAtLinked && linked.etag !== undefined) return discard(reply)
      discard(reply)
      url = this.#target(url, location)
    }
    throw this.failure(`${shownUrl(start)} redirects more than ${MAX_REDIRECTS} times`)
  }

  #target(from: URL, location: string): URL {
    if (!URL.canParse(location, from.href)) throw this.failure(`${shownUrl(from)} redirects to no address`)
    const target = new URL(location, from.href)
    const secure = target.protocol === 'https:' || (target.protocol === 'http:' && from.protocol === 'http:')
    if (!secure) throw this.failure(`${shownUrl(from)} redirects to ${target.protocol}, which is not safe`)
    return target
  }

  async #once(
    method: 'GET' | 'HEAD',
    url: URL,
    options: Ask,
    linked: Reply['linked'],
    redirected: boolean,
  ): Promise<Reply> {
    const { settings, signal } = this
    const headers: Record<string, string> = {
      'user-agent': `cria/${version}; node/${process.versions.node}`,
      // A compressed body has another length than the file.
      'accept-encoding': 'identity',
      ...options.headers,
    }
    const own = url.origin === new URL(settings.endpoint).origin
    if (own && settings.token) headers.authorization = `Bearer ${settings.token}`
    let answer: Dispatcher.ResponseData
    try {
      answer = await this.#send(url.href, {
        method,
        headers,
        dispatcher: this.#agent,
        headersTimeout: options.headersMs ?? settings.stallMs,
        bodyTimeout: settings.stallMs,
        signal,
      })
    } catch (error) {
      if (signal.aborted) throw error
      throw new TransientError(`${shownUrl(url)}: ${networkProblem(error)}`, {}, { cause: error })
    }
    // Until somebody reads it, a failure of the body is nobody's exception.
    answer.body.on('error', () => {})
    const reply = {
      status: answer.statusCode,
      headers: new Headers(answer.headers),
      body: answer.body,
      url,
      linked,
    }
    noteLinked(reply, own)
    if (reply.status >= 400 && reply.status !== 416) throw this.#refusal(discard(reply), own, redirected)
    return reply
  }

  /** What a status of 400 and more means. */
  #refusal({ status, url, headers }: Reply, own: boolean, redirected: boolean): Error {
    const shown = shownUrl(url)
    const details = { url: shown, status }
    const reason = headers.get('x-error-message')
    const code = headers.get('x-error-code')
    const said = reason ? ` (${reason.slice(0, 200)})` : ''
    if (status === 429 || status === 408 || status >= 500) {
      const retryAfterMs = retryAfter(headers.get('retry-after'))
      const message = `${shown} answered ${status}${said}`
      if (retryAfterMs === undefined) return new TransientError(message, { status })
      if (retryAfterMs <= MAX_RETRY_AFTER_MS) return new TransientError(message, { status, retryAfterMs })
      const seconds = Math.ceil(retryAfterMs / 1000)
      return this.failure(`${message} and asks to wait ${seconds} s; try again later`, {
        ...details,
        retryAfterSeconds: seconds,
      })
    }
    // Links to storage servers expire; the next attempt gets a new one.
    if (!own && redirected && status === 403) return new TransientError(`${shown} answered 403`, { status })
    if (status === 401 || status === 403) {
      const advice = own
        ? accessAdvice(code, this.settings.token !== undefined)
        : 'the server wants credentials'
      const message = `${this.call}: ${shown} answered ${status}${said}; ${advice}`
      return new CriaError('ERR_UNAUTHORIZED', message, {
        details: { ...details, ...(code ? { reason: code } : {}) },
      })
    }
    if (status === 404 || status === 410) {
      const missing: Record<string, string> = {
        EntryNotFound: 'the repository has no such file',
        RevisionNotFound: 'the repository has no such revision',
        RepoNotFound: 'there is no such repository, or it is private and needs a token (HF_TOKEN)',
      }
      const message = `${this.call}: ${shown} was not found${code && missing[code] ? `: ${missing[code]}` : said}`
      return new CriaError('ERR_FILE_NOT_FOUND', message, { details })
    }
    return this.failure(`${shown} answered ${status}${said}`, details)
  }

  /** Reads a JSON object. */
  async json(url: URL): Promise<Record<string, unknown>> {
    const reply = await this.ask('GET', url, { headersMs: this.settings.metadataMs })
    const parts: Buffer[] = []
    let bytes = 0
    try {
      for await (const part of reply.body) {
        bytes += (part as Buffer).length
        if (bytes > MAX_JSON_BYTES)
          throw this.failure(`${shownUrl(url)} answered more than ${MAX_JSON_BYTES} bytes`)
        parts.push(part as Buffer)
      }
    } catch (error) {
      if (this.signal.aborted || error instanceof CriaError) throw error
      throw new TransientError(`${shownUrl(url)}: ${networkProblem(error)}`, {}, { cause: error })
    }
    try {
      const value = JSON.parse(Buffer.concat(parts).toString('utf8'))
      if (typeof value === 'object' && value !== null) return value
    } catch {}
    throw this.failure(`${shownUrl(url)} answered ${kindOf(reply)} instead of JSON`)
  }

  failure(message: string, details: Record<string, unknown> = {}): CriaError {
    return new CriaError('ERR_DOWNLOAD', `${this.call}: ${message}`, { details })
  }

  /**
   * Repeats `attempt` as long as it fails with a TransientError, up to `retries.attempts` times in a row
   * without progress.
   */
  async retrying<T>(attempt: () => Promise<T>, progress: () => number = () => 0): Promise<T> {
    for (let failures = 0; ; ) {
      const before = progress()
      try {
        return await attempt()
      } catch (error) {
        if (!(error instanceof TransientError)) throw error
        const progressed = progress() > before
        failures = progressed ? 0 : failures + 1
        if (failures >= retries.attempts) throw this.givenUp(error, failures)
        await this.#pause(error, progressed ? -1 : failures)
      }
    }
  }

  givenUp(error: TransientError, attempts: number): CriaError {
    const { status } = error.details
    const message = `${this.call}: ${error.message}; gave up after ${attempts} attempts`
    return new CriaError('ERR_DOWNLOAD', message, {
      details: { attempts, ...(status === undefined ? {} : { status }) },
      cause: error,
    })
  }

  async #pause(error: TransientError, failures: number): Promise<void> {
    const { firstDelayMs, maxDelayMs, progressDelayMs } = retries
    const backoff = failures < 0 ? progressDelayMs : Math.min(maxDelayMs, firstDelayMs * 2 ** (failures - 1))
    // Spread, so that processes that failed together do not return together.
    const delay = error.details.retryAfterMs ?? backoff * (0.75 + 0.5 * Math.random())
    await sleep(delay, undefined, { signal: this.signal })
  }
}

/** Only the endpoint's word counts, not that of a server which it redirects to. */
function noteLinked({ headers, linked }: Reply, own: boolean): void {
  if (!own) return
  const commit = headers.get('x-repo-commit')
  const etag = headers.get('x-linked-etag')
  const size = headers.bytes('x-linked-size')
  if (commit !== undefined) linked.commit ??= commit
  if (etag !== undefined) linked.etag ??= etag
  if (size !== undefined) linked.size ??= size
}

/** Drops the body: a short one is read, so that its connection can be used again. */
export function discard(reply: Reply): Reply {
  reply.body.dump({ limit: 2 ** 14 }).catch(() => {})
  return reply
}

/** `an HTML page`, `text/plain`. */
export function kindOf({ headers }: Reply): string {
  const type = headers.get('content-type')?.split(';')[0]?.trim()
  if (type === 'text/html') return 'an HTML page (of a login or a firewall?)'
  return type ? `data of type ${type}` : 'data without a type'
}

function accessAdvice(code: string | undefined, hasToken: boolean): string {
  if (code === 'GatedRepo') {
    const login = hasToken
      ? 'with the account of this token'
      : 'and pass a token (HF_TOKEN, or the option token)'
    return `the model is gated: accept its licence on its page of the hub ${login}`
  }
  if (!hasToken) {
    return 'if the repository exists, it needs a token: set HF_TOKEN, or pass the option token'
  }
  return 'the token is invalid, or has no access to this repository; check it on the hub'
}

/** Milliseconds of a Retry-After header: seconds, or a date (RFC 9110, 10.2.3). */
function retryAfter(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  if (/^\d{1,9}$/.test(text.trim())) return 1000 * Number(text)
  const date = Date.parse(text)
  return Number.isNaN(date) ? undefined : Math.max(0, date - Date.now())
}

/** A failure of the network in a few words. */
export function networkProblem(error: unknown): string {
  const { code, message, cause } = error as { code?: string; message?: string; cause?: { code?: string } }
  const known: Record<string, string> = {
    UND_ERR_CONNECT_TIMEOUT: 'no connection in time',
    UND_ERR_HEADERS_TIMEOUT: 'no answer in time',
    UND_ERR_BODY_TIMEOUT: 'the connection stalled',
    UND_ERR_SOCKET: 'the connection was cut',
    ECONNREFUSED: 'the connection was refused',
    ECONNRESET: 'the connection was cut',
    ENOTFOUND: 'the host is unknown',
    EAI_AGAIN: 'the host name could not be resolved',
  }
  const name = code ?? cause?.code ?? ''
  return known[name] ?? (message || name || 'the network failed')
}
