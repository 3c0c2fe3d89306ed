/** `listModels` and `removeModel`: what the cache holds. */

import type { Stats } from 'node:fs'
import { readFile, readlink, rm, rmdir, stat, unlink } from 'node:fs/promises'
import { dirname, join, resolve, sep } from 'node:path'
import { checkOptions } from '../validate'
import { entries, RepositoryCache } from './cache'
import { fileError, fileSize, isMissing } from './files'
import { cacheRules } from './options'
import { chooseGguf, folderFiles, ggufModels, shardsOf, splitParts, withTag } from './select'
import { hubSettings } from './settings'
import { type HubSpec, notFound, parseSpec, specName } from './spec'
import { readFacts, urlFileName, urlFolder } from './url'

/** A model in the cache. */
export interface CachedModel {
  /** The name for `loadModel`, `downloadModel` and `removeModel`. */
  readonly name: string
  /** The local path: of a file, of the first part of a split file, or of a folder. */
  readonly path: string
  /** Whether all of it is there. */
  readonly complete: boolean
  /** Bytes on the disk. */
  readonly bytes: number
  /** Local paths of its files. */
  readonly files: readonly string[]
  /** When the newest file was downloaded. */
  readonly modified: Date
  /** The commit on the hub; absent for plain URLs and interrupted downloads. */
  readonly commit?: string
}

/** What `removeModel` has removed. */
export interface RemovedModel {
  /** Bytes that are free now. Content that another revision or model shares stays. */
  readonly freedBytes: number
  /** Removed files, as the model names them. */
  readonly files: readonly string[]
}

/**
 * The models in the cache, also those that huggingface_hub for Python has downloaded, by name. Repositories
 * without a model that cria could name are left out.
 * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_IO
 */
export async function listModels(options?: { cacheDir?: string | undefined }): Promise<CachedModel[]> {
  const call = 'listModels'
  const { cacheDir, urlDir } = hubSettings(checkOptions(call, options, cacheRules))
  try {
    const models: CachedModel[] = []
    for (const { name } of await entries(cacheDir)) {
      const [, owner, repo] = /^models--([^-].*?)--(.+)$/.exec(name) ?? []
      if (owner && repo)
        models.push(...(await repositoryModels(new RepositoryCache(cacheDir, `${owner}/${repo}`))))
    }
    models.push(...(await urlModels(urlDir)))
    return models.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
  } catch (error) {
    throw fileError(call, cacheDir, error)
  }
}

async function repositoryModels(cache: RepositoryCache): Promise<CachedModel[]> {
  const models: CachedModel[] = []
  const refs = await cache.refs()
  for (const commit of await cache.commits()) {
    const names = await cache.files(commit)
    const known = refs.get(commit) ?? []
    const revision = known.includes('main') ? 'main' : (known[0] ?? commit)
    const base: HubSpec = { kind: 'hub', repo: cache.repo, revision }
    for (const name of ggufModels(names)) {
      const parts = splitParts(name) ?? [name]
      const complete = parts.every((part) => names.includes(part))
      models.push(await describe(cache, commit, { ...base, file: name }, parts, complete))
    }
    for (const folder of foldersOf(names)) {
      const files = folderFiles(names, folder)
      if (!files) continue
      const shards =
        files.index === undefined ? files.weights : await cachedShards(cache, commit, files.index)
      const all = [...files.small, ...(files.index === undefined ? [] : [files.index]), ...shards]
      const complete = shards.length > 0 && shards.every((name) => names.includes(name))
      models.push(
        await describe(cache, commit, folder === undefined ? base : { ...base, folder }, all, complete),
      )
    }
  }
  const interrupted = await interruptedDownloads(cache)
  return interrupted ? [...models, interrupted] : models
}

/** The folders of a snapshot that may hold a model; undefined stands for its root. */
function foldersOf(names: readonly string[]): (string | undefined)[] {
  const found = new Set<string | undefined>()
  for (const name of names) {
    const [, folder] = /^(?:(.+)\/)?(?:config|adapter_config|params)\.json$/.exec(name) ?? ['', null]
    if (folder !== null) found.add(folder)
  }
  return [...found]
}

async function cachedShards(cache: RepositoryCache, commit: string, index: string): Promise<string[]> {
  try {
    return shardsOf('listModels', index, await readFile(cache.file(commit, index), 'utf8'))
  } catch {
    return [] // Not a usable index: the model is not complete.
  }
}

