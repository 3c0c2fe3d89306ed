/**
 * A lock across processes: a file that exists while the lock is held. Its holder touches it every second. A
 * file that nobody touches, or whose process has died, is stale, and the next one takes over.
 */

import { randomUUID } from 'node:crypto'
import { readFileSync, readlinkSync } from 'node:fs'
import { mkdir, rm, stat, unlink, utimes, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { isMissing, readText } from './files'

const HEARTBEAT_MS = 1000
const POLL_MS = 100
/** Longer than a busy event loop or a slow network file system delays a heartbeat. */
const STALE_MS = 30_000

export interface Lock {
  /** Whether the file is still this holder's. It is not if the process was stopped for long. */
  isHeld(): Promise<boolean>
  release(): Promise<void>
}

interface Holder {
  pid: number
  /** Where `pid` has a meaning. */
  place: string
  /** Unique. */
  token: string
}

/** The kernel that runs and, in containers, the pid namespace: equal host names do not mean equal pids. */
const PLACE = (() => {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
    return `${hostname()} ${boot} ${readlinkSync('/proc/self/ns/pid')}`
  } catch {
    return hostname()
  }
})()

/** Waits for the lock. Calls `onWait` about every 100 ms meanwhile. */
export async function acquireLock(
  path: string,
  signal: AbortSignal,
  onWait: () => Promise<void>,
): Promise<Lock> {
  await mkdir(dirname(path), { recursive: true })
  const holder: Holder = { pid: process.pid, place: PLACE, token: randomUUID() }
  const watch = new StaleWatch(path)
  for (;;) {
    signal.throwIfAborted()
    if (await create(path, JSON.stringify(holder))) return hold(path, holder)
    if (await watch.isStale()) await breakLock(path, watch)
    else {
      await onWait()
      await sleep(POLL_MS, undefined, { signal })
    }
  }
}

/** Creates a file with this content unless it exists. */
async function create(path: string, text: string): Promise<boolean> {
  try {
    await writeFile(path, text, { flag: 'wx' })
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
}

function hold(path: string, { token }: Holder): Lock {
  const isHeld = async () => parseHolder(await readText(path))?.token === token
  const touch = () => {
    const now = new Date()
    utimes(path, now, now).catch(() => {})
  }
  const timer = setInterval(touch, HEARTBEAT_MS)
  // A download keeps the process alive by itself.
  timer.unref()
  return {
    isHeld,
    async release() {
      clearInterval(timer)
      if (await isHeld()) await rm(path, { force: true })
    },
  }
}

function parseHolder(text: string | undefined): Holder | undefined {
  try {
    const { pid, place, token } = JSON.parse(text ?? '') as Holder
    return Number.isSafeInteger(pid) && pid > 0 && typeof token === 'string'
      ? { pid, place, token }
      : undefined
  } catch {
    return undefined // Just created, or cut off by a crash: time decides.
  }
}

/** Watches a lock file. Compares its time with itself, since clocks of several machines differ. */
class StaleWatch {
  #seen = ''
  #since = 0

  constructor(private readonly path: string) {}

  async isStale(): Promise<boolean> {
    let modified: number
    try {
      modified = (await stat(this.path)).mtimeMs
    } catch (error) {
      if (isMissing(error)) return false
      throw error
    }
    const text = await readText(this.path)
    const holder = parseHolder(text)
    if (holder?.place === PLACE && !isAlive(holder.pid)) return true
    const state = `${modified} ${text}`
    if (state !== this.#seen) {
      this.#seen = state
      this.#since = performance.now()
    }
    return performance.now() - this.#since > STALE_MS
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH'
  }
}

/**
 * Removes a stale lock. Of several processes that find it stale, one at a time may: otherwise the second
 * would remove the lock that the first has just made.
 */
async function breakLock(path: string, watch: StaleWatch): Promise<void> {
  const guard = `${path}.break`
  if (!(await create(guard, ''))) {
    // It is held for milliseconds. An old one was left behind by a crash.
    const age =
      Date.now() -
      (await stat(guard).then(
        ({ mtimeMs }) => mtimeMs,
        () => Date.now(),
      ))
    if (Math.abs(age) > STALE_MS) await rm(guard, { force: true })
    await sleep(POLL_MS)
    return
  }
  try {
    if (await watch.isStale()) await unlink(path).catch(() => {})
  } finally {
    await rm(guard, { force: true })
  }
}
