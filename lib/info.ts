import { join } from 'node:path'
import { addon } from './binding'
import { filePath } from './path'
import { callNative, runTask } from './tasks'
import { abortSignal, checkOptions } from './validate'

/** What this machine can run. Frozen. */
export interface CpuInfo {
  /** The instruction-set level in use. */
  readonly isa: string
  /** The levels that this machine can run, lowest first. */
  readonly isaLevels: readonly string[]
  readonly physicalCores: number
  /** Threads that a model gets unless told otherwise. */
  readonly threads: number
}

/** A value of a file's metadata. Of an array: its length, and its first 16 elements. */
export type MetadataValue =
  | string
  | number
  | bigint
  | boolean
  | { elementType: string; length: number; head: Array<string | number | bigint | boolean> }

export interface TensorInfo {
  name: string
  /** Weight type, e.g. `'Q4_K'`. */
  type: string
  /** Sizes in GGUF's order: the contiguous dimension first. */
  shape: number[]
  bytes: number
  /** Index in {@link FileInfo.files} of the part that holds it. */
  file: number
}

/** Metadata and tensors of a file. */
export interface FileInfo {
  path: string
  format: 'gguf'
  version: number
  /** Of all parts together. */
  fileBytes: number
  /** The parts of a split file, or the file itself. */
  files: string[]
  metadata: Array<{ key: string; type: string; value: MetadataValue }>
  tensors: TensorInfo[]
}

/**
 * The instruction-set level in use and those this machine has, and how many threads a model gets by default. The
 * environment variable `CRIA_CPU_ISA` picks a level.
 * @throws ERR_ADDON_LOAD
 */
export function cpuInfo(): CpuInfo {
  const info = callNative(() => addon().cpuInfo())
  return Object.freeze({ ...info, isaLevels: Object.freeze([...info.isaLevels]) })
}

/**
 * Reads a GGUF file's metadata and list of tensors, without loading a weight.
 * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_FILE_NOT_FOUND, ERR_IO, ERR_INVALID_FILE, ERR_UNSUPPORTED_FILE,
 * ERR_ABORTED, ERR_ADDON_LOAD
 */
export async function inspect(
  path: string | URL,
  options?: { signal?: AbortSignal | undefined },
): Promise<FileInfo> {
  const call = 'inspect'
  const file = filePath(call, path)
  const { signal } = checkOptions(call, options, { signal: abortSignal() })
  return runTask(call, () => addon().inspect(file), signal)
}

/** Path of the small demo model that comes with the package: it tells simple stories in English. */
export function demoModelPath(): string {
  return join(__dirname, '..', 'models', 'demo.gguf')
}
