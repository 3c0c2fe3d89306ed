import type { GenerationResult } from './generation'

/**
 * The stable code of an error.
 *
 * | code | meaning |
 * | --- | --- |
 * | `ERR_INVALID_ARGUMENT` | an argument has the wrong type or range, or an option is unknown |
 * | `ERR_FILE_NOT_FOUND` | the path names no file |
 * | `ERR_IO` | the operating system failed to open, read, write or map a file |
 * | `ERR_INVALID_FILE` | the bytes contradict the format |
 * | `ERR_UNSUPPORTED_FILE` | cria does not support the file's version, byte order or tensor type |
 * | `ERR_STATE_MISMATCH` | the KV state file is of another model, KV type or layout, or exceeds the context |
 * | `ERR_UNSUPPORTED_MODEL` | cria does not run the architecture, or this variant of it |
 * | `ERR_INVALID_MODEL` | metadata and tensors contradict each other |
 * | `ERR_UNSUPPORTED_DEVICE` | the requested device is missing, or this build does not support it |
 * | `ERR_DEVICE_LOST` | the device failed for good; `details.restart` `'process'`: only a new process helps |
 * | `ERR_OUT_OF_MEMORY` | the weights or the KV cache do not fit |
 * | `ERR_PROMPT_TOO_LONG` | the prompt does not fit the context |
 * | `ERR_CONTEXT_FULL` | the context is full, with `onContextFull: 'error'` |
 * | `ERR_QUEUE_FULL` | too many requests are waiting |
 * | `ERR_TIMEOUT` | the request took longer than its `timeout` |
 * | `ERR_ABORTED` | stopped by a signal, `cancel()` or leaving a `for await` loop; `name` is `'AbortError'` |
 * | `ERR_DISPOSED` | the model was disposed |
 * | `ERR_ALREADY_ITERATED` | a generation's chunks can be iterated once |
 * | `ERR_DOWNLOAD` | the network or the server failed for good, or sent other bytes than those announced |
 * | `ERR_UNAUTHORIZED` | the server wants a token, or another one, or that a licence is accepted first |
 * | `ERR_OFFLINE` | the model is not in the cache, and downloads are switched off |
 * | `ERR_DISK_FULL` | the disk has no room for the download |
 * | `ERR_CHAT_TEMPLATE` | the chat template is missing or malformed, exceeds its limits, or refuses the messages |
 * | `ERR_ADDON_LOAD` | the native addon could not be loaded on this platform |
 * | `ERR_INTERNAL` | a bug in cria; please report it |
 */
export type CriaErrorCode =
  | 'ERR_INVALID_ARGUMENT'
  | 'ERR_FILE_NOT_FOUND'
  | 'ERR_IO'
  | 'ERR_INVALID_FILE'
  | 'ERR_UNSUPPORTED_FILE'
  | 'ERR_STATE_MISMATCH'
  | 'ERR_UNSUPPORTED_MODEL'
  | 'ERR_INVALID_MODEL'
  | 'ERR_UNSUPPORTED_DEVICE'
  | 'ERR_DEVICE_LOST'
  | 'ERR_OUT_OF_MEMORY'
  | 'ERR_PROMPT_TOO_LONG'
  | 'ERR_CONTEXT_FULL'
  | 'ERR_QUEUE_FULL'
  | 'ERR_TIMEOUT'
  | 'ERR_ABORTED'
  | 'ERR_DISPOSED'
  | 'ERR_ALREADY_ITERATED'
  | 'ERR_DOWNLOAD'
  | 'ERR_UNAUTHORIZED'
  | 'ERR_OFFLINE'
  | 'ERR_DISK_FULL'
  | 'ERR_CHAT_TEMPLATE'
  | 'ERR_ADDON_LOAD'
  | 'ERR_INTERNAL'

/** Facts of an error: what was expected, what was found, and where. */
export type CriaErrorDetails = Readonly<Record<string, unknown>>

/**
 * What a generation produced before it stopped: a {@link GenerationResult} whose `finishReason` is `'abort'`
 * if the caller or `dispose` stopped it, else `'error'`.
 */
export type PartialResult = Omit<GenerationResult, 'finishReason'> & { finishReason: 'abort' | 'error' }

export interface CriaErrorOptions {
  details?: CriaErrorDetails
  cause?: unknown
  partial?: PartialResult
}

/** The only type of error that cria throws or rejects with. */
export class CriaError extends Error {
  /** Stable; see {@link CriaErrorCode}. */
  readonly code: CriaErrorCode
  /** Facts of the error, e.g. `{ option, expected, received }`. May be empty, never undefined. */
  readonly details: CriaErrorDetails
  /** What a generation produced before it was aborted or failed. */
  readonly partial?: PartialResult

