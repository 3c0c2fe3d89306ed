/** How a kernel is called: a checked plan first, which `execute` runs once and `bench` many times. */

import { AsyncLocalStorage } from 'node:async_hooks'
import { addon } from '../binding'
import { show } from '../errors'
import { callNative, runTask } from '../tasks'
import { custom, integer, matching, type Rules } from '../validate'
import type { Arithmetic, TensorData } from './dtypes'
import type {
  NativeKernelArgs,
  NativeKernelOp,
  NativeKernelResult,
  NativeOutput,
  NativeTensor,
  NativeWhere,
} from './native'
import { nativeOf, type Source, source, Tensor, wrong } from './tensor'

/** A device that kernels run on. */
export type KernelDevice = 'cpu' | 'cuda' | `cuda:${number}`

/** Where a kernel runs. The results are the same bits wherever the level and the threads are chosen. */
export interface KernelOptions {
  /**
   * Default: where the resident inputs are, else `'cpu'`. `'cuda'` is `'cuda:0'`. A device that is not there is an
   * error, never replaced.
   */
  device?: KernelDevice | undefined
  /** CPU: an instruction-set level of `cpuInfo().isaLevels`. Default: `CRIA_CPU_ISA`, or the best there is. */
  isa?: string | undefined
  /** CPU: threads. Default: physical cores within the process's quota. */
  threads?: number | undefined
}

/** Options of kernels whose result is one tensor. */
export interface OutputOptions extends KernelOptions {
  /** A resident F32 tensor for the result, which is then what the promise gives: nothing is allocated. */
  out?: Tensor<'F32'> | undefined
}

/** The second is the one of the addon that is built for the tests; others do not know it. */
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

/** What a kernel has to move and to compute, at the least. */
export interface Work {
  /** Bytes read and written once each. */
  bytes: number
  /** Those that are written, among them. */
  written: number
  /** Additions and multiplications. */
  flops: number
  /** The unit that most of them run on. */
  arithmetic: Arithmetic
}

export interface Plan<T> {
  /** As users write it, for messages. */
  call: string
  op: NativeKernelOp
  args: NativeKernelArgs
  where: NativeWhere
  work: Work
  result(native: NativeKernelResult): T
}

/** One kernel that ran, as {@link recordKernels} hears of it. */
export interface KernelRecord extends Work {
  op: NativeKernelOp
  /** Microseconds on the device. */
  us: number
  where: NativeWhere
}

const recorder = new AsyncLocalStorage<KernelRecord[]>()

/** Runs `body`; every kernel that it starts is added to `records`. */
export function recordKernels<T>(records: KernelRecord[], body: () => T): T {
  return recorder.run(records, body)
}

export async function execute<T>({ call, op, args, where, work, result }: Plan<T>): Promise<T> {
  const native = await runTask(call, () => addon().kernels.run(op, [args], where, 0, 1))
  recorder.getStore()?.push({ ...work, op, us: native.times[0]!, where })
  return result(native)
}

/** The device as tensors name it. */
export function deviceName(device: string): string {
  return (CUDA_KINDS as readonly string[]).includes(device) ? `${device}:0` : device
}

/**
 * Where a call runs: what was asked for, and the inputs' device.
 * @throws ERR_INVALID_ARGUMENT when inputs lie elsewhere
 */
export function placeOf(
  call: string,
  { device, isa, threads }: KernelOptions,
  inputs: Record<string, { device: string | undefined } | undefined>,
): NativeWhere {
  let chosen: string | undefined = device === undefined ? undefined : deviceName(device)
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
        throw wrong(call, `option '${name}'`, `absent on '${where.device}': it is the CPU's`, show(value))
    }
  }
  return where
}

/**
 * Where a result goes: to `out`, or as `like` is, resident or not.
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
  const wanted = shape.reduce((product, size) => product * size, 1)
  if (target.elements !== wanted) {
    throw wrong(call, "option 'out'", `of shape [${shape.join(', ')}]`, `shape [${target.shape.join(', ')}]`)
  }
  return { native: nativeOf(out), target }
}

/** @throws ERR_INVALID_ARGUMENT when `out` is one of the inputs that it must not be */
export function expectApart(
  call: string,
  out: Tensor | undefined,
  inputs: Record<string, Source | undefined>,
): void {
  if (!out) return
  for (const [name, input] of Object.entries(inputs)) {
    if (input?.tensor === out)
      throw wrong(call, "option 'out'", 'a tensor that is no input of this kernel', `'${name}'`)
  }
}

/** A result as the caller gets it: their own tensor, a new one, or an array. */
export function resultOf<T>(native: TensorData | NativeTensor | null, out: unknown): T {
  if (native === null) return out as T
  return (ArrayBuffer.isView(native) ? native : Tensor.create(native as NativeTensor)) as T
}
