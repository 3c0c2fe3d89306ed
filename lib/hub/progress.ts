import type { DownloadProgress } from './options'

const INTERVAL_MS = 50

/** Adds up the bytes of a model's files for `onProgress`. */
export class Progress {
  readonly #files = new Map<string, { loaded: number; total: number }>()
  readonly #report: ((progress: DownloadProgress) => void) | undefined
  #last = Number.NEGATIVE_INFINITY

  constructor(report?: (progress: DownloadProgress) => void) {
    this.#report = report
  }

  /** Announces a file, so that the first report knows the total. */
  add(file: string, total: number, loaded = 0): void {
    this.#files.set(file, { loaded, total })
  }

  update(file: string, loaded: number, total: number): void {
    if (!this.#report) return
    this.#files.set(file, { loaded, total })
    const done = loaded === total
    const now = performance.now()
    if (!done && now - this.#last < INTERVAL_MS) return
    this.#last = now
    let loadedBytes = 0
    let totalBytes = 0
    for (const one of this.#files.values()) {
      loadedBytes += one.loaded
      totalBytes += one.total
    }
    this.#report({ file, loadedBytes, totalBytes, fraction: totalBytes > 0 ? loadedBytes / totalBytes : 0 })
  }
}
