/** bench() of cria/kernels, its reports and plots, and `cria bench kernels`. */

import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { quantile } from '../../lib/bench/figures'
import { kernelCases } from '../../lib/bench/kernel_cases'
import {
  compareReports,
  comparisonTable,
  type KernelReport,
  kernelCsv,
  kernelTable,
} from '../../lib/bench/kernel_report'
import { rooflineSvg } from '../../lib/bench/roofline'
import { SHAPE_NAMES } from '../../lib/bench/shapes'
import { cpuInfo } from '../../lib/index'
import { bench, kernels } from '../../lib/kernels'
import { mixOf } from '../../lib/kernels/bench'
import { BENCH_OPS, checkSpec } from '../../lib/kernels/bench_specs'
import { ALL_TYPES } from '../../lib/kernels/dtypes'

test('a description: bytes, operations and rates match the kernel', async () => {
  const result = await bench(
    { op: 'matmul', dtype: 'Q8_0', rows: 64, cols: 256, tokens: 2 },
    { iterations: 20, warmup: 1 },
  )
  expect(result.bytes).toBe((64 * 256 * 34) / 32 + 4 * 2 * (256 + 64))
  expect(result.flops).toBe(2 * 2 * 64 * 256)
  expect(result.iterations).toBe(20)
  expect(result.p5Us).toBeLessThanOrEqual(result.medianUs)
  expect(result.medianUs).toBeLessThanOrEqual(result.p95Us)
  expect(result.gbPerSec).toBeCloseTo(result.bytes / result.medianUs / 1e3, 9)
  expect(result.gflopPerSec).toBeCloseTo(result.flops / result.medianUs / 1e3, 9)
  expect(result.shareOfPeak).toBeGreaterThan(0)
})

test('a memory-bound kernel: its share refers to the bandwidth measured between the runs', async () => {
  const result = await bench({ op: 'softmax', rows: 512, cols: 4096 }, { iterations: 20, warmup: 1 })
  expect(result.memoryGBs).toBeGreaterThan(0.1)
  expect(result.readGBs).toBeGreaterThan(0.1)
  expect(result.shareP5).toBeLessThanOrEqual(result.shareOfPeak)
  expect(result.shareOfPeak).toBeLessThanOrEqual(result.shareP95)
  expect(result.shareP5).toBeGreaterThan(0)
  const computeBound = await bench(
    { op: 'matmul', dtype: 'F32', rows: 512, cols: 512, tokens: 512 },
    { iterations: 2, warmup: 0 },
  )
  expect([computeBound.memoryGBs, computeBound.readGBs]).toEqual([Number.NaN, Number.NaN])
})

test('the mix of reads and writes nearest to a kernel', () => {
  const mix = (bytes: number, written: number) => mixOf({ bytes, written, flops: 0, arithmetic: 'f32' })
  expect(mix(100, 0)).toEqual({ reads: 1, writes: 0 })
  expect(mix(100, 1)).toEqual({ reads: 1, writes: 0 })
  expect(mix(8, 4)).toEqual({ reads: 1, writes: 1 })
  expect(mix(12, 4)).toEqual({ reads: 2, writes: 1 })
  expect(mix(4.5 + 32, 32)).toEqual({ reads: 1, writes: 7 })
})

test.each(ALL_TYPES)('dequantize can be measured for %s', async (dtype) => {
  const spec = { op: 'dequantize' as const, dtype, rows: 2, cols: 256 }
  expect((await bench(spec, { iterations: 1, warmup: 0 })).medianUs).toBeGreaterThan(0)
})

test('a function: the time of its kernels, without the time between them', async () => {
  const x = Float32Array.of(1, 2)
  const result = await bench(
    async () => {
      await kernels.softmax(x)
      await new Promise((resolve) => setTimeout(resolve, 5))
      await kernels.siluMul(x, x)
    },
    { iterations: 5, warmup: 0 },
  )
  expect(result.bytes).toBe(8 * 2 + 12 * 2)
  expect(result.medianUs).toBeLessThan(2000)
  expect(result.shareOfPeak).toBeGreaterThan(0)
})

