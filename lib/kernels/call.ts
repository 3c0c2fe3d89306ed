/**
 * How a kernel is called: its arguments are checked into a plan, which `execute` runs once and `bench` many
 * times.
 */

import { AsyncLocalStorage } from 'node:async_hooks'
import { addon } from '../binding'
import { show } from '../errors'
import { callNative, runTask } from '../tasks'
import { custom, integer, matching, type Rules } from '../validate'
import { type Arithmetic, elementsOf, type TensorData } from './dtypes'
import type {
  NativeKernelArgs,
  NativeKernelOp,
  NativeKernelResult,
  NativeOutput,
  NativeTensor,
  NativeWhere,
} from './native'
import { nativeOf, type Source, showShape, source, Tensor, wrong, wrongShape } from './tensor'

/** A device that kernels run on. */
export type KernelDevice = 'cpu' | 'cuda' | `cuda:${number}`

/**
 * Where a kernel runs. The result has the same bits at every instruction-set level and with any number of
 * threads.
 */
export interface KernelOptions {
  /**
   * Default: the device of the resident inputs, or `'cpu'` without any. `'cuda'` means `'cuda:0'`. A missing
   * device is an error; there is no fallback.
   */
  device?: KernelDevice | undefined
  /** CPU only: one of `cpuInfo().isaLevels`. Default: `CRIA_CPU_ISA`, or the highest level. */
  isa?: string | undefined
  /** CPU only. Default: the physical cores within the process's CPU quota. */
  threads?: number | undefined
}

/** Options of kernels that return one tensor. */
export interface OutputOptions extends KernelOptions {
  /** A resident F32 tensor to write the result to. The promise resolves to it, and nothing is allocated. */
  out?: Tensor<'F32'> | undefined
}

/** Only the addon that is built for the tests has the emulated device. */
export const CUDA_KINDS = ['cuda', 'cuda-emulated'] as const

export const kernelRules = {
  device: matching<KernelDevice>("'cpu', 'cuda' or 'cuda:<n>'", /^(cpu|cuda(-emulated)?(:\d+)?)$/),
  isa: custom<string>('an instruction-set level of this machine (cpuInfo().isaLevels)', (value) =>
    callNative(() => addon().cpuInfo()).isaLevels.find((level) => level === value),
  ),
  threads: integer(1, 1024),
} satisfies Rules

export const outputRules = {
  ...kernelRules,
  out: custom<Tensor<'F32'>>('a resident tensor of F32', (value) =>
    value instanceof Tensor && value.dtype === 'F32' ? (value as Tensor<'F32'>) : undefined,
  ),
} satisfies Rules

/** The minimum memory traffic and arithmetic of a kernel. */
export interface Work {
  /** Bytes read and written, each byte counted once. */
  bytes: number
  /** The part of `bytes` that is written. */
  written: number
  /** Additions and multiplications. */
  flops: number
  /** The arithmetic of most of them. */
  arithmetic: Arithmetic
}

export interface Plan<T> {
  /** The public name of the function, for messages. */
  call: string
  op: NativeKernelOp
  args: NativeKernelArgs
  where: NativeWhere
  work: Work
  result(native: NativeKernelResult): T
}

/** One run of a kernel, as recorded by {@link recordKernels}. */
export interface KernelRecord extends Work {
  op: NativeKernelOp
  /** Microseconds on the device. */
  us: number
  where: NativeWhere
}

const recorder = new AsyncLocalStorage<KernelRecord[]>()

/** Runs `body` and appends every kernel that it runs to `records`. */
export function recordKernels<T>(records: KernelRecord[], body: () => T): T {
  return recorder.run(records, body)
}

export async function execute<T>({ call, op, args, where, work, result }: Plan<T>): Promise<T> {
  const native = await runTask(call, () => addon().kernels.run(op, [args], where, 0, 1))
  recorder.getStore()?.push({ ...work, op, us: native.times[0]!, where })
  return result(native)
}

/** The device's full name, as tensors have it. */
export function deviceName(device: string): string {
  return (CUDA_KINDS as readonly string[]).includes(device) ? `${device}:0` : device
}

/**
 * Where a call runs: on the requested device, or on that of its inputs.
 * @throws ERR_INVALID_ARGUMENT when the inputs are on different devices, or for an option that the device
 *   does not have
 */
export function placeOf(
  call: string,
  { device, isa, threads }: KernelOptions,
  inputs: Record<string, { device: string | undefined } | undefined>,
): NativeWhere {
  let chosen = device === undefined ? undefined : deviceName(device)
  for (const [name, input] of Object.entries(inputs)) {
    if (input?.device === undefined) continue
    chosen ??= input.device
    if (input.device !== chosen)
      throw wrong(call, name, `on device '${chosen}'`, `a tensor on '${input.device}'`)
  }
  const where = { device: chosen ?? 'cpu', isa: isa ?? '', threads: threads ?? 0 }
  if (where.device !== 'cpu') {
    for (const [name, value] of Object.entries({ isa, threads })) {
      if (value !== undefined)
        throw wrong(
          call,
          `option '${name}'`,
          `absent on '${where.device}': it is for the CPU only`,
          show(value),
        )
    }
  }
  return where
}

/**
 * Where a result goes: to `out`; without it, to a new tensor if `like` is resident, otherwise to a new array.
 * @throws ERR_INVALID_ARGUMENT, ERR_DISPOSED
 */
export function outputOf(
  call: string,
  out: Tensor | undefined,
  like: Source,
  shape: readonly number[],
): { native: NativeOutput; target: Source | undefined } {
  if (!out) return { native: { resident: like.tensor !== undefined, shape: [...shape] }, target: undefined }
  const target = source(call, "option 'out'", out)
  if (target.elements !== elementsOf(shape)) {
    throw wrongShape(call, "option 'out'", `of shape ${showShape(shape)}`, target.shape)
  }
  return { native: nativeOf(out), target }
}

/** @throws ERR_INVALID_ARGUMENT when `out` is one of `inputs` */
export function expectDistinct(
  call: string,
  out: Tensor | undefined,
  inputs: Record<string, Source | undefined>,
): void {
  if (!out) return
  for (const [name, input] of Object.entries(inputs)) {
    if (input?.tensor === out)
      throw wrong(call, "option 'out'", 'a tensor that is not an input of this kernel', `'${name}'`)
  }
}

/** The result that the caller gets: `out`, a new tensor, or a new array. */
export function resultOf<T>(native: TensorData | NativeTensor | null, out: unknown): T {
  if (native === null) return out as T
  return (ArrayBuffer.isView(native) ? native : Tensor.create(native as NativeTensor)) as T
}

/** The `result` of a plan whose op has one output. */
export function singleOutput<T>(out?: unknown): (native: NativeKernelResult) => T {
  return ({ outputs }) => resultOf(outputs[0]!, out)
}
