/**
 * cria/kernels on the emulated CUDA device, which runs the CUDA kernels on the CPU, thousands of times slower
 * than a GPU. Each property is therefore tried fewer times.
 */

import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import type { KernelReport } from '../../lib/bench/kernel_report'
import { bench, devices, type KernelDevice, kernels } from '../../lib/kernels'
import { ceilingsOf } from '../../lib/kernels/bench'
import { BENCH_OPS, type BenchSpec } from '../../lib/kernels/bench_specs'
import { built } from './emulated_addon'
import { kernelProperties } from './kernel_properties'
import { kernelTensors } from './kernel_tensors'

const device = 'cuda-emulated' as KernelDevice
const two = Float32Array.of(1, 2)

if (!built) test.skip('the emulated device (npm run build:tests builds its addon)', () => {})
else {
  kernelProperties({
    device: 'cuda-emulated:0',
    settings: [{ device }],
    share: 0.5,
    halfAttention: 1e-3,
  })
  kernelTensors('cuda-emulated:0', 4096)

  describe('two devices', () => {
    test('are listed', async () => {
      expect(
        (await devices()).map(({ device: name, name: maker, pageTokens }) => [name, maker, pageTokens]),
      ).toEqual([
        ['cpu', '', 32],
        ['cuda-emulated:0', 'emulated device', 64],
      ])
    })

    test('cannot be mixed in a call; the message says what was expected and found', async () => {
      using here = await kernels.upload(two)
      using there = await kernels.upload(two, { device })
      const cases: Array<[() => Promise<unknown>, RegExp]> = [
        [
          () => kernels.siluMul(here, there),
          /siluMul: up must be on device 'cpu', got a tensor on 'cuda-emulated:0'/,
        ],
        [
          () => kernels.softmax(here, { device }),
          /softmax: x must be on device 'cuda-emulated:0', got a tensor on 'cpu'/,
        ],
        [
          () => kernels.softmax(two, { device, out: here as never }),
          /softmax: out must be on device 'cuda-emulated:0', got a tensor on 'cpu'/,
        ],
        [
          () => kernels.softmax(there, { device: 'cpu' }),
          /softmax: x must be on device 'cpu', got a tensor on 'cuda-emulated:0'/,
        ],
        [
          () => kernels.softmax(there, { isa: 'portable' }),
          /'isa' must be absent on 'cuda-emulated:0': it is for the CPU only, got "portable"/,
        ],
      ]
      for (const [call, message] of cases) {
        await expect(call()).rejects.toMatchObject({
          code: 'ERR_INVALID_ARGUMENT',
          message: expect.stringMatching(message),
        })
      }
      // The same device by its full name.
      using same = await kernels.softmax(there, { device: 'cuda-emulated:0' as KernelDevice })
      expect(same.device).toBe('cuda-emulated:0')
    })

    test('a missing device number, an unsupported head size, the CPU page size', async () => {
      await expect(kernels.softmax(two, { device: 'cuda-emulated:1' as KernelDevice })).rejects.toMatchObject(
        {
          code: 'ERR_UNSUPPORTED_DEVICE',
          message: expect.stringMatching(/no CUDA device 1: the driver shows 1/),
        },
      )
      using kv = await kernels.kvCache({ pages: 1, kvHeads: 1, headDim: 258, device })
      const sequences = [{ position: 0, tokens: 1, pages: [0] }]
      await expect(kernels.pagedAttention(new Float32Array(258), kv, { sequences })).rejects.toMatchObject({
        code: 'ERR_UNSUPPORTED_MODEL',
        message: expect.stringMatching(/head_dim on CUDA: expected an even number, at most 256, found 258/),
      })
      const page = { data: new Float32Array(32 * 4), shape: [1, 1, 32, 4] }
      await expect(
        kernels.pagedAttention(new Float32Array(4), { k: page, v: page }, { sequences, device }),
      ).rejects.toThrow(/kv: expected pages of 64 tokens on cuda-emulated:0, found 32/)
      // The device still works after an error.
      expect(await kernels.softmax(Float32Array.of(0, 0), { device })).toEqual(Float32Array.of(0.5, 0.5))
    })
  })

  describe('measuring', () => {
    test('ceilings: the bandwidth, and every rate of sm_90', async () => {
      const { threads, ...rates } = await ceilingsOf({ device: 'cuda-emulated:0', isa: '', threads: 0 })
      expect(threads).toBe(0)
      expect(Object.keys(rates).sort()).toEqual(['bf16GMacs', 'f32GMacs', 'int8GMacs', 'readGBs'])
      for (const rate of Object.values(rates)) expect(rate).toBeGreaterThan(0)
    }, 60_000)

    const SPECS: Record<BenchSpec['op'], BenchSpec> = {
      rmsNorm: { op: 'rmsNorm', rows: 3, cols: 64 },
      addRmsNorm: { op: 'addRmsNorm', rows: 3, cols: 64 },
      siluMul: { op: 'siluMul', rows: 3, cols: 64 },
      softmax: { op: 'softmax', rows: 3, cols: 64 },
      rope: { op: 'rope', tokens: 3, heads: 2, headDim: 16 },
      matmul: { op: 'matmul', dtype: 'Q4_K', rows: 16, cols: 256, tokens: 9 },
      swiglu: { op: 'swiglu', dtype: 'Q8_0', hidden: 64, ffnHidden: 32, tokens: 2 },
      attentionInput: {
        op: 'attentionInput',
        dtype: 'F16',
        hidden: 32,
        heads: 2,
        kvHeads: 1,
        headDim: 16,
        tokens: 2,
      },
      pagedAttention: {
        op: 'pagedAttention',
        heads: 2,
        kvHeads: 1,
        headDim: 16,
        tokens: 1,
        context: 70,
        sequences: 2,
      },
      quantize: { op: 'quantize', dtype: 'Q8_K', rows: 2, cols: 256 },
      dequantize: { op: 'dequantize', dtype: 'Q6_K', rows: 2, cols: 256 },
      embed: { op: 'embed', dtype: 'Q4_0', vocab: 20, cols: 32, tokens: 3 },
      sample: { op: 'sample', rows: 2, vocab: 50 },
    }
    test.each(BENCH_OPS)('%s: a time, and a share of the peak', async (op) => {
      const found = await bench(SPECS[op], { device, warmup: 0, iterations: 2 })
      expect(found.iterations).toBe(2)
      expect(found.medianUs).toBeGreaterThan(0)
      expect(found.shareOfPeak).toBeGreaterThan(0)
      expect(found.shareOfPeak).toBeLessThan(Number.POSITIVE_INFINITY)
    })

    test('cria bench kernels --device cpu,cuda reports both devices', () => {
      const cria = (...args: string[]) =>
        spawnSync(
          process.execPath,
          [join(__dirname, '..', '..', 'dist', 'cli', 'main.js'), 'bench', 'kernels', ...args],
          { encoding: 'utf8', env: { ...process.env } },
        )
      const few = ['--shape', 'test-tiny', '--op', 'sample', '--iterations', '2', '--warmup', '0']
      const both = cria(...few, '--device', 'cpu,cuda-emulated', '--isa', 'portable', '--json', '-')
      expect({ status: both.status, stderr: both.stderr }).toEqual({ status: 0, stderr: '' })
      const { machines, results } = JSON.parse(both.stdout) as KernelReport
      expect(machines.map(({ device: name, isa, accelerator }) => [name, isa, accelerator])).toEqual([
        ['cpu', 'portable', undefined],
        ['cuda-emulated:0', 'sm_90', 'emulated device'],
      ])
      expect(results.map(({ device: name, isa }) => [name, isa])).toEqual([
        ['cpu', 'portable'],
        ['cuda-emulated:0', 'sm_90'],
      ])
      const { status, stdout } = cria(...few, '--device', 'cuda-emulated')
      expect(status).toBe(0)
      expect(stdout).toMatch(
        /^emulated device, cuda-emulated:0, sm_90: [\d.]+ GB\/s, int8 \d+ .*bf16 \d+ .*f32 \d+ GFLOP\/s\n/,
      )
      expect(stdout).toMatch(/test-tiny\/sample\/1x600 /)
      expect(cria(...few, '--device', 'cuda-emulated', '--isa', 'portable')).toMatchObject({
        status: 2,
        stderr: expect.stringMatching(/--isa needs the device 'cpu', got 'cuda-emulated'/),
      })
    }, 60_000)
  })
}
