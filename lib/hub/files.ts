/** Files of the cache: hashes, atomic writes, errors of the file system. */

import { createHash, type Hash, randomUUID } from 'node:crypto'
import {
  copyFile,
  type FileHandle,
  mkdir,
  open,
  readFile,
  rename,
  rm,
  stat,
  statfs,
  symlink,
  unlink,
} from 'node:fs/promises'
import { dirname, relative } from 'node:path'
import { CriaError } from '../errors'

const HASH_CHUNK = 2 ** 20

/** ERR_DISK_FULL or ERR_IO, unless it is a CriaError already. */
export function fileError(call: string, path: string, error: unknown): unknown {
  const { code, syscall, message } = error as NodeJS.ErrnoException
  if (error instanceof CriaError || syscall === undefined) return error
  if (code === 'ENOSPC' || code === 'EDQUOT') return diskFull(call, path, {}, error)
  return new CriaError('ERR_IO', `${call}: ${message}`, {
    details: { path, ...(code ? { errno: code } : {}) },
    cause: error,
  })
}

function diskFull(call: string, path: string, details: Record<string, unknown>, cause?: unknown): CriaError {
  const need =
    'neededBytes' in details ? `: ${details.neededBytes} bytes needed, ${details.freeBytes} free` : ''
  return new CriaError('ERR_DISK_FULL', `${call}: the disk of ${path} is full${need}`, {
    details: { path, ...details },
    ...(cause === undefined ? {} : { cause }),
  })
}

/** Throws ERR_DISK_FULL if a folder's disk has less room than a download needs. */
export async function checkSpace(call: string, folder: string, neededBytes: number): Promise<void> {
  const { bavail, bsize, blocks } = await statfs(folder)
  const freeBytes = bavail * bsize
  // Some network file systems report nothing.
  if (blocks > 0 && freeBytes < neededBytes) throw diskFull(call, folder, { neededBytes, freeBytes })
}

/** The size of a regular file, through links; undefined if there is none. */
export async function fileSize(path: string): Promise<number | undefined> {
  try {
    const found = await stat(path)
    return found.isFile() ? found.size : undefined
  } catch (error) {
    if (isMissing(error)) return undefined
    throw error
  }
}

export function isMissing(error: unknown): boolean {
  return ['ENOENT', 'ENOTDIR', 'ELOOP'].includes((error as NodeJS.ErrnoException).code ?? '')
}

/** A small text file; undefined if there is none. */
export async function readText(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (isMissing(error) || (error as NodeJS.ErrnoException).code === 'EISDIR') return undefined
    throw error
  }
}

/** Writes a small file whole or not at all. */
export async function writeAtomically(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  const temporary = `${path}.${randomUUID().slice(0, 8)}.tmp`
  try {
    await writeSynced(temporary, text)
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}

async function writeSynced(path: string, text: string): Promise<void> {
  const file = await open(path, 'wx')
  try {
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
}

/**
 * The hash by which the hub names a file's content: SHA-256, or git's SHA-1 of a blob for files that are not
 * in its large file storage.
 */
export async function hashOf(
  file: FileHandle,
  kind: 'sha256' | 'git-sha1',
  signal: AbortSignal,
): Promise<string> {
  const { size } = await file.stat()
  const hash: Hash = createHash(kind === 'sha256' ? 'sha256' : 'sha1')
  if (kind === 'git-sha1') hash.update(`blob ${size}\0`)
  const chunk = Buffer.allocUnsafe(Math.max(1, Math.min(HASH_CHUNK, size)))
  for (let position = 0; ; ) {
    signal.throwIfAborted()
    const { bytesRead } = await file.read(chunk, 0, chunk.length, position)
    if (bytesRead === 0) return hash.digest('hex')
    hash.update(chunk.subarray(0, bytesRead))
    position += bytesRead
  }
}

/**
 * Makes `path` show the content of `blob`: by a relative link, or, where links are not possible, by moving a
 * new blob or copying an old one.
 */
export async function showBlob(
  blob: string,
  path: string,
  options: { symlinks: boolean; isNew: boolean },
): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  if (options.symlinks) {
    const target = relative(dirname(path), blob)
    try {
      await replaceLink(target, path)
      return
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (!['EPERM', 'EACCES', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EINVAL'].includes(code ?? '')) throw error
    }
  }
  if (options.isNew) return rename(blob, path)
  const temporary = `${path}.${randomUUID().slice(0, 8)}.tmp`
  try {
    await copyFile(blob, temporary)
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}

async function replaceLink(target: string, path: string): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await symlink(target, path)
    } catch (error) {
      // Another process makes the same link, or the old one is broken.
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || attempt > 2) throw error
      if ((await fileSize(path)) !== undefined) return
      await unlink(path).catch(() => {})
    }
  }
}
