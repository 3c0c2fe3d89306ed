/**
 * The options of `loadModel`. An option is added here, in the README's table and in native/addon/requests.cc.
 */

import { type AdapterOptions, adapterList } from './adapters'
import { type FileType, fileType, pathOption } from './file_types'
import { type DownloadOptions, downloadRules } from './hub/options'
import type { NativeLoadOptions } from './native'
import { addonValues, type OptionsOf, option } from './options'
import type { Progress } from './progress'
import {
  abortSignal,
  boolean,
  bytes,
  callback,
  integer,
  matching,
  nested,
  oneOf,
  type Parsed,
} from './validate'

export interface LoadProgress extends Progress {
  /** The file that is being downloaded, whose model the bytes count; absent while the model loads. */
  download?: string
}

export type Device = 'auto' | 'cpu' | 'cuda' | `cuda:${number}`

export interface LoadModelOptions {
  /**
   * Where to run. `'auto'` prefers CUDA and explains its choice in `info.deviceReason`. The others never fall
   * back to another device. Default: 'auto'.
   */
  device?: Device | undefined
  /**
   * For models larger than the GPU's memory: the number of layers, counted from the last, that run on the
   * CUDA device. The other layers, the embedding and the output run on the CPU. `info.layers` puts the whole
   * model on the device, 0 nothing. Default: as many as fit the device's free memory. (With the device
   * `'auto'`, none if less than a quarter of them fit.) `info.gpuLayers` and `info.deviceReason` report the
   * choice. More layers than the model has, or any with the device `'cpu'`, are an `ERR_INVALID_ARGUMENT`.
   */
  gpuLayers?: number | undefined
  /** CPU threads, including the engine's own. Default: physical cores within the process's quota. */
  threads?: number | undefined
  /**
   * Maximum tokens of a sequence, prompt and answer together. Default: the file's, lowered to what memory
   * holds.
   */
  contextLength?: number | undefined
  /**
   * Memory for the KV cache, which all requests share: bytes, or text such as `'512MB'` (10^6) or `'2GiB'`
   * (2^30). Pages that no request uses keep their tokens for prompts with the same prefix. Default: sized
   * from free memory. That is up to eight contexts within a quarter of it, and at least one context within
   * half; `info.kvBytes` reports it.
   */
  kvMemory?: number | string | undefined
  /** Element type of the KV cache. `'f32'` is for checking results. Default: 'f16'. */
  kvDtype?: 'f16' | 'f32' | undefined
  /** Maximum prompt tokens per engine step. Default: 256; CUDA: 1024. */
  prefillChunk?: number | undefined
  /**
   * Requests that may wait while 64 others, the maximum of a step, run. Further ones fail with
   * `ERR_QUEUE_FULL`. Default: 1024.
   */
  maxQueue?: number | undefined
  /**
   * Use the weights from a mapping of the file instead of reading them into memory. The model loads faster
   * and runs somewhat slower, and the file must not change meanwhile. Default: false.
   */
  mmap?: boolean | undefined
  /** Where `hf:` names are looked up and kept, as in {@link downloadModel}. Default: the environment's. */
  download?: DownloadOptions | undefined
  /**
   * LoRA adapters to load beside the model. Requests use all of them with these scales, unless their own
   * option `adapters` says otherwise. Adapters run on the CPU only. Default: none.
   */
  adapters?: readonly AdapterOptions[] | undefined
  /**
   * Quantize the weights while they load, as `convertModel` would: the model takes the memory of that type, and
   * its files stay as they are. For models of F32, F16 or BF16. Default: none.
   */
  quantize?: FileType | undefined
  /** Path of an importance matrix for `quantize`. Default: none. */
  imatrix?: string | undefined
  /**
   * Called at most every 50 ms. An exception that it throws stops the load, which rejects with that
   * exception.
   */
  onProgress?: ((progress: LoadProgress) => void) | undefined
  /** Stops the load, which then rejects with `ERR_ABORTED`. */
  signal?: AbortSignal | undefined
}

export const loadOptions = {
  device: option(
    matching<Device>("'auto', 'cpu', 'cuda' or 'cuda:<number>'", /^(auto|cpu|cuda(:\d{1,3})?)$/),
    {
      default: 'auto',
      flag: { help: 'auto, cpu, cuda or cuda:<n>' },
    },
  ),
  gpuLayers: option(integer(0), {
    default: -1,
    defaultText: "as many as fit the device's free memory",
    flag: { help: 'number of last layers to run on the CUDA device' },
  }),
  threads: option(integer(1, 1024), {
    default: 0,
    defaultText: "physical cores within the process's quota",
    flag: { help: 'CPU threads' },
  }),
  contextLength: option(integer(1), {
    default: 0,
    defaultText: "the file's, lowered to what memory holds",
    flag: { name: 'ctx', help: 'maximum tokens of prompt and answer' },
  }),
  kvMemory: option(bytes(), {
    default: 0,
    defaultText: 'sized from free memory',
    flag: { help: 'memory for the KV cache, such as 512MB or 2GiB' },
  }),
  kvDtype: option(oneOf('f16', 'f32'), {
    default: 'f16',
    flag: { help: 'element type of the KV cache: f16 or f32' },
  }),
  prefillChunk: option(integer(1, 65536), { default: 0, defaultText: '256; CUDA: 1024' }),
  maxQueue: option(integer(1, 2 ** 20), { default: 1024 }),
  mmap: option(boolean(), {
    default: false,
    flag: { help: 'use the weights from a mapping of the file' },
  }),
  download: option(nested(downloadRules), { defaultText: "the environment's" }),
  adapters: option(adapterList(), {
    default: [],
    defaultText: 'none',
    flag: { name: 'lora', help: 'a LoRA adapter, as <path> or <path>:<scale>; may be repeated' },
  }),
  quantize: option(fileType(), {
    defaultText: 'none',
    flag: { help: 'quantize the weights while they load, such as Q4_K_M' },
  }),
  imatrix: option(pathOption(), {
    default: '',
    defaultText: 'none',
    flag: { help: 'importance matrix for --quantize' },
  }),
  onProgress: callback<(progress: LoadProgress) => void>(),
  signal: abortSignal(),
} satisfies OptionsOf<LoadModelOptions>

type LoadValues = {
  [K in keyof typeof loadOptions]?: Parsed<typeof loadOptions>[K] | undefined
}

/** Checked options as the addon gets them. */
export function nativeLoadOptions(path: string, checked: LoadValues): NativeLoadOptions {
  const values = checked as Parsed<typeof loadOptions>
  return { path, ...addonValues(loadOptions, values), quantize: values.quantize ?? '' }
}
