/** Where models are kept and how the hub is reached: the variables that huggingface_hub for Python reads. */

import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { expandHome } from '../path'
import type { DownloadOptions } from './options'

export const DEFAULT_ENDPOINT = 'https://huggingface.co'

export interface Settings {
  /** Without a slash at the end. */
  readonly endpoint: string
  readonly token: string | undefined
  readonly offline: boolean
  /** The cache folder of huggingface_hub. */
  readonly cacheDir: string
  /** The folder for files of plain URLs. */
  readonly urlDir: string
  /** A connection that brings no byte for so long counts as broken. */
  readonly stallMs: number
  /** Time for the answer to a question about a file. */
  readonly metadataMs: number
  readonly symlinks: boolean
}

/** The settings of a call: its options, then the environment, then defaults. */
export function hubSettings(options: DownloadOptions = {}): Settings {
  const { env } = process
  const home = expand(env.HF_HOME || join(userCache(), 'huggingface'))
  const cacheDir =
    options.cacheDir ?? expand(env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE || join(home, 'hub'))
  return {
    endpoint: (options.endpoint ?? (env.HF_ENDPOINT || DEFAULT_ENDPOINT)).replace(/\/+$/, ''),
    token: options.token === false ? undefined : (options.token ?? environmentToken(home)),
    offline: options.offline ?? isTrue(env.HF_HUB_OFFLINE || env.TRANSFORMERS_OFFLINE),
    cacheDir: resolve(expand(cacheDir)),
    urlDir: options.cacheDir ? resolve(expand(cacheDir), 'urls') : join(userCache(), 'cria', 'urls'),
    stallMs: seconds(env.HF_HUB_DOWNLOAD_TIMEOUT, 30),
    metadataMs: seconds(env.HF_HUB_ETAG_TIMEOUT, 10),
    symlinks: !isTrue(env.HF_HUB_DISABLE_SYMLINKS),
  }
}

/** `$XDG_CACHE_HOME`, or `~/.cache`. */
export function userCache(): string {
  return process.env.XDG_CACHE_HOME || join(homedir(), '.cache')
}

/** Replaces `~`, `$NAME` and `${NAME}`, as huggingface_hub does in its variables. Unknown names stay. */
function expand(path: string): string {
  return expandHome(path).replace(
    /\$(?:(\w+)|\{(\w+)\})/g,
    (text, plain, braced) => process.env[plain ?? braced] ?? text,
  )
}

function environmentToken(home: string): string | undefined {
  const { env } = process
  if (isTrue(env.HF_HUB_DISABLE_IMPLICIT_TOKEN)) return undefined
  const token = cleanToken(env.HF_TOKEN || env.HUGGING_FACE_HUB_TOKEN)
  if (token) return token
  try {
    return cleanToken(readFileSync(expand(env.HF_TOKEN_PATH || join(home, 'token')), 'utf8'))
  } catch {
    return undefined // Nobody has logged in.
  }
}

/** Files and variables often end with a line break. */
function cleanToken(text: string | undefined): string | undefined {
  return text?.replace(/[\r\n]/g, '').trim() || undefined
}

function isTrue(text: string | undefined): boolean {
  return /^(1|on|yes|true)$/i.test(text ?? '')
}

function seconds(text: string | undefined, fallback: number): number {
  const value = Number(text)
  return 1000 * (text && Number.isFinite(value) && value > 0 ? value : fallback)
}
