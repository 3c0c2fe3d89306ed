import { addon } from './binding'
import { type FileType, fileType, pathOption } from './file_types'
import { modelPath } from './hub/download'
import { addonValues, type OptionsOf, option } from './options'
import { filePath } from './path'
import { type Progress, runWithProgress } from './progress'
import { abortSignal, boolean, callback, checkOptions, integer } from './validate'

export interface ConvertOptions {
  /** The type of the new file. Default: 'Q4_K_M'. */
  type?: FileType | undefined
  /**
   * Path of an importance matrix (`cria imatrix`, or llama.cpp's): what an error in each column costs. Types
   * below three bits need one. Default: none.
   */
  imatrix?: string | undefined
  /**
   * Also convert tensors that are quantized already; the errors of both quantizations add up. Default: false.
   */
  requantize?: boolean | undefined
  /** Threads that quantize. Default: physical cores within the process's quota. */
  threads?: number | undefined
  /**
   * Called at most every 50 ms. An exception that it throws stops the conversion, which rejects with that
   * exception.
   */
  onProgress?: ((progress: Progress) => void) | undefined
  /** Stops the conversion, which then rejects with `ERR_ABORTED` and leaves no file. */
  signal?: AbortSignal | undefined
}

export const convertOptions = {
  type: option(fileType(), {
    default: 'Q4_K_M',
    flag: { short: 't', help: 'type of the new file, such as Q8_0, Q4_K_M or BF16' },
  }),
  imatrix: option(pathOption(), {
    default: '',
    defaultText: 'none',
    flag: { help: 'importance matrix to quantize by' },
  }),
  requantize: option(boolean(), {
    default: false,
    flag: { help: 'also convert tensors that are quantized already' },
  }),
  threads: option(integer(1, 1024), {
    default: 0,
    defaultText: "physical cores within the process's quota",
    flag: { help: 'threads that quantize' },
  }),
  onProgress: callback<(progress: Progress) => void>(),
  signal: abortSignal(),
} satisfies OptionsOf<ConvertOptions>

/** What `convertModel` wrote. */
export interface ConvertedModel {
  readonly path: string
  readonly type: FileType
  /** Size of the source's files. */
  readonly sourceBytes: number
  readonly fileBytes: number
  /** Bytes in the file for each weight type, e.g. `{ Q4_K: 12345, F32: 678 }`. */
  readonly tensorTypes: Readonly<Record<string, number>>
}

/**
 * Writes a model as one GGUF file of another type. The file appears whole or not at all; an existing one is
 * replaced, even the source itself. A `hf:` name or an `https:` URL is downloaded first, as `loadModel` does. Memory: a few megabytes per thread, whatever the model's size.
 * @throws (rejects) ERR_INVALID_ARGUMENT (also for a source that is quantized already, without `requantize`, and
 * for a type that needs an importance matrix), ERR_FILE_NOT_FOUND, ERR_IO, ERR_INVALID_FILE,
 * ERR_UNSUPPORTED_FILE, ERR_INVALID_MODEL (also for weights that are not finite), ERR_ABORTED, ERR_ADDON_LOAD
 */
export async function convertModel(
  source: string | URL,
  output: string | URL,
  options?: ConvertOptions,
): Promise<ConvertedModel> {
  const call = 'convertModel'
  const path = filePath(call, output)
  const values = checkOptions(call, options, convertOptions)
  const { onProgress, signal } = values
  const from = await modelPath(call, source, {
    signal,
    onProgress: onProgress && (({ file: _, ...progress }) => onProgress(progress)),
  })
  const native = { source: from, output: path, ...addonValues(convertOptions, values) }
  const result = await runWithProgress(call, (report) => addon().convertModel(native, report), values)
  return Object.freeze({
    ...result,
    path,
    type: native.type,
    tensorTypes: Object.freeze(result.tensorTypes),
  })
}
