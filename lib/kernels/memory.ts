/** Devices, and the tensors on them. */

import { addon } from '../binding'
import type { CriaError } from '../errors'
import { filePath } from '../path'
import { runTask } from '../tasks'
import { abortSignal, checkOptions, custom, oneOf, type Rules } from '../validate'
import { CUDA_KINDS, deviceName, type KernelDevice, type KernelOptions, kernelRules, placeOf } from './call'
import { ALL_TYPES, type DType, elementsOf } from './dtypes'
import type { NativeTensor } from './native'
import { checkShape, source, Tensor } from './tensor'

export interface UploadOptions<D extends DType = DType> {
  /** How to read the bits. Default for a Float32Array: `'F32'`; required for other arrays. */
  dtype?: D | undefined
  /** Sizes, the contiguous dimension last. Default: one dimension. */
  shape?: readonly number[] | undefined
  device?: KernelDevice | undefined
}

/** A device that kernels can run on. */
export interface DeviceInfo {
  /** The name that the option `device` takes: `'cpu'`, `'cuda:0'`. */
  readonly device: string
  /** The product name that the driver reports; empty for the CPU. */
  readonly name: string
  /** CPU: the instruction-set level in use. CUDA: the compute capability, e.g. `'sm_90'`. */
  readonly isa: string
  /** CPU: the instruction-set levels of this machine. CUDA: empty. */
  readonly isaLevels: readonly string[]
  /** Host threads that kernels use by default. */
  readonly threads: number
  /** Tokens per page of a KV cache. */
  readonly pageTokens: number
}

const { device } = kernelRules
const anything = custom<unknown>('anything', (value) => value)
const uploadRules = { device, dtype: oneOf(...ALL_TYPES), shape: anything } satisfies Rules
const loadRules = { device, signal: abortSignal() } satisfies Rules

export async function upload(data: Float32Array, options?: UploadOptions<'F32'>): Promise<Tensor<'F32'>>
export async function upload<D extends DType>(
  data: Float32Array | Uint16Array | Uint8Array,
  options: UploadOptions<D> & { dtype: D },
): Promise<Tensor<D>>
/**
 * Copies an array to a device. The array may change as soon as the call returns. CPU kernels read a weight
 * matrix in this form. On a CUDA device, the first product packs the matrix for its kernels; this is not part
 * of the measured time, and the packed copy lives until the tensor is overwritten or disposed.
 *
 * @param data float32 values; the bits of F16 or BF16 values; the blocks of a quantized type
 * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_OUT_OF_MEMORY, ERR_UNSUPPORTED_DEVICE
 */
export async function upload(
  data: Float32Array | Uint16Array | Uint8Array,
  options?: UploadOptions,
): Promise<Tensor> {
  const call = 'kernels.upload'
  const { dtype, shape, ...where } = checkOptions(call, options, uploadRules)
  const x = source(call, 'data', { data, dtype, shape: shape as number[] | undefined })
  const args = { x: x.native }
  const { outputs } = await runTask(call, () =>
    addon().kernels.run('upload', [args], placeOf(call, where, {}), 0, 1),
  )
  return Tensor.create(outputs[0] as NativeTensor)
}

/**
 * Creates a tensor of zeros, for example as the option `out` of a kernel.
 *
 * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_OUT_OF_MEMORY, ERR_UNSUPPORTED_DEVICE
 */
export async function allocate<D extends DType = 'F32'>(
  shape: readonly number[],
  options?: { dtype?: D | undefined; device?: KernelDevice | undefined },
): Promise<Tensor<D>> {
  const call = 'kernels.allocate'
  const { dtype = 'F32', ...where } = checkOptions(call, options, { device, dtype: oneOf(...ALL_TYPES) })
  const sizes = checkShape(call, 'shape', shape, dtype)
  const args = { dtype, elements: elementsOf(sizes), out: { resident: true, shape: sizes } }
  const { outputs } = await runTask(call, () =>
    addon().kernels.run('allocate', [args], placeOf(call, where, {}), 0, 1),
  )
  return Tensor.create(outputs[0] as NativeTensor)
}

/**
 * Loads every tensor of a GGUF file onto a device, by name and in the file's own types. A matrix has shape
 * `[rows, cols]`, so `matmul(x, matrix)` returns `[tokens, rows]`. For the metadata, use `inspect` of cria.
 *
 * @throws (rejects) the errors of `inspect`; ERR_OUT_OF_MEMORY, ERR_UNSUPPORTED_DEVICE, ERR_ABORTED
 */
export async function loadTensors(
  path: string | URL,
  options?: { device?: KernelDevice | undefined; signal?: AbortSignal | undefined },
): Promise<Map<string, Tensor>> {
  const call = 'kernels.loadTensors'
  const { signal, ...where } = checkOptions(call, options, loadRules)
  const file = filePath(call, path)
  const tensors = await runTask(
    call,
    () => addon().kernels.loadTensors(file, placeOf(call, where, {})),
    signal,
  )
  return new Map(tensors.map(([name, native]) => [name, Tensor.create(native)]))
}

/** @internal */
export function describeDevice(call: string, { device, isa = '', threads = 0 }: KernelOptions) {
  const where = { device: deviceName(device ?? 'cpu'), isa, threads }
  return runTask(call, () => addon().kernels.describe(where))
}

/**
 * Lists the devices of this machine that kernels can run on: the CPU, then the CUDA devices in the driver's
 * order. Initializes each CUDA device, which takes a moment and some of its memory.
 * @throws (rejects) ERR_ADDON_LOAD; ERR_INVALID_ARGUMENT when this machine lacks the level in CRIA_CPU_ISA
 */
export async function devices(): Promise<DeviceInfo[]> {
  const { isaLevels } = addon().cpuInfo()
  const found: DeviceInfo[] = [{ ...(await describeDevice('devices', {})), isaLevels }]
  for (const kind of CUDA_KINDS) {
    try {
      for (let i = 0; ; i++) {
        const info = await describeDevice('devices', { device: `${kind}:${i}` as KernelDevice })
        found.push({ ...info, isaLevels: [] })
      }
    } catch (error) {
      // The addon has no devices of this kind, or `i` is past the last one.
      if (!['ERR_UNSUPPORTED_DEVICE', 'ERR_INVALID_ARGUMENT'].includes((error as CriaError).code)) throw error
    }
  }
  return found
}
