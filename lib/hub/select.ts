/** Which files of a repository make up a model. */

import { CriaError } from '../errors'
import { type HubSpec, isSafeName, notFound, specName } from './spec'

/** The quantization that a repository of GGUF files is asked for, in this order, if the caller names none. */
export const DEFAULT_TAGS = ['Q4_K_M', 'Q4_K_S', 'Q4_0', 'Q5_K_M', 'Q6_K', 'Q8_0', 'BF16', 'F16']

/** More parts than any model has. */
const MAX_PARTS = 1000

const SPLIT = /-(\d{5})-of-(\d{5})\.gguf$/i

/** What the loader reads of a Hugging Face folder beside the weights. */
const FOLDER_FILES = new Set([
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer.model',
  'tokenizer_config.json',
  'tekken.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.json',
  'merges.txt',
  'chat_template.jinja',
  'chat_template.json',
  'adapter_config.json',
])

const TEMPLATES = /^additional_chat_templates\/[^/]+\.jinja$/

export interface FolderFiles {
  /** Everything but the weights. */
  readonly small: string[]
  /** The index that names the weights. */
  readonly index?: string
  /** The weights, if there is no index. */
  readonly weights: string[]
}

/** All parts of a split GGUF file, of which `name` is one; undefined if it is not split. */
export function splitParts(name: string): string[] | undefined {
  const [suffix, , count] = SPLIT.exec(name) ?? []
  const parts = Number(count)
  if (suffix === undefined || !(parts >= 1 && parts <= MAX_PARTS)) return undefined
  const stem = name.slice(0, -suffix.length)
  return Array.from({ length: parts }, (_, i) => `${stem}-${String(i + 1).padStart(5, '0')}-of-${count}.gguf`)
}

/** The quantization that ends the name of a GGUF file, in upper case, as in `model.Q4_K_M.gguf`. */
export function quantization(name: string): string | undefined {
  const stem = name.replace(SPLIT, '').replace(/\.gguf$/i, '')
  const types = '(?:UD-)?(?:I?Q\\d(?:_[A-Z0-9]+)*|TQ\\d_\\d|MXFP4(?:_MOE)?|NVFP4|BF16|F16|F32|FP16|FP32)'
  return new RegExp(`(?:^|[-._/])(${types})$`, 'i').exec(stem)?.[1]?.toUpperCase()
}

/** The models among GGUF files: the first part of each; no projectors and importance matrices. */
export function ggufModels(names: readonly string[]): string[] {
  return names.filter((name) => {
    if (!/\.gguf$/i.test(name) || !isSafeName(name)) return false
    const base = name.slice(name.lastIndexOf('/') + 1)
    return !/mmproj|imatrix/i.test(base) && Number(SPLIT.exec(name)?.[1] ?? 1) === 1
  })
}

/**
 * The GGUF file that a spec names.
 * @throws ERR_FILE_NOT_FOUND if there is none; ERR_INVALID_ARGUMENT if there are several
 */
export function chooseGguf(call: string, spec: HubSpec, names: readonly string[]): string {
  const prefix = spec.folder === undefined ? '' : `${spec.folder}/`
  const models = ggufModels(names).filter((name) => name.startsWith(prefix))
  const shown = specName(spec)
  const labels = [...new Set(models.map(quantization).filter((label) => label !== undefined))].sort()
  const details = { model: shown, files: models.slice(0, 100) }
  if (models.length === 0) throw notFound(call, `${shown} has neither safetensors nor GGUF files`, details)
  if (spec.tag !== undefined) {
    const found = withTag(models, spec.tag)
    if (found.length === 1) return found[0]!
    if (found.length > 1) throw ambiguous(call, spec, found)
    const known =
      labels.length > 0 ? `it has ${labels.join(', ')}` : `it has ${models.join(', ').slice(0, 300)}`
    throw notFound(
      call,
      `${shown.slice(0, shown.lastIndexOf(':'))} has no GGUF file ${spec.tag}; ${known}`,
      details,
    )
  }
  if (models.length === 1) return models[0]!
  for (const tag of DEFAULT_TAGS) {
    const found = models.filter((name) => quantization(name) === tag)
    if (found.length === 1) return found[0]!
    if (found.length > 1) throw ambiguous(call, spec, found)
  }
  throw ambiguous(call, spec, models)
}

