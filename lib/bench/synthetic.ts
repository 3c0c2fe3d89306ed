/** Synthetic models: random weights in the shapes of known Llamas, kept in the user's cache folder. */

import { type FileHandle, mkdir, open, rename, rm, stat, statfs } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { abortError, CriaError, invalidArgument } from '../errors'
import { closestOption } from '../validate'
import { GgufHeader, padding } from './gguf_header'
import { RandomWeights } from './random_weights'
import {
  FILE_TYPES,
  type ModelShape,
  SHAPE_NAMES,
  shapeOf,
  type TensorPlan,
  tensorBytes,
  tensorPlan,
} from './shapes'

/** Part of the file name; increased when the same spec gives different bytes. */
const FORMAT_VERSION = 1
const SEED = 1

export interface SyntheticModel {
  /** As given, e.g. `'llama-3.2-1b:Q4_K_M'`. */
  spec: string
  shape: ModelShape
  /** A weight type, or a mix such as `'Q4_K_M'`. */
  type: string
  /** The name of the file in the cache folder. */
  fileName: string
}

export interface SyntheticOptions {
  /** The folder of the file. Default: `$XDG_CACHE_HOME/cria/bench`, or `~/.cache/cria/bench`. */
  folder?: string | undefined
  /** Write the file even if it exists. */
  anew?: boolean | undefined
  onProgress?: ((progress: { loadedBytes: number; totalBytes: number; fraction: number }) => void) | undefined
  signal?: AbortSignal | undefined
}

/**
 * Parses `<shape>:<type>`, e.g. `llama-3.2-1b:Q4_K_M`, ignoring case.
 * @throws ERR_INVALID_ARGUMENT
 */
export function parseSynthetic(spec: string): SyntheticModel {
  const [shapeName = '', typeName = '', ...rest] = spec.split(':')
  const shape = shapeOf(shapeName.toLowerCase())
  const type = FILE_TYPES.find((name) => name === typeName.toUpperCase())
  if (shape && type && rest.length === 0) {
    return { spec, shape, type, fileName: `${shapeName.toLowerCase()}.${type}.v${FORMAT_VERSION}.gguf` }
  }
  const [kind, known, found] = shape ? ['types', FILE_TYPES, typeName] : ['shapes', SHAPE_NAMES, shapeName]
  const closest = closestOption(found, known)
  const hint = closest && closest !== found ? ` (did you mean '${closest}'?)` : ''
  const expected = `<shape>:<type>, with one of the ${kind} ${known.join(', ')}${hint}`
  throw invalidArgument('bench', "option 'synthetic'", expected, spec, { option: 'synthetic', known })
}

export function cacheFolder(): string {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'cria', 'bench')
}

/**
 * The path of the model's file, which is written first if it is not in the cache. It has the same bytes on
 * every machine.
 * @throws (rejects) ERR_IO, ERR_ABORTED
 */
export async function syntheticFile(model: SyntheticModel, options: SyntheticOptions = {}): Promise<string> {
  const { folder = cacheFolder(), anew = false } = options
  const path = join(folder, model.fileName)
  const tensors = tensorPlan(model.shape, model.type)
  const { header, fileBytes } = metadata(model).encode(tensors)
  const existing = await stat(path).catch(() => undefined)
  if (existing?.size === fileBytes && !anew) return path

  const temporary = `${path}.${process.pid}.part`
  let file: FileHandle | undefined
  try {
    await mkdir(folder, { recursive: true })
    await checkSpace(folder, fileBytes)
    file = await open(temporary, 'w')
    await writeModel(file, header, tensors, fileBytes, options)
    await file.close()
    await rename(temporary, path)
    return path
  } catch (error) {
    await file?.close().catch(() => {})
    await rm(temporary, { force: true }).catch(() => {})
    if (error instanceof CriaError) throw error
    throw new CriaError('ERR_IO', `bench: cannot write ${path}: ${(error as Error).message}`, {
      details: { path },
      cause: error,
    })
  }
}

