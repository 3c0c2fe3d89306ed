/** What the addon exports as `kernels`; nothing here is public. native/addon/kernel_ops.cc reads the same fields. */

import type { NativeTask } from '../native'
import type { DType, TensorData } from './dtypes'

/** Memory on a device. What it says stays true after dispose(). */
export interface NativeTensor {
  readonly dtype: DType
  readonly shape: number[]
  readonly device: string
  readonly bytes: number
  readonly disposed: boolean
  dispose(): void
}

/** Bytes of the host: copied at the call. */
export interface NativeHostTensor {
  data: TensorData
  dtype: DType
  shape: number[]
}

export type NativeOperand = NativeTensor | NativeHostTensor

/** Where a result goes: a tensor of the caller's, a new one, or an array of the host. */
export type NativeOutput = NativeTensor | { resident: boolean; shape: number[] }

export interface NativeWhere {
  device: string
  /** Empty: the level in use. */
  isa: string
  /** 0: physical cores within the process's CPU quota. */
  threads: number
}

export type NativeKernelOp =
  | 'rmsNorm'
  | 'addRmsNorm'
  | 'rope'
  | 'matmul'
  | 'siluMul'
  | 'softmax'
  | 'swiglu'
  | 'attentionInput'
  | 'pagedAttention'
  | 'embed'
  | 'quantize'
  | 'dequantize'
  | 'sample'
  | 'kvWrite'
  | 'kvRead'
  | 'upload'
  | 'download'
  | 'allocate'

export type NativeKernelArgs = Record<string, unknown>

export interface NativeKernelResult {
  /** In the order of the op's results; null where it was the caller's tensor. */
  outputs: Array<TensorData | NativeTensor | null>
  ids: Uint32Array
  floats: Float32Array
  /** Microseconds of each counted run. */
  times: Float64Array
  /** With a mix, 10^9 bytes per second beside each run: of streams of this mix, and of reading alone. Else empty. */
  memoryGBs: Float64Array
  readGBs: Float64Array
}

export interface NativeRopeScaling {
  base: number
  dim: number
  scaling: 'none' | 'linear' | 'llama3' | 'yarn'
  factor: number
  lowFreqFactor: number
  highFreqFactor: number
  originalContextLength: number
  betaFast: number
  betaSlow: number
  factors: Float32Array | null
}

export interface NativeDevice {
  device: string
  /** As its maker calls it; empty for the CPU. */
  name: string
  /** The CPU's level, or `sm_90` and the like. */
  isa: string
  threads: number
  pageTokens: number
}

export interface NativeCeilings {
  /** Of the host that took part: 0 on a device of its own. */
  threads: number
  /** 10^9 bytes per second, streamed from memory. */
  readGBs: number
  /** 10^9 multiply-adds per second; 0: no such instruction, or not measured at this level. */
  int8GMacs: number
  f32GMacs: number
  bf16GMacs: number
}

export interface NativeKernels {
  /**
   * Runs calls of one op in turn, `warmup` + `iterations` times in all, on the kernels' thread; tasks run in the order
   * in which they were made. The outputs are the first call's. With a mix, the memory is measured between the runs,
   * where it is not the device's alone: by streams that write `writes` (0 to 8) bytes for every `reads` (1 to 8).
   */
  run(
    op: NativeKernelOp,
    calls: NativeKernelArgs[],
    where: NativeWhere,
    warmup: number,
    iterations: number,
    mix?: { reads: number; writes: number },
  ): NativeTask<NativeKernelResult>
  allocateKv(
    options: { pages: number; kvHeads: number; headDim: number; dtype: 'F16' | 'F32' },
    where: NativeWhere,
  ): NativeTask<NativeTensor>
  /** Every tensor of a GGUF file, in its own type; shapes with the contiguous dimension last. */
  loadTensors(path: string, where: NativeWhere): NativeTask<Array<[name: string, tensor: NativeTensor]>>
  describe(where: NativeWhere): NativeTask<NativeDevice>
  /** Takes some seconds of the device: on the CPU of all `threads`, and 512 MiB. */
  ceilings(where: NativeWhere): NativeTask<NativeCeilings>
  ropeFrequencies(options: NativeRopeScaling): { frequencies: Float32Array; magnitude: number }
}
