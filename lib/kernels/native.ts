/**
 * The part of the addon that it exports as `kernels`; none of this is public. native/addon/kernel_ops.cc
 * mirrors it.
 */

import type { MachineCeilings } from '../bench/machine'
import type { NativeTask } from '../native'
import type { DType, TensorData } from './dtypes'
import type { DeviceInfo } from './memory'

/** A tensor on a device. Its properties stay readable after dispose(). */
export interface NativeTensor {
  readonly dtype: DType
  readonly shape: number[]
  readonly device: string
  readonly bytes: number
  readonly disposed: boolean
  dispose(): void
}

/** A tensor in host memory, copied at the call. */
export interface NativeHostTensor {
  data: TensorData
  dtype: DType
  shape: number[]
}

export type NativeOperand = NativeTensor | NativeHostTensor

/** Where a result goes: the caller's tensor, a new resident tensor, or a new host array. */
export type NativeOutput = NativeTensor | { resident: boolean; shape: number[] }

export interface NativeWhere {
  device: string
  /** Empty: the default level. */
  isa: string
  /** 0: the physical cores within the process's CPU quota. */
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
  /** In the order of the op's results; null for a result written to the caller's tensor. */
  outputs: Array<TensorData | NativeTensor | null>
  ids: Uint32Array
  floats: Float32Array
  /** Microseconds of each counted run. */
  times: Float64Array
  /**
   * With a mix: GB/s (10^9 bytes per second) of streams of that mix, measured next to each run. Empty without
   * one.
   */
  memoryGBs: Float64Array
  /** The same for streams that only read. */
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

/** The ratio of bytes read to bytes written by memory streams: 1 to 8 reads, 0 to 8 writes. */
export interface StreamMix {
  reads: number
  writes: number
}

export interface NativeKernels {
  /**
   * Runs calls of one op round-robin on the kernels' thread, `warmup` + `iterations` runs in all; tasks run
   * in the order in which they were made. The outputs are those of the first call. With a mix, the memory
   * bandwidth is measured between the runs, unless the device has its own memory.
   */
  run(
    op: NativeKernelOp,
    calls: NativeKernelArgs[],
    where: NativeWhere,
    warmup: number,
    iterations: number,
    mix?: StreamMix,
  ): NativeTask<NativeKernelResult>
  allocateKv(
    options: { pages: number; kvHeads: number; headDim: number; dtype: 'F16' | 'F32' },
    where: NativeWhere,
  ): NativeTask<NativeTensor>
  /** Every tensor of a GGUF file, in its own type; the contiguous dimension comes last in each shape. */
  loadTensors(path: string, where: NativeWhere): NativeTask<Array<[name: string, tensor: NativeTensor]>>
  describe(where: NativeWhere): NativeTask<Omit<DeviceInfo, 'isaLevels'>>
  /** Occupies the device for some seconds; on the CPU, `threads` threads and 512 MiB. */
  ceilings(where: NativeWhere): NativeTask<MachineCeilings>
  ropeFrequencies(options: NativeRopeScaling): { frequencies: Float32Array; magnitude: number }
}
