import { join } from 'node:path'
import { addon } from './binding'
import { modelPath } from './hub/download'
import { callNative, runTask } from './tasks'
import { abortSignal, checkOptions } from './validate'

/** The CPU of this machine. Frozen. */
export interface CpuInfo {
  /** The instruction-set level in use. */
  readonly isa: string
  /** The levels that this machine can run, lowest first. */
  readonly isaLevels: readonly string[]
  readonly physicalCores: number
  /** Default threads of a model. */
  readonly threads: number
}

/** A metadata value. Arrays are represented by their length and first 16 elements. */
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
  /** Dimensions in GGUF's order: the contiguous one first. */
  shape: number[]
  bytes: number
  /** Index in {@link FileInfo.files} of the file with its data, or with the first of them. */
  file: number
}

/**
 * Metadata and tensors of a model. Whatever its format, they stand under GGUF's keys and names, with GGUF's types
 * and shapes.
 */
export interface FileInfo {
  /** The file, or the folder. */
  path: string
  /** A GGUF, a Hugging Face folder, or a folder of Meta's release files. */
  format: 'gguf' | 'huggingface' | 'meta'
  /** GGUF only. */
  version?: number
  /** Size of all files with tensors together. */
  fileBytes: number
  /** The files with tensors: the parts of a split file, the shards of a folder, or the file itself. */
  files: string[]
  metadata: Array<{ key: string; type: string; value: MetadataValue }>
  tensors: TensorInfo[]
  /** Metadata of a Llama that is ignored though it asks for something, or that is not known; a sentence each. */
  warnings: string[]
}

/**
 * The instruction-set level in use, the levels of this machine, and the default number of threads. The
 * environment variable `CRIA_CPU_ISA` selects a level.
 * @throws ERR_ADDON_LOAD
 */
export function cpuInfo(): CpuInfo {
  const info = callNative(() => addon().cpuInfo())
  return Object.freeze({ ...info, isaLevels: Object.freeze([...info.isaLevels]) })
}

/**
 * Reads the metadata and the list of tensors of a model, but no weights. Takes the names that `loadModel` takes: of
 * GGUF files, of Hugging Face folders, and of folders of Meta's release files.
 * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_FILE_NOT_FOUND, ERR_IO, ERR_INVALID_FILE, ERR_UNSUPPORTED_FILE,
 * ERR_INVALID_MODEL, ERR_UNSUPPORTED_MODEL, ERR_ABORTED, ERR_ADDON_LOAD
 */
export async function inspect(
  path: string | URL,
  options?: { signal?: AbortSignal | undefined },
): Promise<FileInfo> {
  const call = 'inspect'
  const { signal } = checkOptions(call, options, { signal: abortSignal() })
  const located = modelPath(call, path, { signal })
  const file = typeof located === 'string' ? located : await located
  return runTask(call, () => addon().inspect(file), signal)
}

/** Path of the small demo model that comes with the package. It tells simple stories in English. */
export function demoModelPath(): string {
  return join(__dirname, '..', 'models', 'demo.gguf')
}
