/**
 * Storage types of tensors: their blocks, the typed arrays that hold them, and the arithmetic they run on.
 */

/** Types that a weight matrix can have, spelled as in the GGUF specification. */
export type WeightType =
  | 'F32'
  | 'F16'
  | 'BF16'
  | 'Q8_0'
  | 'Q4_0'
  | 'Q4_1'
  | 'Q5_0'
  | 'Q5_1'
  | 'Q2_K'
  | 'Q3_K'
  | 'Q4_K'
  | 'Q5_K'
  | 'Q6_K'
  | 'IQ4_NL'
  | 'IQ4_XS'
  | 'IQ1_S'
  | 'IQ1_M'
  | 'IQ2_XXS'
  | 'IQ2_XS'
  | 'IQ2_S'
  | 'IQ3_XXS'
  | 'IQ3_S'
  | 'TQ1_0'
  | 'TQ2_0'
  | 'MXFP4'
  | 'NVFP4'
  | 'Q1_0'
  | 'Q2_0'

/** Storage types: those of weights, plus Q8_1 and Q8_K, which hold activations only. */
export type DType = WeightType | 'Q8_1' | 'Q8_K'

/** A block is the smallest unit of storage; F32, F16 and BF16 have blocks of one element. */
interface BlockFormat {
  /** The type's number in a GGUF file. */
  readonly id: number
  /** Elements per block. */
  readonly block: number
  /** Bytes per block. */
  readonly bytes: number
}

/** ggml's tensor types, as in the GGUF specification. */
const WEIGHT_FORMATS: Readonly<Record<WeightType, BlockFormat>> = {
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
  IQ1_S: { id: 19, block: 256, bytes: 50 },
  IQ1_M: { id: 29, block: 256, bytes: 56 },
  IQ2_XXS: { id: 16, block: 256, bytes: 66 },
  IQ2_XS: { id: 17, block: 256, bytes: 74 },
  IQ2_S: { id: 22, block: 256, bytes: 82 },
  IQ3_XXS: { id: 18, block: 256, bytes: 98 },
  IQ3_S: { id: 21, block: 256, bytes: 110 },
  TQ1_0: { id: 34, block: 256, bytes: 54 },
  TQ2_0: { id: 35, block: 256, bytes: 66 },
  MXFP4: { id: 39, block: 32, bytes: 17 },
  NVFP4: { id: 40, block: 64, bytes: 36 },
  Q1_0: { id: 41, block: 128, bytes: 18 },
  Q2_0: { id: 42, block: 64, bytes: 18 },
}

export const DTYPES: Readonly<Record<DType, BlockFormat>> = {
  ...WEIGHT_FORMATS,
  Q8_1: { id: 9, block: 32, bytes: 36 },
  Q8_K: { id: 15, block: 256, bytes: 292 },
}

export const WEIGHT_TYPES = Object.keys(WEIGHT_FORMATS) as WeightType[]
export const ALL_TYPES = Object.keys(DTYPES) as DType[]

/** Weight types that cria reads and multiplies, and has no quantizer for. */
const READ_ONLY_TYPES: readonly DType[] = [
  'IQ1_S',
  'IQ1_M',
  'IQ2_XXS',
  'IQ2_XS',
  'IQ2_S',
  'IQ3_XXS',
  'IQ3_S',
  'TQ1_0',
  'TQ2_0',
  'MXFP4',
  'NVFP4',
  'Q1_0',
  'Q2_0',
]

/** Types that `kernels.quantize` makes. */
export const QUANTIZABLE_TYPES = ALL_TYPES.filter((dtype) => !READ_ONLY_TYPES.includes(dtype))

/** A typed array that holds the bits of a tensor. */
export type TensorData = Float32Array | Uint16Array | Uint8Array

/** The typed array of a type: Float32Array for F32, Uint16Array for F16 and BF16, Uint8Array for blocks. */
export type DataOf<D extends DType> = D extends 'F32'
  ? Float32Array
  : D extends 'F16' | 'BF16'
    ? Uint16Array
    : Uint8Array

export function elementsOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1)
}

/** Bytes of `elements` elements, which must be whole blocks. */
export function bytesOf(dtype: DType, elements: number): number {
  const { block, bytes } = DTYPES[dtype]
  return (elements / block) * bytes
}

/** The arithmetic of a product. On the CPU, f16 is converted and runs at the f32 rate. */
export type Arithmetic = 'int8' | 'bf16' | 'f16' | 'f32'

/** The arithmetic of a product with weights of this type, which is that of its converted activations. */
export function arithmeticOf(dtype: DType): Arithmetic {
  switch (dtype) {
    case 'F32':
      return 'f32'
    case 'F16':
      return 'f16'
    case 'BF16':
      return 'bf16'
    default:
      return 'int8'
  }
}
