/** The namespace `kernels` of cria/kernels: all kernels, and functions that create tensors and KV caches. */

export { attentionInput, pagedAttention } from './attention'
export { addRmsNorm, rmsNorm, rope, siluMul, softmax } from './elementwise'
export { kvCache, writeKv } from './kv_cache'
export { allocate, loadTensors, upload } from './memory'
export { dequantize, embed, matmul, quantize, swiglu } from './products'
export { sample } from './sample'
