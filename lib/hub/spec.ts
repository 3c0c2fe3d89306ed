/** Names of models that have to be downloaded: `hf:owner/repo...`, pages of the hub, plain URLs. */

import { CriaError, invalidArgument } from '../errors'

/** Something in a repository of the hub. At most one of `file`, `folder` and `tag` is set. */
export interface HubSpec {
  readonly kind: 'hub'
  /** `owner/repo`. */
  readonly repo: string
  /** A branch, a tag or a commit. */
  readonly revision: string
  readonly file?: string
  /** A folder of the repository; absent: its root. */
  readonly folder?: string
  /** A quantization, such as `Q4_K_M`. */
  readonly tag?: string
}

export interface UrlSpec {
  readonly kind: 'url'
  /** Without a fragment. */
  readonly url: URL
  /** From the fragment `#sha256=<64 hexadecimal digits>`. */
  readonly sha256?: string
}

export type ModelSpec = HubSpec | UrlSpec

const FORMS =
  "'hf:owner/repo', 'hf:owner/repo:Q4_K_M', 'hf:owner/repo/file.gguf' (each with @revision after the repo) or an http(s) URL"

const HUB_HOSTS = new Set(['huggingface.co', 'www.huggingface.co', 'hf.co'])

/** Whether a name has to be looked up by this module. Everything else is a path. */
export function isRemote(name: string): boolean {
  return /^(hf:|https?:\/\/)/i.test(name)
}

/**
 * Reads the name of a model.
 * @throws ERR_INVALID_ARGUMENT
 */
export function parseSpec(call: string, name: string, endpoint: string): ModelSpec {
  if (/^hf:/i.test(name)) return parseHub(call, name)
  if (/^https?:\/\//i.test(name) && URL.canParse(name)) {
    const url = new URL(name)
    return hubPage(call, url, endpoint) ?? plainUrl(call, url)
  }
  throw invalidArgument(call, 'model', FORMS, name)
}

function parseHub(call: string, name: string): HubSpec {
  const [owner, ...rest] = name.replace(/^hf:(\/\/)?/i, '').split('/')
  // Of the revisions with a slash, these two can be written as they are; of others, write the slash as %2F.
  const joined = rest.join('/').replace(/@refs\/(pr\/\d+|convert\/[\w.-]+)/, (text) => encodeSlashes(text))
  const [head = '', ...path] = joined.split('/')
  const match = /^([^@:]+)(?:@([^:]+))?(?::(.+))?$/.exec(head)
  if (!owner || !match) throw invalidArgument(call, 'model', FORMS, name)
  const [, repo, revision, tag] = match
  if (tag !== undefined && (path.length > 0 || !/^[\w.-]{1,64}$/.test(tag))) {
    throw invalidArgument(call, 'model', `${FORMS}; a quantization such as :Q4_K_M ends it`, name)
  }
  return hubSpec(call, `${owner}/${repo}`, revision === undefined ? 'main' : decode(revision), path, tag)
}

const encodeSlashes = (text: string) => text.replaceAll('/', '%2F')

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

function hubSpec(call: string, repo: string, revision: string, path: string[], tag?: string): HubSpec {
  checkRepo(call, repo)
  checkRevision(call, revision)
  const base = { kind: 'hub', repo, revision } as const
  if (tag !== undefined) return { ...base, tag }
  const isFolder = path.at(-1) === ''
  const name = (isFolder ? path.slice(0, -1) : path).join('/')
  if (name === '') return base
  if (!isSafeName(name)) {
    throw invalidArgument(call, 'model', 'a name whose file lies in the repository', name)
  }
  return { ...base, ...(isFolder ? { folder: name } : { file: name }) }
}

