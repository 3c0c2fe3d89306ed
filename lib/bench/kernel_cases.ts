/** The cases of `cria bench kernels`: every kernel in the sizes of a known Llama. */

import type { BenchSpec } from '../kernels/bench_specs'
import type { WeightType } from '../kernels/dtypes'
import { type ModelShape, shapeOf } from './shapes'

export interface KernelCase {
  /** `<shape>/<op>/<sizes>`; stable, so that results of different runs can be compared. */
  name: string
  spec: BenchSpec
}

/** Tokens of a prompt chunk. */
const PROMPT = 512
/** Tokens of a pass whose activations exceed every cache. */
const LARGE = 8192
/** Cached tokens when one token is decoded. */
const CONTEXTS = [1024, 8192]

export const DEFAULT_TYPES: WeightType[] = ['Q4_K', 'Q8_0', 'BF16']

/** Every case of a shape. */
export function kernelCases(shapeName: string, types: readonly WeightType[] = DEFAULT_TYPES): KernelCase[] {
  const shape = shapeOf(shapeName)!
  return [
    ...rowCases(shape),
    ...productCases(shape, types),
    ...attentionCases(shape),
    ...otherCases(shape, types),
  ].map(([sizes, spec]) => ({ name: `${shapeName}/${spec.op}/${sizes}`, spec }))
}

type Named = [sizes: string, spec: BenchSpec]

function rowCases({ hidden, heads, headDim, ffnHidden, vocabSize }: ModelShape): Named[] {
  const cases: Named[] = []
  for (const rows of [1, PROMPT, LARGE]) {
    cases.push([`${rows}x${hidden}`, { op: 'rmsNorm', rows, cols: hidden }])
    cases.push([`${rows}x${hidden}`, { op: 'addRmsNorm', rows, cols: hidden }])
    cases.push([`${rows}x${heads * headDim}`, { op: 'rope', tokens: rows, heads, headDim }])
  }
  cases.push([
    `${LARGE}x${heads * headDim}-half`,
    { op: 'rope', tokens: LARGE, heads, headDim, layout: 'half' },
  ])
  for (const rows of [1, PROMPT, LARGE / 4]) {
    cases.push([`${rows}x${ffnHidden}`, { op: 'siluMul', rows, cols: ffnHidden }])
  }
  cases.push([`${LARGE}x${hidden}`, { op: 'softmax', rows: LARGE, cols: hidden }])
  cases.push([`1x${vocabSize}`, { op: 'softmax', rows: 1, cols: vocabSize }])
  return cases
}

function productCases(shape: ModelShape, types: readonly WeightType[]): Named[] {
  const { hidden, heads, kvHeads, headDim, ffnHidden } = shape
  const cases: Named[] = []
  for (const dtype of types) {
    for (const tokens of [1, PROMPT]) {
      for (const [rows, cols] of [
        [heads * headDim, hidden],
        [hidden, ffnHidden],
      ] as const) {
        cases.push([`${dtype}-${rows}x${cols}-t${tokens}`, { op: 'matmul', dtype, rows, cols, tokens }])
      }
      cases.push([`${dtype}-t${tokens}`, { op: 'swiglu', dtype, hidden, ffnHidden, tokens }])
      cases.push([
        `${dtype}-t${tokens}`,
        { op: 'attentionInput', dtype, hidden, heads, kvHeads, headDim, tokens },
      ])
    }
  }
  return cases
}

function attentionCases({ heads, kvHeads, headDim }: ModelShape): Named[] {
  const attention = (tokens: number, context: number, sequences = 1): Named => [
    `t${tokens}-c${context}${sequences > 1 ? `-s${sequences}` : ''}`,
    { op: 'pagedAttention', heads, kvHeads, headDim, tokens, context, sequences },
  ]
  return [
    ...CONTEXTS.map((context) => attention(1, context)),
    attention(1, 1024, 8),
    attention(PROMPT, PROMPT),
  ]
}

function otherCases({ hidden, vocabSize }: ModelShape, types: readonly WeightType[]): Named[] {
  const cases: Named[] = []
  for (const dtype of ['Q8_0', 'Q8_K'] as const) {
    cases.push([`${dtype}-${PROMPT}x${hidden}`, { op: 'quantize', dtype, rows: PROMPT, cols: hidden }])
  }
  for (const dtype of types) {
    cases.push([`${dtype}-${PROMPT}x${hidden}`, { op: 'dequantize', dtype, rows: PROMPT, cols: hidden }])
  }
  const [dtype] = types as [WeightType]
  cases.push([`${dtype}-t${PROMPT}`, { op: 'embed', dtype, vocab: 32000, cols: hidden, tokens: PROMPT }])
  cases.push([`1x${vocabSize}`, { op: 'sample', rows: 1, vocab: vocabSize }])
  return cases
}
