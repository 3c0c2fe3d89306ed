import { TENSOR_TYPES } from '../bench/shapes'

/** Types that a matrix of weights can have, in the GGUF specification's spelling. */
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

/** Storage types: those of weights, and two that hold activations alone, Q8_1 and Q8_K. */
export type DType = WeightType | 'Q8_1' | 'Q8_K'

/** Elements and bytes of a block; a plain number is a block of one. */
export const DTYPES: Readonly<Record<DType, { readonly block: number; readonly bytes: number }>> = {
  ...TENSOR_TYPES,
  Q8_1: { block: 32, bytes: 36 },
  Q8_K: { block: 256, bytes: 292 },
}

export const WEIGHT_TYPES = Object.keys(TENSOR_TYPES) as WeightType[]
export const ALL_TYPES = Object.keys(DTYPES) as DType[]

/** The typed array that holds a type's bits. */
export type TensorData = Float32Array | Uint16Array | Uint8Array

/** The typed array of a type: F32 as Float32Array, F16 and BF16 as the bits in a Uint16Array, blocks as bytes. */
export type DataOf<D extends DType> = D extends 'F32'
  ? Float32Array
  : D extends 'F16' | 'BF16'
    ? Uint16Array
    : Uint8Array

export function elementsOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1)
}

/** Bytes of so many elements, in whole blocks. */
export function bytesOf(dtype: DType, elements: number): number {
  const { block, bytes } = DTYPES[dtype]
  return (elements / block) * bytes
}

/** What is multiplied: the CPU has no rate of its own for f16, and takes it as float32. */
export type Arithmetic = 'int8' | 'bf16' | 'f16' | 'f32'

/** Which of the machine's rates multiplies with weights of this type: what the activations become. */
export function arithmeticOf(dtype: DType): Arithmetic {
  if (dtype === 'BF16') return 'bf16'
  return dtype === 'F32' ? 'f32' : dtype === 'F16' ? 'f16' : 'int8'
}
