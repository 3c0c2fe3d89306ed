/** The machine that a result was measured on, and what it can do at most. */

import { cpus, release, totalmem } from 'node:os'
import { addon, version } from '../binding'
import { cpuInfo } from '../info'
import { runTask } from '../tasks'

/** What the machine can do at most with so many threads, measured now. A figure of 0 was not measured. */
export interface MachineCeilings {
  threads: number
  /** 10^9 bytes per second, streamed from memory. */
  readGBs: number
  /** 10^9 multiply-adds per second of the instruction-set level in use. */
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
  /** The instruction-set level in use. */
  isa: string
  ceilings: MachineCeilings
}

/** Takes some seconds of `threads` cores, and 512 MiB; at an instruction-set level, or at the one in use. */
export function measureCeilings(threads: number, isa = '', signal?: AbortSignal): Promise<MachineCeilings> {
  return runTask('bench', () => addon().measureMachine(threads, isa), signal)
}

/** Takes some seconds of `threads` cores, and 512 MiB. */
export async function measureMachine(threads: number, signal?: AbortSignal): Promise<MachineInfo> {
  const { isa } = cpuInfo()
  return describeMachine(isa, await measureCeilings(threads, isa, signal))
}

export function describeMachine(isa: string, ceilings: MachineCeilings): MachineInfo {
  const { physicalCores } = cpuInfo()
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: physicalCores,
    memoryBytes: totalmem(),
    platform: `${process.platform}-${process.arch}`,
    kernel: release(),
    isa,
    ceilings,
  }
}

export function versions(): Record<string, string> {
  return { cria: version, node: process.version.slice(1) }
}