/** Files of exactly this quantization, else those that have the tag somewhere in their name. */
export function withTag(models: string[], tag: string): string[] {
  const wanted = tag.toUpperCase()
  const exact = models.filter((name) => quantization(name) === wanted)
  if (exact.length > 0) return exact
  return models.filter((name) => {
    const at = name.toUpperCase().indexOf(wanted)
    const bounds = `${name[at - 1] ?? '/'}${name[at + wanted.length] ?? '.'}`
    return at >= 0 && /^[-._/][-._/]$/.test(bounds)
  })
}

function ambiguous(call: string, spec: HubSpec, found: string[]): CriaError {
  const list = `${found.slice(0, 8).join(', ')}${found.length > 8 ? ', ...' : ''}`
  const message = `${call}: ${specName(spec)} can mean several files: ${list}; name one, as in hf:${spec.repo}/${found[0]}`
  return new CriaError('ERR_INVALID_ARGUMENT', message, { details: { model: specName(spec), files: found } })
}

/**
 * The files of a model in Hugging Face's or Meta's form, or of a LoRA adapter, in a folder of a repository;
 * undefined if it holds none.
 */
export function folderFiles(names: readonly string[], folder: string | undefined): FolderFiles | undefined {
  const prefix = folder === undefined ? '' : `${folder}/`
  const below = names.filter((name) => name.startsWith(prefix) && isSafeName(name))
  const inside = below.map((name) => name.slice(prefix.length))
  const has = (name: string) => inside.includes(name)
  const full = (list: string[]) => list.map((name) => prefix + name).sort()
  const small = full(inside.filter((name) => FOLDER_FILES.has(name) || TEMPLATES.test(name)))
  if (has('config.json')) {
    if (has('model.safetensors.index.json')) {
      return { small, index: `${prefix}model.safetensors.index.json`, weights: [] }
    }
    if (has('model.safetensors')) return { small, weights: full(['model.safetensors']) }
  }
  if (has('adapter_config.json') && has('adapter_model.safetensors')) {
    return { small, weights: full(['adapter_model.safetensors']) }
  }
  const checkpoints = inside.filter((name) => /^consolidated\.\d\d\.pth$/.test(name))
  if (has('params.json') && checkpoints.length > 0) {
    return { small: [...small, `${prefix}params.json`], weights: full(checkpoints) }
  }
  return undefined
}

/**
 * The files that an index of safetensors names.
 * @throws ERR_INVALID_FILE
 */
export function shardsOf(call: string, index: string, text: string): string[] {
  const prefix = index.slice(0, index.lastIndexOf('/') + 1)
  const fail = (problem: string) =>
    new CriaError('ERR_INVALID_FILE', `${call}: ${index}: ${problem}`, { details: { file: index } })
  let map: unknown
  try {
    map = (JSON.parse(text) as { weight_map?: unknown }).weight_map
  } catch (error) {
    throw fail(`not JSON: ${(error as Error).message}`)
  }
  if (typeof map !== 'object' || map === null || Array.isArray(map)) throw fail('it has no weight_map')
  const shards = new Set<string>()
  for (const shard of Object.values(map)) {
    if (typeof shard !== 'string' || !isSafeName(shard) || !shard.endsWith('.safetensors')) {
      throw fail(`${JSON.stringify(shard)?.slice(0, 80)} is no name of a safetensors file of the repository`)
    }
    shards.add(prefix + shard)
  }
  if (shards.size === 0 || shards.size > MAX_PARTS) throw fail(`it names ${shards.size} files`)
  return [...shards].sort()
}
