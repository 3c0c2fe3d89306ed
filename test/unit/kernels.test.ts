/** Kernels and tensors on the CPU, at every ISA level, with one thread and with two. */

import { cpuInfo } from '../../lib/index'
import { kernelProperties } from './kernel_properties'
import { kernelTensors } from './kernel_tensors'

kernelProperties({
  device: 'cpu',
  settings: cpuInfo().isaLevels.flatMap((isa) => [1, 2].map((threads) => ({ isa, threads }))),
  share: 1,
  halfAttention: 2e-6,
})

kernelTensors('cpu', 512)
