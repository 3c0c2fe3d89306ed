import { join } from 'node:path'
import { addon } from './binding'
import type { NativeCpuInfo, NativeFileInfo } from './native'
import { filePath } from './path'
import { callNative, runTask } from './tasks'
import { abortSignal, checkOptions } from './validate'

/** What this machine can run. */
export type CpuInfo = Readonly<NativeCpuInfo>

/** Metadata and tensors of a file. */
export type FileInfo = NativeFileInfo

/**
 * The instruction-set level in use and those this machine has, and how many threads a model gets by default. The
 * environment variable `CRIA_CPU_ISA` picks a level.
 * @throws ERR_ADDON_LOAD
 */
export function cpuInfo(): CpuInfo {
  const info = callNative(() => addon().cpuInfo())
  return Object.freeze({ ...info, isaLevels: [...info.isaLevels] })
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