async function describe(
  cache: RepositoryCache,
  commit: string,
  spec: HubSpec,
  names: readonly string[],
  complete: boolean,
): Promise<CachedModel> {
  const files = names.map((name) => cache.file(commit, name))
  const path = spec.file ?? spec.folder
  return {
    name: specName(spec),
    path: path === undefined ? cache.snapshot(commit) : cache.file(commit, path),
    complete,
    ...(await measure(files)),
    commit,
  }
}

/** Adds up the files that exist. */
async function measure(paths: readonly string[]): Promise<Pick<CachedModel, 'bytes' | 'files' | 'modified'>> {
  const found = new Map<string, Stats>()
  for (const path of paths) {
    try {
      found.set(path, await stat(path))
    } catch (error) {
      if (!isMissing(error)) throw error
    }
  }
  const stats = [...found.values()]
  return {
    bytes: stats.reduce((sum, { size }) => sum + size, 0),
    files: [...found.keys()],
    modified: new Date(Math.max(0, ...stats.map(({ mtimeMs }) => mtimeMs))),
  }
}

/** Their names are hashes: nobody knows of which files. */
async function interruptedDownloads(cache: RepositoryCache): Promise<CachedModel | undefined> {
  const blobs = join(cache.folder, 'blobs')
  const partial = (await entries(blobs)).filter(({ name }) => name.endsWith('.incomplete'))
  if (partial.length === 0) return undefined
  const measured = await measure(partial.map(({ name }) => join(blobs, name)))
  return { name: `hf:${cache.repo}`, path: cache.folder, complete: false, ...measured }
}

async function urlModels(urlDir: string): Promise<CachedModel[]> {
  const models: CachedModel[] = []
  for (const folder of await entries(urlDir)) {
    const names = (await entries(join(urlDir, folder.name))).map(({ name }) => name)
    for (const json of names.filter((name) => name.endsWith('.json'))) {
      const name = json.replace(/(\.incomplete)?\.json$/, '')
      const facts = await readFacts(join(urlDir, folder.name, json))
      const parts = splitParts(name) ?? [name]
      if (!facts || name !== parts[0]) continue
      const interrupted = json.endsWith('.incomplete.json')
      const files = parts.map((part) => join(urlDir, folder.name, interrupted ? `${part}.incomplete` : part))
      const complete = !interrupted && parts.every((part) => names.includes(part))
      models.push({ name: facts.url, path: files[0]!, complete, ...(await measure(files)) })
    }
  }
  return models
}

/**
 * Removes a model from the cache: for `hf:owner/repo`, all that the cache has of the repository; with a file,
 * a folder or a quantization, those files alone. With `@revision`, other revisions stay.
 * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_FILE_NOT_FOUND, ERR_IO
 */
export async function removeModel(
  name: string,
  options?: { cacheDir?: string | undefined },
): Promise<RemovedModel> {
  const call = 'removeModel'
  const { cacheDir, urlDir, endpoint } = hubSettings(checkOptions(call, options, cacheRules))
  const spec = parseSpec(call, String(name), endpoint)
  try {
    const removed =
      spec.kind === 'url'
        ? await removeUrl(urlDir, spec.url)
        : await removeFromRepository(call, spec, new RepositoryCache(cacheDir, spec.repo))
    if (removed) return removed
  } catch (error) {
    throw fileError(call, cacheDir, error)
  }
  throw notFound(call, `${specName(spec)} is not in the cache`, { model: specName(spec) })
}

async function removeUrl(urlDir: string, url: URL): Promise<RemovedModel | undefined> {
  const folder = urlFolder(urlDir, url)
  const name = urlFileName(url)
  const files: string[] = []
  let freedBytes = 0
  for (const part of splitParts(name) ?? [name]) {
    for (const suffix of ['', '.incomplete', '.json', '.incomplete.json']) {
      const path = join(folder, part + suffix)
      const bytes = await fileSize(path)
      if (bytes === undefined) continue
      await rm(path)
      freedBytes += bytes
      if (!suffix.endsWith('.json')) files.push(part)
    }
  }
  await rmdir(folder).catch(() => {})
  return files.length > 0 ? { freedBytes, files } : undefined
}

