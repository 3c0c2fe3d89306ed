/** Tensors of a device, and the devices. */

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
  /** What the bits mean; may be left out for a Float32Array. */
  dtype?: D | undefined
  /** Sizes, the contiguous dimension last. Default: one dimension. */
  shape?: readonly number[] | undefined
  device?: KernelDevice | undefined
}

/** A device that kernels can run on. */
export interface DeviceInfo {
  /** As the option `device` takes it: `'cpu'`, `'cuda:0'`. */
  readonly device: string
  /** As its maker calls it; empty for the CPU. */
  readonly name: string
  /** The CPU's instruction-set level in use, or a CUDA device's compute capability, e.g. `'sm_90'`. */
  readonly isa: string
  /** Empty for a CUDA device. */
  readonly isaLevels: readonly string[]
  /** Threads of the host that kernels use unless told otherwise. */
  readonly threads: number
  /** Positions of one sequence that a page of a KV cache holds. */
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
 * A resident copy of an array. It is copied before the call returns. What a product then multiplies with is read as it
 * lies on the CPU; on a CUDA device the first product packs the matrix for its kernels, outside of what is measured,
 * and the copy stays with the tensor until that is written or disposed of.
 *
 * @param data float32 values; the bits of F16 or BF16; blocks of a quantized type
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
 * A tensor of zeros, for results: option `out` of the kernels.
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
 * Every tensor of a GGUF file by its name, resident, in the file's own types; a matrix has shape `[rows, cols]`, so
 * that `matmul(x, matrix)` gives rows. What the model is, its metadata say: `inspect` of cria.
 *
 * @throws (rejects) what `inspect` rejects with; ERR_OUT_OF_MEMORY, ERR_UNSUPPORTED_DEVICE, ERR_ABORTED
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
 * The devices that kernels can run on here: the CPU, then the CUDA devices in the driver's order. It starts each of
 * them, which takes a moment and some of its memory.
 * @throws (rejects) ERR_ADDON_LOAD, and ERR_INVALID_ARGUMENT when CRIA_CPU_ISA names a level this machine lacks
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
      // Not known to this addon, or the first number that no device has.
      if (!['ERR_UNSUPPORTED_DEVICE', 'ERR_INVALID_ARGUMENT'].includes((error as CriaError).code)) throw error
    }
  }
  return found
}
