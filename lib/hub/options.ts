/** The options of `downloadModel`, `listModels` and `removeModel`. */

import { abortSignal, boolean, callback, custom, type Rules } from '../validate'

/** How far a download is. */
export interface DownloadProgress {
  /** The file that is being downloaded, as the repository or the URL names it. */
  file: string
  /** Bytes on the disk, of all files of the model, including those of earlier attempts. */
  loadedBytes: number
  totalBytes: number
  /** From 0 to 1. */
  fraction: number
}

/** How models are found on the hub, and where they are kept. */
export interface DownloadOptions {
  /**
   * The cache folder, in the layout of huggingface_hub for Python. Default: `HF_HUB_CACHE`, `HF_HOME/hub`, or
   * `~/.cache/huggingface/hub`. Files of plain URLs are kept in `urls` below it; by default in
   * `~/.cache/cria/urls`.
   */
  cacheDir?: string | undefined
  /**
   * Access token of the hub; `false` sends none. It is sent to the endpoint alone. Default: `HF_TOKEN`, or the
   * token that `hf auth login` has stored.
   */
  token?: string | false | undefined
  /** Address of the hub. Default: `HF_ENDPOINT`, or `https://huggingface.co`. */
  endpoint?: string | undefined
  /** Use the cache alone. Default: whether `HF_HUB_OFFLINE` is set. */
  offline?: boolean | undefined
}

export interface DownloadModelOptions extends DownloadOptions {
  /** Called at most every 50 ms. An exception that it throws stops the download, which rejects with it. */
  onProgress?: ((progress: DownloadProgress) => void) | undefined
  /** Stops the download, which then rejects with `ERR_ABORTED`. The next call continues it. */
  signal?: AbortSignal | undefined
}

const nonEmpty = custom('a non-empty string', (value) =>
  typeof value === 'string' && value !== '' && !value.includes('\0') ? value : undefined,
)

const token = custom<string | false>('a token without spaces, or false', (value) =>
  value === false || (typeof value === 'string' && /^[\x21-\x7e]+$/.test(value)) ? value : undefined,
)

const endpoint = custom('an http: or https: address', (value) =>
  typeof value === 'string' && /^https?:\/\//.test(value) && URL.canParse(value) ? value : undefined,
)

export const downloadRules = { cacheDir: nonEmpty, token, endpoint, offline: boolean() } satisfies Rules

export const cacheRules = { cacheDir: nonEmpty } satisfies Rules

export const downloadModelRules = {
  ...downloadRules,
  onProgress: callback<(progress: DownloadProgress) => void>(),
  signal: abortSignal(),
} satisfies Rules