  constructor(code: CriaErrorCode, message: string, options: CriaErrorOptions = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined)
    this.code = code
    this.details = Object.freeze({ ...options.details })
    if (options.partial) this.partial = options.partial
  }
}

// On the prototype, as in the built-in errors; aborts get another name (see nameAbort).
Object.defineProperty(CriaError.prototype, 'name', { value: 'CriaError', writable: true, configurable: true })

const CODES: ReadonlySet<string> = new Set<CriaErrorCode>([
  'ERR_INVALID_ARGUMENT',
  'ERR_FILE_NOT_FOUND',
  'ERR_IO',
  'ERR_INVALID_FILE',
  'ERR_UNSUPPORTED_FILE',
  'ERR_STATE_MISMATCH',
  'ERR_UNSUPPORTED_MODEL',
  'ERR_INVALID_MODEL',
  'ERR_UNSUPPORTED_DEVICE',
  'ERR_DEVICE_LOST',
  'ERR_OUT_OF_MEMORY',
  'ERR_PROMPT_TOO_LONG',
  'ERR_CONTEXT_FULL',
  'ERR_QUEUE_FULL',
  'ERR_TIMEOUT',
  'ERR_ABORTED',
  'ERR_DISPOSED',
  'ERR_ALREADY_ITERATED',
  'ERR_DOWNLOAD',
  'ERR_UNAUTHORIZED',
  'ERR_OFFLINE',
  'ERR_DISK_FULL',
  'ERR_CHAT_TEMPLATE',
  'ERR_ADDON_LOAD',
  'ERR_INTERNAL',
])

function isCode(code: unknown): code is CriaErrorCode {
  return typeof code === 'string' && CODES.has(code)
}

function asDetails(details: unknown): CriaErrorDetails {
  return typeof details === 'object' && details !== null ? { ...details } : {}
}

/** The only place that converts errors of the addon to CriaErrors. */
export function fromNative(error: unknown, partial?: PartialResult): CriaError {
  if (error instanceof CriaError && !partial) return error
  const { code, message, details } = (
    typeof error === 'object' && error !== null ? error : { message: String(error) }
  ) as { code?: unknown; message?: unknown; details?: unknown }
  const known = isCode(code) ? code : 'ERR_INTERNAL'
  const created = new CriaError(known, typeof message === 'string' ? message : String(error), {
    details: asDetails(details),
    ...(known === 'ERR_INTERNAL' ? { cause: error } : {}),
    ...(partial ? { partial } : {}),
  })
  if (known === 'ERR_ABORTED') nameAbort(created)
  return created
}

/** The error of an operation that the caller stopped. `reason`, that of the signal, becomes the `cause`. */
export function abortError(what: string, reason: unknown, partial?: PartialResult): CriaError {
  const error = new CriaError('ERR_ABORTED', `${what} was aborted`, {
    cause: reason,
    ...(partial ? { partial } : {}),
  })
  nameAbort(error)
  return error
}

/** Users of AbortSignal test for this name. */
function nameAbort(error: CriaError): void {
  Object.defineProperty(error, 'name', { value: 'AbortError', configurable: true, writable: true })
}

export function disposedError(what: string, partial?: PartialResult): CriaError {
  return new CriaError('ERR_DISPOSED', `${what}: the model was disposed`, partial ? { partial } : {})
}

/** A value for a message: short, on one line, with its type where that helps. */
export function show(value: unknown): string {
  switch (typeof value) {
    case 'string':
      return value.length > 40
        ? `${JSON.stringify(value.slice(0, 40))}… (string)`
        : `${JSON.stringify(value)} (string)`
    case 'number':
    case 'boolean':
    case 'undefined':
      return String(value)
    case 'bigint':
      return `${value}n`
    case 'function':
      return 'a function'
    case 'symbol':
      return 'a symbol'
    default:
      if (value === null) return 'null'
      if (Array.isArray(value)) return `an array of ${value.length}`
      return `an object (${Object.getPrototypeOf(value)?.constructor?.name ?? 'no prototype'})`
  }
}

/** An ERR_INVALID_ARGUMENT that names the argument, the expected value and the one found. */
export function invalidArgument(
  call: string,
  name: string,
  expected: string,
  received: unknown,
  extra: CriaErrorDetails = {},
): CriaError {
  const shown = show(received)
  return new CriaError('ERR_INVALID_ARGUMENT', `${call}: ${name} must be ${expected}, got ${shown}`, {
    details: { call, name, expected, received: shown, ...extra },
  })
}
