/**
 * Runs and measures cria's kernels one at a time, on typed arrays or on tensors that stay on the device.
 *
 * ```js
 * import { bench, kernels } from 'cria/kernels'
 * const y = await kernels.rmsNorm(Float32Array.of(3, 4), Float32Array.of(1, 1))
 * const spec = { op: 'matmul', dtype: 'Q4_K', rows: 4096, cols: 4096, tokens: 1 }
 * const { gbPerSec, shareOfPeak } = await bench(spec)
 * ```
 *
 * Calls run off the JS thread, in the order in which they are made, on the CPU or, with `device: 'cuda'`, on
 * a GPU. Matrices are row-major: the last dimension of a shape is contiguous. Arrays are copied at the call.
 * Results are float32; they are resident if the first input is, otherwise they are new arrays.
 *
 * @module
 */

export { CriaError } from './errors'
export * as kernels from './kernels/all'
export type {
  AttentionInputOptions,
  AttentionSequence,
  AttentionWeights,
  PagedAttentionOptions,
} from './kernels/attention'
export type { KernelBenchOptions, KernelBenchResult } from './kernels/bench'
export { bench } from './kernels/bench'
export type { BenchSpec } from './kernels/bench_specs'
export type { KernelDevice, KernelOptions, OutputOptions } from './kernels/call'
export type { DataOf, DType, TensorData, WeightType } from './kernels/dtypes'
export type { AddRmsNormResult, NormOptions, RopeKernelOptions } from './kernels/elementwise'
export type { HostPages, KvCacheOptions } from './kernels/kv_cache'
export { type DeviceInfo, devices, type UploadOptions } from './kernels/memory'
export type { MatmulOptions, Quantized, SwigluWeights } from './kernels/products'
export type { RopeOptions, RopeScaling } from './kernels/rope'
export type { SampleOptions, SampleResult } from './kernels/sample'
export { type HostTensor, KvCache, type Result, Tensor, type TensorInput } from './kernels/tensor'
