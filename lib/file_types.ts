import { custom } from './validate'

/**
 * What a file may be converted to: a type for all matrices, or one of llama.cpp's mixes of types with the same
 * name. Best first.
 */
export const FILE_TYPES = [
  'F32',
  'F16',
  'BF16',
  'Q8_0',
  'Q6_K',
  'Q5_K_M',
  'Q5_K_S',
  'Q5_1',
  'Q5_0',
  'Q4_K_M',
  'Q4_K_S',
  'Q4_1',
  'Q4_0',
  'IQ4_NL',
  'IQ4_XS',
  'MXFP4_MOE',
  'Q3_K_L',
  'Q3_K_M',
  'Q3_K_S',
  'IQ3_M',
  'IQ3_S',
  'IQ3_XS',
  'IQ3_XXS',
  'Q2_K',
  'Q2_K_S',
  'IQ2_M',
  'IQ2_S',
  'IQ2_XS',
  'IQ2_XXS',
  'Q2_0',
  'TQ2_0',
  'TQ1_0',
  'IQ1_M',
  'IQ1_S',
  'Q1_0',
] as const

/** The name of a file type, such as `'Q4_K_M'`. */
export type FileType = (typeof FILE_TYPES)[number]

/** A name of `FILE_TYPES` in any case. */
export function fileType() {
  return custom<FileType>(`one of ${FILE_TYPES.join(', ')}`, (value) =>
    typeof value === 'string' ? FILE_TYPES.find((name) => name === value.toUpperCase()) : undefined,
  )
}
export function pathOption() {
  return custom<string>('a non-empty path', (value) =>
    typeof value === 'string' && value !== '' && !value.includes('\0') ? value : undefined,
  )
}