test('a function without kernels gives its own time, one that throws gives its error', async () => {
  const result = await bench(() => new Promise((resolve) => setTimeout(resolve, 5)), {
    iterations: 5,
    warmup: 0,
  })
  expect(result.medianUs).toBeGreaterThan(4000)
  expect([result.bytes, result.flops, result.shareOfPeak]).toEqual([0, 0, Number.NaN])
  await expect(bench(() => Promise.reject(new Error('mine')))).rejects.toThrow('mine')
})

test('an abort signal stops it', async () => {
  const run = bench(
    { op: 'softmax', rows: 64, cols: 65536 },
    { iterations: 10000, signal: AbortSignal.timeout(100) },
  )
  await expect(run).rejects.toMatchObject({ name: 'AbortError', code: 'ERR_ABORTED' })
})

test('quantiles', () => {
  expect(quantile([5], 0.05)).toBe(5)
  expect(quantile([1, 2, 3, 4], 0.5)).toBe(2.5)
  expect(quantile([0, 10], 0.95)).toBeCloseTo(9.5)
  expect(quantile([3, 1, 2], 0.5)).toBe(2)
  expect(quantile([], 0.5)).toBeNaN()
})

test('the cases cover every op, have unique names, and are valid', () => {
  for (const shape of SHAPE_NAMES) {
    const cases = kernelCases(shape)
    expect(new Set(cases.map(({ name }) => name)).size).toBe(cases.length)
    expect(new Set(cases.map(({ spec }) => spec.op))).toEqual(new Set(BENCH_OPS))
    for (const { spec } of cases) expect(checkSpec(spec)).toBe(spec)
  }
})

const ceilings = { threads: 2, readGBs: 20, int8GMacs: 200, f32GMacs: 50, bf16GMacs: 0 }
const machine = {
  cpu: 'A & B',
  cores: 2,
  memoryBytes: 1,
  platform: 'p',
  kernel: 'k',
  device: 'cpu',
  isa: 'avx2',
  ceilings,
}
const row = (name: string, medianUs: number) => ({
  name,
  spec: { op: 'softmax' as const, rows: 1, cols: 1 },
  device: 'cpu',
  isa: 'avx2',
  threads: 2,
  medianUs,
  p5Us: medianUs,
  p95Us: medianUs,
  iterations: 5,
  bytes: 1000,
  flops: 500,
  gbPerSec: 1 / medianUs,
  gflopPerSec: 0.5 / medianUs,
  shareOfPeak: 0.5,
  shareP5: 0.4,
  shareP95: 0.6,
  memoryGBs: 30,
  readGBs: Number.NaN,
})
const report = (...results: KernelReport['results']): KernelReport => ({
  versions: {},
  date: 'd',
  loadAverage: 0,
  machines: [machine],
  results,
})

test('a table, a CSV, a plot', () => {
  const made = report(row('a', 10), row('b,"c"', 200))
  expect(kernelTable(made)).toMatch(
    /A & B, 2 threads, avx2: 20.0 GB\/s, int8 400 GFLOP\/s, f32 100 GFLOP\/s\n\nkernel +median µs.*\na +10.0 +10.0/,
  )
  const [head, first, second] = kernelCsv(made).split('\r\n')
  expect(head).toMatch(/^name,device,isa,threads,medianUs/)
  expect(first).toMatch(/^a,cpu,avx2,2,10,10,10,5,1000,500,.*,0.5,0.4,0.6,30,$/)
  expect(second).toMatch(/^"b,""c""",cpu/)
  const svg = rooflineSvg(made)
  expect(svg).toMatch(/^<svg xmlns=.*<\/svg>\n$/s)
  expect(svg).toContain('A &amp; B')
  expect(svg.match(/<title>/g)).toHaveLength(2)
  expect(svg).not.toMatch(/NaN|Infinity|undefined/)
})

