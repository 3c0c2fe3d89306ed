// RMSNorm in JavaScript and as a kernel: the same values, in less time.
import { bench, kernels } from 'cria/kernels'

const [rows, cols, eps] = [512, 4096, 1e-5]

/** out = x / sqrt(mean(x²) + eps) · weight, row by row. */
function rmsNorm(x: Float32Array, weight: Float32Array): Float32Array {
  const out = new Float32Array(x.length)
  for (let start = 0; start < x.length; start += cols) {
    let squares = 0
    for (let i = start; i < start + cols; i++) squares += x[i]! * x[i]!
    const scale = 1 / Math.sqrt(squares / cols + eps)
    for (let i = 0; i < cols; i++) out[start + i] = x[start + i]! * scale * weight[i]!
  }
  return out
}

const random = (n: number) => Float32Array.from({ length: n }, () => Math.random() * 2 - 1)
const [x, weight] = [random(rows * cols), random(cols)]

const byHand = rmsNorm(x, weight)
const byKernel = await kernels.rmsNorm(x, weight, { eps })
const maxError = byHand.reduce((max, value, i) => Math.max(max, Math.abs(value - byKernel[i]!)), 0)
console.log(`${rows} rows of ${cols}: the largest difference is ${maxError.toExponential(1)}`)

// Tensors that stay on the device are not copied, so this measures the kernel alone.
using resident = await kernels.upload(x, { shape: [rows, cols] })
using scale = await kernels.upload(weight)
using out = await kernels.allocate([rows, cols])
const script = await bench(() => rmsNorm(x, weight), { iterations: 20 })
const kernel = await bench(() => kernels.rmsNorm(resident, scale, { eps, out }), { iterations: 20 })
const speedup = (script.medianUs / kernel.medianUs).toFixed(1)
const [scriptUs, kernelUs] = [script.medianUs.toFixed(0), kernel.medianUs.toFixed(0)]
console.log(`JavaScript ${scriptUs} µs, the kernel ${kernelUs} µs: ${speedup} times as fast`)
const percent = (100 * kernel.shareOfPeak).toFixed(0)
console.log(`${kernel.gbPerSec.toFixed(1)} GB/s, ${percent} % of the limit of this machine`)