/** An address of the hub that a browser shows: of a repository, a folder or a file. */
function hubPage(call: string, url: URL, endpoint: string): HubSpec | undefined {
  const ownHost = URL.canParse(endpoint) && new URL(endpoint).origin === url.origin
  if (!ownHost && !(url.protocol === 'https:' && HUB_HOSTS.has(url.hostname))) return undefined
  const prefix = ownHost ? new URL(endpoint).pathname.replace(/\/+$/, '') : ''
  if (!url.pathname.startsWith(`${prefix}/`)) return undefined
  const [owner, repo, action, revision, ...path] = url.pathname
    .slice(prefix.length + 1)
    .split('/')
    .map(decode)
  if (!owner || !repo || !isRepo(`${owner}/${repo}`)) return undefined
  if (/^(datasets|spaces|kernels|buckets|api|models|docs)$/.test(owner)) return undefined
  const name = `${owner}/${repo}`
  if (!action) return hubSpec(call, name, 'main', [])
  if (!revision || !/^(resolve|blob|raw|blame|tree)$/.test(action)) return undefined
  return hubSpec(call, name, revision, action === 'tree' ? [...path, ''] : path)
}

function plainUrl(call: string, url: URL): UrlSpec {
  const fragment = url.hash.slice(1)
  url.hash = ''
  if (fragment === '') return { kind: 'url', url }
  const [, sha256] = /^sha256=([0-9a-f]{64})$/i.exec(fragment) ?? []
  if (!sha256) {
    throw invalidArgument(call, 'the fragment of the URL', 'sha256=<64 hexadecimal digits>', fragment)
  }
  return { kind: 'url', url, sha256: sha256.toLowerCase() }
}

/** The hub's rule for names. It forbids what the cache gives a meaning: `--`, `..`, slashes. */
function isRepo(repo: string): boolean {
  return (
    /^[\w][\w.-]{0,95}\/[\w][\w.-]{0,95}$/.test(repo) &&
    !/--|\.\.|\.git$/.test(repo) &&
    !/[.-](\/|$)/.test(repo)
  )
}

function checkRepo(call: string, repo: string): void {
  if (isRepo(repo)) return
  throw invalidArgument(call, 'the repository', "'owner/repo' as the hub allows it", repo)
}

/** A commit: all of its 40 digits. */
export function isCommit(text: unknown): text is string {
  return typeof text === 'string' && /^[0-9a-f]{40}$/.test(text)
}

/** git's rule for names of branches and tags (git-check-ref-format), and safe as a path below `refs/`. */
function checkRevision(call: string, revision: string): void {
  const parts = revision.split('/')
  const fine =
    revision.length <= 255 &&
    /^[\w.+@=,#%/-]+$/.test(revision) &&
    !revision.startsWith('-') &&
    !revision.includes('@{') &&
    parts.every((part) => part !== '' && !part.startsWith('.') && !part.endsWith('.') && !part.includes('..'))
  if (!fine) throw invalidArgument(call, 'the revision', 'a branch, a tag or a commit', revision)
}

/**
 * Whether a name that a repository gives one of its files stays in the folder that it is written to, under
 * the rules of every system: relative, no `..`, no drive, no backslash.
 */
export function isSafeName(name: string): boolean {
  return (
    name.length > 0 &&
    name.length <= 1024 &&
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for
    !/[\x00-\x1f\x7f\\:]/.test(name) &&
    name.split('/').every((part) => part !== '' && part !== '.' && part !== '..' && part.length <= 255)
  )
}

/** The name of a spec as a caller writes it. */
export function specName(spec: ModelSpec): string {
  if (spec.kind === 'url') return spec.url.href
  const { repo, revision, file, folder, tag } = spec
  const at = revision === 'main' ? '' : `@${encodeSlashes(revision)}`
  if (tag !== undefined) return `hf:${repo}${at}:${tag}`
  return `hf:${repo}${at}${file ? `/${file}` : ''}${folder ? `/${folder}/` : ''}`
}

export function notFound(call: string, message: string, details: Record<string, unknown>): CriaError {
  return new CriaError('ERR_FILE_NOT_FOUND', `${call}: ${message}`, { details })
}