test('a comparison lists the kernels that changed by more than the threshold', () => {
  const before = report(row('a', 10), row('b', 10), row('c', 10), row('gone', 1))
  const comparisons = compareReports(before, report(row('a', 10.5), row('b', 12), row('c', 5), row('new', 1)))
  expect(comparisons.map(({ name }) => name)).toEqual(['a', 'b', 'c'])
  const { text, regressions } = comparisonTable(comparisons, 0.1)
  expect(regressions).toBe(1)
  expect(text).toMatch(
    /^3 compared: 1 slower and 1 faster by more than 10 %\n[\s\S]*b +avx2 +10.0 +12.0 +20 % slower\nc .*100 % faster\n$/,
  )
  expect(() => compareReports({ results: [{}] }, before)).toThrow(/bench kernels --json/)
  expect(() => compareReports(null, before)).toThrow(/bench kernels --json/)
})

describe('cria bench kernels', () => {
  const folder = mkdtempSync(join(tmpdir(), 'cria-kernels-'))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  const cria = (...args: string[]) =>
    spawnSync(
      process.execPath,
      [join(__dirname, '..', '..', 'dist', 'cli', 'main.js'), 'bench', 'kernels', ...args],
      {
        encoding: 'utf8',
      },
    )
  const quick = ['--shape', 'test-tiny', '--op', 'softmax,sample', '--iterations', '3', '--warmup', '0']

  test('writes a table, JSON, CSV and a plot; a comparison fails when a kernel got slower', () => {
    const [json, csv, svg] = ['json', 'csv', 'svg'].map((kind) => join(folder, `out.${kind}`)) as [
      string,
      string,
      string,
    ]
    const isa = cpuInfo().isaLevels[0]!
    const first = cria(...quick, '--isa', isa, '--json', json, '--csv', csv, '--svg', svg)
    expect({ status: first.status, stderr: first.stderr }).toEqual({ status: 0, stderr: '' })
    expect(first.stdout).toMatch(/test-tiny\/softmax\/8192x256 /)
    const written = JSON.parse(readFileSync(json, 'utf8')) as KernelReport
    expect(written.results.map(({ isa: level, spec }) => [level, spec.op])).toEqual([
      [isa, 'softmax'],
      [isa, 'softmax'],
      [isa, 'sample'],
    ])
    expect(readFileSync(csv, 'utf8').split('\r\n')).toHaveLength(5)
    expect(readFileSync(svg, 'utf8')).toMatch(/^<svg/)

    const old = (factor: number) => {
      const results = written.results.map((one) => ({ ...one, medianUs: one.medianUs * factor }))
      writeFileSync(json, JSON.stringify({ ...written, results }))
    }
    old(1000)
    const better = cria(...quick, '--isa', isa, '--compare', json)
    expect(better.stdout).toMatch(/3 compared: 0 slower and 3 faster by more than 10 %/)
    expect(better.status).toBe(0)
    old(1e-3)
    const worse = cria(...quick, '--isa', isa, '--compare', json, '--threshold', '0.5')
    expect(worse.stdout).toMatch(/3 compared: 3 slower and 0 faster by more than 50 %/)
    expect(worse.status).toBe(1)
  })

  test.each([
    [['--op', 'softmux'], /--op needs one of rmsNorm, .*got 'softmux'/],
    [['--shape', 'llama-9'], /--shape needs one of llama-3.2-1b/],
    [['--type', 'Q9'], /--type needs one of/],
    [['--isa', 'avx9'], /--isa needs one of/],
    [['--device', 'cpu,gpu'], /--device needs 'cpu', 'cuda' or 'cuda:<n>', got 'gpu'/],
    [['--device', 'cuda', '--threads', '2'], /--threads needs the device 'cpu', got 'cuda'/],
    [['--filter', 'nothing'], /--filter matches no kernel, got 'nothing'/],
    [['--threshold', '0'], /--threshold needs a number above 0/],
    [['somewhere.gguf'], /bench kernels takes options only/],
    [['--prompt', '5'], /unknown option '--prompt'/],
  ])('%j is a usage error', (args, message) => {
    const { status, stderr } = cria(...args)
    expect(stderr).toMatch(message)
    expect(status).toBe(2)
  })

  test('a missing report and a missing device are errors', () => {
    expect(cria('--compare', join(folder, 'none.json'))).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/ERR_IO/),
    })
    expect(cria(...quick, '--device', 'cuda')).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/ERR_UNSUPPORTED_DEVICE/),
    })
  })
})
