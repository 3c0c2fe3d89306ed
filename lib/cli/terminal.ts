import type { LoadProgress } from '../load_options'

/** Shorter operations show no bar. */
const QUIET_MS = 300
const WIDTH = 30

/** A progress bar on stderr, only on a terminal. */
export class ProgressBar {
  readonly #stream: NodeJS.WriteStream
  readonly #label: string
  readonly #start = performance.now()
  #drawn = false

  constructor(label: string, stream: NodeJS.WriteStream = process.stderr) {
    this.#label = label
    this.#stream = stream
  }

  /** `label` replaces that of the constructor. */
  update({ fraction, loadedBytes, totalBytes }: LoadProgress, label = this.#label): void {
    if (!this.#stream.isTTY || performance.now() - this.#start < QUIET_MS) return
    // A line that wraps could not be drawn over.
    const room = Math.max(12, (this.#stream.columns || 80) - WIDTH - 24)
    const shown = label.length > room ? `${label.slice(0, room - 3)}...` : label
    const full = Math.round(fraction * WIDTH)
    const bar = '█'.repeat(full) + '░'.repeat(WIDTH - full)
    const whole = (bytes: number) => (bytes / 1e6).toFixed(0)
    this.#stream.write(`\r${shown} ${bar} ${whole(loadedBytes)}/${whole(totalBytes)} MB\x1b[K`)
    this.#drawn = true
  }

  clear(): void {
    if (this.#drawn) this.#stream.write('\r\x1b[K')
    this.#drawn = false
  }
}

/** A line on stderr that is written over, only on a terminal. */
export class StatusLine {
  readonly #stream: NodeJS.WriteStream
  #drawn = false

  constructor(stream: NodeJS.WriteStream = process.stderr) {
    this.#stream = stream
  }

  update(text: string): void {
    if (!this.#stream.isTTY) return
    this.#stream.write(`\r${text}\x1b[K`)
    this.#drawn = true
  }

  clear(): void {
    if (this.#drawn) this.#stream.write('\r\x1b[K')
    this.#drawn = false
  }
}

export function megabytes(bytes: number): string {
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`
}

/** Prints a remark to stderr, only on a terminal. */
export function remark(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`${dim(text)}\n`)
}

/** Prints what a model or file asks for and does not get to stderr, also where that is no terminal. */
export function warn(warnings: readonly string[]): void {
  for (const warning of warnings) process.stderr.write(`cria: warning: ${warning}\n`)
}

export function dim(text: string): string {
  return process.env.NO_COLOR ? text : `\x1b[2m${text}\x1b[22m`
}

/** Writes to stdout at the pace of the reader. */
export class Output {
  #gone = false
  readonly #onGone: () => void

  /** Calls `onGone` once if the reader goes away (EPIPE), as in `| head`. */
  constructor(onGone: () => void = () => {}) {
    this.#onGone = onGone
    process.stdout.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error
      if (!this.#gone) {
        this.#gone = true
        this.#onGone()
      }
    })
  }

  /** Whether the reader went away. */
  get gone(): boolean {
    return this.#gone
  }

  /** Resolves when stdout takes more text. After the reader went away, does nothing. */
  async write(text: string): Promise<void> {
    if (this.#gone || text === '') return
    if (process.stdout.write(text)) return
    await new Promise<void>((resolve) => {
      const done = () => {
        process.stdout.off('drain', done)
        process.stdout.off('close', done)
        process.stdout.off('error', done)
        resolve()
      }
      process.stdout.once('drain', done)
      process.stdout.once('close', done)
      process.stdout.once('error', done)
    })
  }
}

export async function readStandardInput(): Promise<string> {
  const parts: Buffer[] = []
  for await (const part of process.stdin) parts.push(part as Buffer)
  return Buffer.concat(parts).toString('utf8')
}