async function removeFromRepository(
  call: string,
  spec: HubSpec,
  cache: RepositoryCache,
): Promise<RemovedModel | undefined> {
  const all = await cache.commits()
  const only = spec.revision === 'main' ? undefined : await cache.commitOf(spec.revision)
  const isWhole = spec.file === undefined && spec.folder === undefined && spec.tag === undefined
  if (isWhole && (spec.revision === 'main' || (all.length === 1 && all[0] === only))) return removeAll(cache)
  const removed: string[] = []
  let freedBytes = 0
  for (const commit of all) {
    if (spec.revision !== 'main' && commit !== only) continue
    const names = wanted(call, spec, await cache.files(commit))
    freedBytes += await removeFiles(cache, commit, names)
    removed.push(...names)
  }
  if (removed.length === 0) return undefined
  if ((await cache.commits()).length === 0 && !(await interruptedDownloads(cache))) await removeAll(cache)
  return { freedBytes, files: [...new Set(removed)] }
}

/** The files of a snapshot that a spec stands for. */
function wanted(call: string, spec: HubSpec, names: string[]): string[] {
  const { file, folder, tag } = spec
  if (tag !== undefined) {
    if (withTag(ggufModels(names), tag).length === 0) return []
    const chosen = chooseGguf(call, spec, names)
    const parts = splitParts(chosen) ?? [chosen]
    return names.filter((name) => parts.includes(name))
  }
  if (folder !== undefined) return names.filter((name) => name.startsWith(`${folder}/`))
  if (file === undefined) return names
  const parts = splitParts(file) ?? [file]
  return names.filter((name) => parts.includes(name))
}

async function removeAll(cache: RepositoryCache): Promise<RemovedModel | undefined> {
  const blobs = join(cache.folder, 'blobs')
  const paths = (await entries(blobs)).filter((entry) => entry.isFile()).map(({ name }) => join(blobs, name))
  const files = new Set<string>()
  for (const commit of await cache.commits()) {
    for (const name of await cache.files(commit)) {
      files.add(name)
      const path = cache.file(commit, name)
      if ((await blobOf(cache, path)) === undefined) paths.push(path)
    }
  }
  const { bytes } = await measure(paths)
  const isEmpty = files.size === 0 && bytes === 0
  // First what points to blobs, so that nothing points to a missing one if this is interrupted.
  for (const part of ['refs', 'snapshots', ''])
    await rm(join(cache.folder, part), { recursive: true, force: true })
  await rm(cache.locks, { recursive: true, force: true })
  return isEmpty ? undefined : { freedBytes: bytes, files: [...files] }
}

/** Removes files of one snapshot, and the blobs that no other file shows. Returns the bytes freed. */
async function removeFiles(
  cache: RepositoryCache,
  commit: string,
  names: readonly string[],
): Promise<number> {
  let freed = 0
  const blobs = new Set<string>()
  for (const name of names) {
    const path = cache.file(commit, name)
    const blob = await blobOf(cache, path)
    if (blob === undefined) freed += (await fileSize(path)) ?? 0
    else blobs.add(blob)
    await unlink(path)
    await removeEmptyFolders(dirname(path), cache.snapshot(commit))
  }
  for (const other of await cache.commits()) {
    for (const name of await cache.files(other)) {
      const blob = await blobOf(cache, cache.file(other, name))
      if (blob !== undefined) blobs.delete(blob)
    }
  }
  if ((await cache.files(commit)).length === 0) await removeRefs(cache, commit)
  for (const blob of blobs) {
    freed += await ownBytes(blob)
    await rm(blob, { force: true })
  }
  return freed
}

/** The blob that a file of a snapshot links to; undefined if it is no link into the repository's blobs. */
async function blobOf(cache: RepositoryCache, path: string): Promise<string | undefined> {
  try {
    const target = resolve(dirname(path), await readlink(path))
    return target.startsWith(join(cache.folder, 'blobs') + sep) ? target : undefined
  } catch {
    return undefined // No link.
  }
}

/** A blob may itself be a link into a store that Python shares between repositories; that content stays. */
async function ownBytes(blob: string): Promise<number> {
  const isLink = await readlink(blob).then(
    () => true,
    () => false,
  )
  return isLink ? 0 : ((await fileSize(blob)) ?? 0)
}

async function removeRefs(cache: RepositoryCache, commit: string): Promise<void> {
  for (const revision of (await cache.refs()).get(commit) ?? []) {
    await rm(join(cache.folder, 'refs', ...revision.split('/')), { force: true })
  }
  await rm(cache.snapshot(commit), { recursive: true, force: true })
}

async function removeEmptyFolders(folder: string, top: string): Promise<void> {
  for (let one = folder; one.startsWith(top + sep); one = dirname(one)) {
    try {
      await rmdir(one)
    } catch {
      return // It holds something.
    }
  }
}
