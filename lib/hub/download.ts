/** `downloadModel`, and what `loadModel` and its kin do with a name that is no path. */

import { readFile } from 'node:fs/promises'
import { onAbort } from '../abort'
import { abortError, CriaError, invalidArgument } from '../errors'
import { filePath } from '../path'
import { checkOptions } from '../validate'
import { RepositoryCache } from './cache'
import { fileError } from './files'
import { HttpClient, TransientError } from './http'
import { type DownloadModelOptions, downloadModelRules } from './options'
import { Progress } from './progress'
import { CachedSnapshot, notCached, RemoteSnapshot, type Snapshot } from './repository'
import { chooseGguf, folderFiles, shardsOf, splitParts } from './select'
import { hubSettings } from './settings'
import { type HubSpec, isCommit, isRemote, parseSpec } from './spec'
import { urlModel } from './url'

/**
 * Downloads a model unless the cache has it, and returns its path for `loadModel`: that of a GGUF file (of a
 * split one, the first part) or of a folder. The name is one of
 *
 * - `hf:owner/repo/file.gguf`: a file of a repository on the Hugging Face hub, with all its parts;
 * - `hf:owner/repo:Q4_K_M`: its GGUF file of this quantization;
 * - `hf:owner/repo`: its Hugging Face folder; if it holds GGUF files instead, that of Q4_K_M, else of the first
 *   of Q4_K_S, Q4_0, Q5_K_M, Q6_K, Q8_0, BF16 and F16 that it has, else the only one;
 * - `hf:owner/repo/folder/`: the same for a folder of the repository;
 * - the address of one of these on the hub's web pages;
 * - any other `https:` or `http:` URL. The fragment `#sha256=<64 digits>` has its content checked.
 *
 * After `repo` may follow `@` and a branch, a tag or a commit. Files on the hub are verified by size and hash
 * before they get their name. The cache is that of huggingface_hub for Python. A download that was interrupted
 * continues where it stopped; several processes download a file once. If the hub cannot be reached, what the
 * cache has is used. A path or a `file:` URL is returned as it is.
 * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_FILE_NOT_FOUND, ERR_DOWNLOAD, ERR_UNAUTHORIZED, ERR_OFFLINE,
 * ERR_DISK_FULL, ERR_IO, ERR_INVALID_FILE (an index of safetensors), ERR_ABORTED
 */
export async function downloadModel(name: string | URL, options?: DownloadModelOptions): Promise<string> {
  const call = 'downloadModel'
  return modelPath(call, name, checkOptions(call, options, downloadModelRules))
}

/** The path of a model: of a file or folder at once, of anything else after a download. */
export function modelPath(
  call: string,
  name: unknown,
  options: DownloadModelOptions = {},
): string | Promise<string> {
  const text = isUrlLike(name) ? String((name as URL).href) : name
  return typeof text === 'string' && isRemote(text) ? remoteModel(call, text, options) : filePath(call, name)
}

async function remoteModel(call: string, name: string, options: DownloadModelOptions): Promise<string> {
  const settings = hubSettings(options)
  if (!URL.canParse(settings.endpoint)) {
    throw invalidArgument(call, 'HF_ENDPOINT', 'an http: or https: address', settings.endpoint)
  }
  const spec = parseSpec(call, name, settings.endpoint)
  const { signal } = options
  if (signal?.aborted) throw abortError(call, signal.reason)
  const stop = new AbortController()
  const stopListening = onAbort(signal, () => stop.abort())
  const client = await HttpClient.create(call, settings, stop.signal)
  try {
    const progress = new Progress(options.onProgress)
    return spec.kind === 'url'
      ? await urlModel(client, spec, progress)
      : await hubModel(client, spec, progress)
  } catch (error) {
    if (signal?.aborted) throw abortError(call, signal.reason)
    if (error instanceof TransientError) throw client.givenUp(error, 1)
    throw fileError(call, settings.cacheDir, error)
  } finally {
    stopListening()
    client.close()
  }
}

function isUrlLike(value: unknown): boolean {
  // Not instanceof: the URL may come from another realm.
  return typeof value === 'object' && value !== null && typeof (value as URL).href === 'string'
}

async function hubModel(client: HttpClient, spec: HubSpec, progress: Progress): Promise<string> {
  const { settings } = client
  const cache = new RepositoryCache(settings.cacheDir, spec.repo)
  if (settings.offline) return fromCache(client, spec, cache)
  // A file of a commit never changes.
  if (isCommit(spec.revision) && spec.file !== undefined) {
    const path = await fromCache(client, spec, cache).catch(() => undefined)
    if (path !== undefined) return path
  }
  const open = () => RemoteSnapshot.open(client, spec, cache, progress)
  let snapshot: RemoteSnapshot
  try {
    snapshot = await open()
  } catch (error) {
    if (client.signal.aborted || (error instanceof CriaError && error.code === 'ERR_FILE_NOT_FOUND'))
      throw error
    // Whatever keeps the hub from answering, a missing token included: what was downloaded stays usable.
    const path = await fromCache(client, spec, cache).catch(() => undefined)
    if (path !== undefined) return path
    if (!(error instanceof TransientError)) throw error
    snapshot = await client.retrying(open)
  }
  const path = await provide(client.call, spec, cache, snapshot)
  // Last, so that a revision in the cache never points to a snapshot that lacks files.
  await cache.remember(spec.revision, snapshot.commit)
  return path
}

async function fromCache(client: HttpClient, spec: HubSpec, cache: RepositoryCache): Promise<string> {
  const { call } = client
  const commit = await cache.commitOf(spec.revision)
  const snapshot = commit && new CachedSnapshot(call, spec, cache, commit)
  if (!snapshot || (await snapshot.list()).length === 0) throw notCached(call, spec)
  try {
    return await provide(call, spec, cache, snapshot)
  } catch (error) {
    // What the cache does not show may well be on the hub.
    if (error instanceof CriaError && error.code === 'ERR_FILE_NOT_FOUND') throw notCached(call, spec)
    throw error
  }
}

/** Brings the files that a spec stands for into the cache. Weights come last: they stand for the whole. */
async function provide(
  call: string,
  spec: HubSpec,
  cache: RepositoryCache,
  snapshot: Snapshot,
): Promise<string> {
  const at = (name: string) => cache.file(snapshot.commit, name)
  if (spec.file === undefined && spec.tag === undefined) {
    const files = folderFiles(await snapshot.list(), spec.folder)
    if (files) {
      await snapshot.fetch(files.small)
      let { weights } = files
      if (files.index !== undefined) {
        await snapshot.fetch([files.index])
        weights = shardsOf(call, files.index, await readFile(at(files.index), 'utf8'))
      }
      await snapshot.fetch(weights)
      return spec.folder === undefined ? cache.snapshot(snapshot.commit) : at(spec.folder)
    }
  }
  const name = spec.file ?? chooseGguf(call, spec, await snapshot.list())
  const parts = splitParts(name) ?? [name]
  await snapshot.fetch(parts)
  return at(parts[0]!)
}
