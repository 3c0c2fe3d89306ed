import { addon } from './binding'
import { modelPath } from './hub/download'
import { type LoadModelOptions, loadOptions, nativeLoadOptions } from './load_options'
import type { OptionsOf } from './options'
import { filePath } from './path'
import { chunkTokens, maxChunks } from './perplexity'
import { type Progress, runWithProgress } from './progress'
import { abortSignal, callback, checkArgument, checkOptions, string } from './validate'

export interface ImatrixOptions extends Pick<LoadModelOptions, 'threads' | 'mmap'> {
  /** Name of the text, for the file. */
  textName?: string | undefined
  /** Tokens of a chunk. Default: 512. */
  chunkTokens?: number | undefined
  /** Use only so many chunks. Default: all. */
  maxChunks?: number | undefined
  /** Called after every chunk, with chunks in place of bytes. */
  onProgress?: ((progress: Progress) => void) | undefined
  /** Stops the work, which then rejects with `ERR_ABORTED` and leaves no file. */
  signal?: AbortSignal | undefined
}

const { threads, mmap } = loadOptions
export const imatrixOptions = {
  threads,
  mmap,
  textName: string(),
  chunkTokens,
  maxChunks,
  onProgress: callback<(progress: Progress) => void>(),
  signal: abortSignal(),
} satisfies OptionsOf<ImatrixOptions>

/** What `computeImatrix` wrote. */
export interface ImatrixFile {
  readonly path: string
  readonly chunks: number
  /** Weight matrices in the file. */
  readonly entries: number
}

/**
 * Measures on a text what each column of a model's matrices is multiplied with, and writes it as an importance
 * matrix in llama.cpp's GGUF form, for `convertModel` and `quantize`. Runs on the CPU. The file appears whole or
 * not at all.
 * @throws (rejects) the errors of `loadModel`; ERR_INVALID_ARGUMENT for a text of less than one chunk;
 * ERR_UNSUPPORTED_MODEL for a mixture of experts; ERR_IO
 */
export async function computeImatrix(
  model: string | URL,
  text: string,
  output: string | URL,
  options?: ImatrixOptions,
): Promise<ImatrixFile> {
  const call = 'computeImatrix'
  const path = filePath(call, output)
  const checkedText = checkArgument(call, 'text', text, string())
  const values = checkOptions(call, options, imatrixOptions)
  const native = {
    model: nativeLoadOptions(await modelPath(call, model, { signal: values.signal }), {
      threads: values.threads,
      mmap: values.mmap,
    }),
    text: checkedText,
    output: path,
    textName: values.textName ?? '',
    chunkTokens: values.chunkTokens ?? chunkTokens.default,
    maxChunks: values.maxChunks ?? maxChunks.default,
  }
  const result = await runWithProgress(call, (report) => addon().computeImatrix(native, report), values)
  return Object.freeze({ path, ...result })
}