async function writeModel(
  file: FileHandle,
  header: Buffer,
  tensors: TensorPlan[],
  totalBytes: number,
  { signal, onProgress }: SyntheticOptions,
): Promise<void> {
  await file.writeFile(header)
  let loadedBytes = header.length
  const weights = new RandomWeights(SEED)
  for (const tensor of tensors) {
    for (const piece of [...weights.dataOf(tensor), padding(tensorBytes(tensor))]) {
      if (signal?.aborted) throw abortError('bench', signal.reason)
      await file.writeFile(piece)
      loadedBytes += piece.length
      onProgress?.({ loadedBytes, totalBytes, fraction: loadedBytes / totalBytes })
    }
  }
}

async function checkSpace(folder: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(folder)
  const free = bavail * bsize
  if (free >= bytes) return
  const gigabytes = (value: number) => `${(value / 1e9).toFixed(1)} GB`
  throw new CriaError(
    'ERR_IO',
    `bench: the model needs ${gigabytes(bytes)}, but ${folder} has only ${gigabytes(free)} free; ` +
      'set XDG_CACHE_HOME to use another cache folder',
    { details: { path: folder, requestedBytes: bytes, availableBytes: free } },
  )
}

function metadata({ spec, shape }: SyntheticModel): GgufHeader {
  const gguf = new GgufHeader()
    .set('general.architecture', 'string', 'llama')
    .set('general.name', 'string', `synthetic ${spec}`)
    .set('general.quantization_version', 'u32', 2)
    .set('llama.vocab_size', 'u32', shape.vocabSize)
    .set('llama.context_length', 'u32', shape.contextLength)
    .set('llama.embedding_length', 'u32', shape.hidden)
    .set('llama.block_count', 'u32', shape.layers)
    .set('llama.feed_forward_length', 'u32', shape.ffnHidden)
    .set('llama.attention.head_count', 'u32', shape.heads)
    .set('llama.attention.head_count_kv', 'u32', shape.kvHeads)
    .set('llama.attention.layer_norm_rms_epsilon', 'f32', 1e-5)
    .set('llama.rope.dimension_count', 'u32', shape.headDim)
    .set('llama.rope.freq_base', 'f32', shape.ropeBase)
  return addVocabulary(gguf, shape.vocabSize)
}

/** A SentencePiece vocabulary for any text: three special tokens, the bytes, and invented words. */
function addVocabulary(gguf: GgufHeader, size: number): GgufHeader {
  const [normal, unknown, control, byte] = [1, 2, 3, 6] as const
  const tokens = ['<unk>', '<s>', '</s>']
  const types: number[] = [unknown, control, control]
  for (let value = 0; value < 256; value++) {
    tokens.push(`<0x${value.toString(16).toUpperCase().padStart(2, '0')}>`)
    types.push(byte)
  }
  const space = '\u2581'
  for (let n = -1; tokens.length < size; n++) {
    tokens.push(n < 0 ? space : `${n % 2 === 0 ? space : ''}${word(n)}`)
    types.push(normal)
  }
  return gguf
    .set('tokenizer.ggml.model', 'string', 'llama')
    .setArray('tokenizer.ggml.tokens', 'string', tokens)
    .setArray(
      'tokenizer.ggml.scores',
      'f32',
      tokens.map((_, id) => (id < 259 ? 0 : 258 - id)),
    )
    .setArray('tokenizer.ggml.token_type', 'i32', types)
    .set('tokenizer.ggml.unknown_token_id', 'u32', 0)
    .set('tokenizer.ggml.bos_token_id', 'u32', 1)
    .set('tokenizer.ggml.eos_token_id', 'u32', 2)
    .set('tokenizer.ggml.add_bos_token', 'bool', true)
    .set('tokenizer.ggml.add_eos_token', 'bool', false)
}

const SYLLABLES = [...'bcdfghjklmnprstvwz'].flatMap((consonant) =>
  [...'aeiou'].map((vowel) => consonant + vowel),
)

/** Spells a number in syllables, a different word for every number. */
function word(n: number): string {
  const digits: string[] = []
  for (let rest = n; ; rest = Math.floor(rest / SYLLABLES.length)) {
    digits.unshift(SYLLABLES[rest % SYLLABLES.length]!)
    if (rest < SYLLABLES.length) return digits.join('')
  }
}
