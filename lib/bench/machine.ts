/** The machine that a result was measured on, and what it can do at most. */

import { cpus, release, totalmem } from 'node:os'
import { addon, version } from '../binding'
import { cpuInfo } from '../info'
import type { NativeWhere } from '../kernels/native'
import { runTask } from '../tasks'

/**
 * What the machine can do at most with so many threads, or a device (0 threads), measured now. A figure of 0 was not
 * measured.
 */
export interface MachineCeilings {
  threads: number
  /** 10^9 bytes per second, streamed from memory. */
  readGBs: number
  /** 10^9 multiply-adds per second of the instruction-set level in use; on CUDA of mma.sync and, for float32, fma. */
  int8GMacs: number
  f32GMacs: number
  bf16GMacs: number
}

export interface MachineInfo {
  cpu: string
  /** Physical cores that this process may use. */
  cores: number
  memoryBytes: number
  platform: string
  kernel: string
  /** What was measured on: `'cpu'`, `'cuda:0'`. */
  device: string
  /** A device's name; absent for the CPU. */
  accelerator?: string
  /** The instruction-set level in use, or the device's compute capability, `sm_90` and the like. */
  isa: string
  ceilings: MachineCeilings
}

/** Takes some seconds of the device: on the CPU of `threads` cores, and 512 MiB. */
export function measureCeilings(where: NativeWhere, signal?: AbortSignal): Promise<MachineCeilings> {
  return runTask('bench', () => addon().kernels.ceilings(where), signal)
}

/** Takes some seconds of `threads` cores, and 512 MiB. */
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
