/** What `kernels` of cria/kernels holds: every kernel, and what makes tensors for them. */

export { attentionInput, kvCache, pagedAttention, writeKv } from './attention'
export { addRmsNorm, rmsNorm, rope, siluMul, softmax } from './elementwise'
export { allocate, loadTensors, upload } from './memory'
export { dequantize, embed, matmul, quantize, swiglu } from './products'
export { sample } from './sample'
