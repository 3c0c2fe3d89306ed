/** Shapes of known Llamas, and which tensors a file of a given type is made of. */

/** ggml's tensor types by the names of the GGUF specification: id, elements per block, bytes per block. */
export const TENSOR_TYPES = {
  F32: { id: 0, block: 1, bytes: 4 },
  F16: { id: 1, block: 1, bytes: 2 },
  Q4_0: { id: 2, block: 32, bytes: 18 },
  Q4_1: { id: 3, block: 32, bytes: 20 },
  Q5_0: { id: 6, block: 32, bytes: 22 },
  Q5_1: { id: 7, block: 32, bytes: 24 },
  Q8_0: { id: 8, block: 32, bytes: 34 },
  Q2_K: { id: 10, block: 256, bytes: 84 },
  Q3_K: { id: 11, block: 256, bytes: 110 },
  Q4_K: { id: 12, block: 256, bytes: 144 },
  Q5_K: { id: 13, block: 256, bytes: 176 },
  Q6_K: { id: 14, block: 256, bytes: 210 },
  IQ4_NL: { id: 20, block: 32, bytes: 18 },
  IQ4_XS: { id: 23, block: 256, bytes: 136 },
  BF16: { id: 30, block: 1, bytes: 2 },
} as const

export type TensorType = keyof typeof TENSOR_TYPES

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
  /** No output matrix: the embedding serves as one. */
  tied: boolean
}

const LLAMA_3 = { vocabSize: 128256, contextLength: 131072, ropeBase: 500000 }

const SHAPES = {
  'llama-3.2-1b': {
    ...{ layers: 16, hidden: 2048, heads: 32, kvHeads: 8, headDim: 64, ffnHidden: 8192, tied: true },
    ...LLAMA_3,
  },
  'llama-3.2-3b': {
    ...{ layers: 28, hidden: 3072, heads: 24, kvHeads: 8, headDim: 128, ffnHidden: 8192, tied: true },
    ...LLAMA_3,
  },
  'llama-3.1-8b': {
    ...{ layers: 32, hidden: 4096, heads: 32, kvHeads: 8, headDim: 128, ffnHidden: 14336, tied: false },
    ...LLAMA_3,
  },
  'llama-2-7b': {
    ...{ layers: 32, hidden: 4096, heads: 32, kvHeads: 32, headDim: 128, ffnHidden: 11008, tied: false },
    ...{ vocabSize: 32000, contextLength: 4096, ropeBase: 10000 },
  },
  // For tests: as small as blocks of 256 allow.
  'test-tiny': {
    ...{ layers: 2, hidden: 256, heads: 4, kvHeads: 2, headDim: 64, ffnHidden: 512, tied: true },
    ...{ vocabSize: 600, contextLength: 512, ropeBase: 10000 },
  },
  'test-tiny-untied': {
    ...{ layers: 9, hidden: 256, heads: 2, kvHeads: 2, headDim: 128, ffnHidden: 256, tied: false },
    ...{ vocabSize: 400, contextLength: 512, ropeBase: 10000 },
  },
} satisfies Record<string, ModelShape>

/** Shapes that are named to people. */
export const SHAPE_NAMES = Object.keys(SHAPES).filter((name) => !name.startsWith('test-'))

export function shapeOf(name: string): ModelShape | undefined {
  return Object.hasOwn(SHAPES, name) ? SHAPES[name as keyof typeof SHAPES] : undefined
}

/** A matrix of a layer, or one of the two beside the layers. */
export type Role =
  | 'token_embd'
  | 'output'
  | 'attn_q'
  | 'attn_k'
  | 'attn_v'
  | 'attn_output'
  | 'ffn_gate'
  | 'ffn_up'
  | 'ffn_down'

/** Type of a matrix; `layer` is -1 outside the layers. */
type Mix = (role: Role, layer: number, shape: ModelShape) => TensorType

/** llama.cpp's choice of the layers that get more bits: the first and the last eighth, and every third between them. */
function moreBits(layer: number, layers: number): boolean {
  const eighth = Math.floor(layers / 8)
  return layer < eighth || layer >= Math.floor((7 * layers) / 8) || (layer - eighth) % 3 === 2
}

/** Q4_K_M and Q5_K_M: values and ffn_down of half of the layers, and the output matrix, in Q6_K. */
const mediumMix =
  (base: TensorType): Mix =>
  (role, layer, { layers, tied }) => {
    if (role === 'output' || (role === 'token_embd' && tied)) return 'Q6_K'
    return (role === 'attn_v' || role === 'ffn_down') && moreBits(layer, layers) ? 'Q6_K' : base
  }

const q3KM: Mix = (role, layer, { layers, tied }) => {
  if (role === 'output' || (role === 'token_embd' && tied)) return 'Q6_K'
  if (role === 'attn_v') return layer < 2 ? 'Q5_K' : 'Q4_K'
  if (role === 'ffn_down') return layer < Math.floor(layers / 16) ? 'Q5_K' : 'Q4_K'
  return role === 'attn_output' ? 'Q4_K' : 'Q3_K'
}

/** What llama.cpp's quantize does under these names (src/llama-quant.cpp). A tensor type's name means that type alone. */
const MIXES: Record<string, Mix> = { Q3_K_M: q3KM, Q4_K_M: mediumMix('Q4_K'), Q5_K_M: mediumMix('Q5_K') }

/** Names of the types a synthetic file can have. */
export const FILE_TYPES = [...Object.keys(TENSOR_TYPES), ...Object.keys(MIXES)]

export interface TensorPlan {
  name: string
  type: TensorType
  /** In GGUF's order: the contiguous dimension first. One dimension: a norm. */
  dims: number[]
}

/** Every tensor of a model, in the file's order. */
export function tensorPlan(shape: ModelShape, fileType: string): TensorPlan[] {
  const mix: Mix = MIXES[fileType] ?? (() => fileType as TensorType)
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

export function elementsOf({ dims }: TensorPlan): number {
  return dims.reduce((product, size) => product * size, 1)
}

export function bytesOf(tensor: TensorPlan): number {
  const { block, bytes } = TENSOR_TYPES[tensor.type]
  return (elementsOf(tensor) / block) * bytes
}
