/** The dimensions of known Llamas, and the tensors of a file of a given type. */

import { bytesOf, elementsOf, WEIGHT_TYPES, type WeightType } from '../kernels/dtypes'

export interface ModelShape {
  layers: number
  hidden: number
  heads: number
  kvHeads: number
  headDim: number
  ffnHidden: number
  vocabSize: number
  contextLength: number
  ropeBase: number
  /** The embedding is also the output matrix. */
  tied: boolean
}

const LLAMA_3 = { vocabSize: 128256, contextLength: 131072, ropeBase: 500000 }

const SHAPES = {
  'llama-3.2-1b': {
    layers: 16,
    hidden: 2048,
    heads: 32,
    kvHeads: 8,
    headDim: 64,
    ffnHidden: 8192,
    tied: true,
    ...LLAMA_3,
  },
  'llama-3.2-3b': {
    layers: 28,
    hidden: 3072,
    heads: 24,
    kvHeads: 8,
    headDim: 128,
    ffnHidden: 8192,
    tied: true,
    ...LLAMA_3,
  },
  'llama-3.1-8b': {
    layers: 32,
    hidden: 4096,
    heads: 32,
    kvHeads: 8,
    headDim: 128,
    ffnHidden: 14336,
    tied: false,
    ...LLAMA_3,
  },
  'llama-2-7b': {
    layers: 32,
    hidden: 4096,
    heads: 32,
    kvHeads: 32,
    headDim: 128,
    ffnHidden: 11008,
    tied: false,
    vocabSize: 32000,
    contextLength: 4096,
    ropeBase: 10000,
  },
  // For tests: as small as blocks of 256 allow.
  'test-tiny': {
    layers: 2,
    hidden: 256,
    heads: 4,
    kvHeads: 2,
    headDim: 64,
    ffnHidden: 512,
    tied: true,
    vocabSize: 600,
    contextLength: 512,
    ropeBase: 10000,
  },
  'test-tiny-untied': {
    layers: 9,
    hidden: 256,
    heads: 2,
    kvHeads: 2,
    headDim: 128,
    ffnHidden: 256,
    tied: false,
    vocabSize: 400,
    contextLength: 512,
    ropeBase: 10000,
  },
} satisfies Record<string, ModelShape>

/** The names of the shapes, without those for tests. */
export const SHAPE_NAMES = Object.keys(SHAPES).filter((name) => !name.startsWith('test-'))

export function shapeOf(name: string): ModelShape | undefined {
  return Object.hasOwn(SHAPES, name) ? SHAPES[name as keyof typeof SHAPES] : undefined
}

/** A weight matrix of a layer, the embedding, or the output matrix. */
type Role =
  | 'token_embd'
  | 'output'
  | 'attn_q'
  | 'attn_k'
  | 'attn_v'
  | 'attn_output'
  | 'ffn_gate'
  | 'ffn_up'
  | 'ffn_down'

/** Chooses the type of each matrix; `layer` is -1 for the embedding and the output matrix. */
type Mix = (role: Role, layer: number, shape: ModelShape) => WeightType

/** llama.cpp's layers with more bits: the first and the last eighth, and every third layer in between. */
function hasMoreBits(layer: number, layers: number): boolean {
  const eighth = Math.floor(layers / 8)
  return layer < eighth || layer >= Math.floor((7 * layers) / 8) || (layer - eighth) % 3 === 2
}

/** Q4_K_M and Q5_K_M: attn_v and ffn_down of half of the layers, and the output matrix, are Q6_K. */
const mediumMix =
  (base: WeightType): Mix =>
  (role, layer, { layers, tied }) => {
    if (role === 'output' || (role === 'token_embd' && tied)) return 'Q6_K'
    return (role === 'attn_v' || role === 'ffn_down') && hasMoreBits(layer, layers) ? 'Q6_K' : base
  }

const q3KM: Mix = (role, layer, { layers, tied }) => {
  if (role === 'output' || (role === 'token_embd' && tied)) return 'Q6_K'
  if (role === 'attn_v') return layer < 2 ? 'Q5_K' : 'Q4_K'
  if (role === 'ffn_down') return layer < Math.floor(layers / 16) ? 'Q5_K' : 'Q4_K'
  return role === 'attn_output' ? 'Q4_K' : 'Q3_K'
}

/** The mixes of llama.cpp's quantize with the same names (src/llama-quant.cpp). */
const MIXES: Record<string, Mix> = {
  Q3_K_M: q3KM,
  Q4_K_M: mediumMix('Q4_K'),
  Q5_K_M: mediumMix('Q5_K'),
}

/** The types of a synthetic file: one weight type for all matrices, or a mix. */
export const FILE_TYPES = [...WEIGHT_TYPES, ...Object.keys(MIXES)]

export interface TensorPlan {
  name: string
  type: WeightType
  /** In GGUF's order, the contiguous dimension first. A tensor of one dimension is a norm. */
  dims: number[]
}

/** Every tensor of a model, in the order of the file. */
export function tensorPlan(shape: ModelShape, fileType: string): TensorPlan[] {
  const mix: Mix = MIXES[fileType] ?? (() => fileType as WeightType)
  const { hidden, heads, kvHeads, headDim, ffnHidden, vocabSize, layers, tied } = shape
  const matrix = (role: Role, layer: number, cols: number, rows: number): TensorPlan => ({
    name: `${layer < 0 ? '' : `blk.${layer}.`}${role}.weight`,
    type: mix(role, layer, shape),
    dims: [cols, rows],
  })
  const norm = (name: string): TensorPlan => ({ name: `${name}.weight`, type: 'F32', dims: [hidden] })
  const plan = [matrix('token_embd', -1, hidden, vocabSize)]
  for (let layer = 0; layer < layers; layer++) {
    plan.push(
      norm(`blk.${layer}.attn_norm`),
      matrix('attn_q', layer, hidden, heads * headDim),
      matrix('attn_k', layer, hidden, kvHeads * headDim),
      matrix('attn_v', layer, hidden, kvHeads * headDim),
      matrix('attn_output', layer, heads * headDim, hidden),
      norm(`blk.${layer}.ffn_norm`),
      matrix('ffn_gate', layer, hidden, ffnHidden),
      matrix('ffn_up', layer, hidden, ffnHidden),
      matrix('ffn_down', layer, ffnHidden, hidden),
    )
  }
  plan.push(norm('output_norm'))
  if (!tied) plan.push(matrix('output', -1, hidden, vocabSize))
  return plan
}

export function tensorBytes({ type, dims }: TensorPlan): number {
  return bytesOf(type, elementsOf(dims))
}
