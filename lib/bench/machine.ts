/** The machine that a result was measured on, and its limits. */

import { cpus, release, totalmem } from 'node:os'
import { addon, version } from '../binding'
import { cpuInfo } from '../info'
import type { Arithmetic } from '../kernels/dtypes'
import type { NativeWhere } from '../kernels/native'
import { runTask } from '../tasks'

/** Measured limits of the CPU with a number of threads, or of a CUDA device. A rate of 0 was not measured. */
export interface MachineCeilings {
  /** 0 for a CUDA device. */
  threads: number
  /** 10^9 bytes per second, streamed from memory. */
  readGBs: number
  /**
   * 10^9 multiply-adds per second. CPU: with the instructions of the level in use, or 0 if it has none for
   * the type. CUDA: of mma.sync for int8 and bf16, of fma for f32.
   */
  int8GMacs: number
  f32GMacs: number
  bf16GMacs: number
}

/** 10^9 multiply-adds per second that a device has for a kind of arithmetic; 0 if it is not known. */
export function peakGMacs(arithmetic: Arithmetic, device: string, ceilings: MachineCeilings): number {
  const { int8GMacs, f32GMacs, bf16GMacs } = ceilings
  if (arithmetic === 'int8') return int8GMacs
  if (arithmetic === 'f32') return f32GMacs
  // Tensor cores run f16 and bf16 at the same rate. CPUs convert f16 to f32, and bf16 too without an
  // instruction for it.
  if (device !== 'cpu') return bf16GMacs
  return arithmetic === 'bf16' ? bf16GMacs || f32GMacs : f32GMacs
}

export interface MachineInfo {
  cpu: string
  /** Physical cores available to this process. */
  cores: number
  memoryBytes: number
  platform: string
  kernel: string
  /** The device that was measured: `'cpu'`, `'cuda:0'`. */
  device: string
  /** The name of a CUDA device; absent for the CPU. */
  accelerator?: string
  /** CPU: the instruction-set level in use. CUDA: the compute capability, e.g. `'sm_90'`. */
  isa: string
  ceilings: MachineCeilings
}

/** Occupies the device for some seconds; on the CPU, `threads` threads and 512 MiB. */
export function measureCeilings(where: NativeWhere, signal?: AbortSignal): Promise<MachineCeilings> {
  return runTask('bench', () => addon().kernels.ceilings(where), signal)
}

/** Describes the CPU and measures its limits. Occupies `threads` threads and 512 MiB for some seconds. */
export async function measureMachine(threads: number, signal?: AbortSignal): Promise<MachineInfo> {
  const { isa } = cpuInfo()
  return describeMachine(
    { device: 'cpu', isa },
    await measureCeilings({ device: 'cpu', isa, threads }, signal),
  )
}

export function describeMachine(
  { device, isa, name }: { device: string; isa: string; name?: string },
  ceilings: MachineCeilings,
): MachineInfo {
  const { physicalCores } = cpuInfo()
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: physicalCores,
    memoryBytes: totalmem(),
    platform: `${process.platform}-${process.arch}`,
    kernel: release(),
    device,
    ...(name ? { accelerator: name } : {}),
    isa,
    ceilings,
  }
}

export function versions(): Record<string, string> {
  return { cria: version, node: process.version.slice(1) }
}
