/**
 * Misuse: wrong shapes, types, devices, lengths and options give errors that say what was expected and found.
 */

import { Worker } from 'node:worker_threads'
import { cpuInfo } from '../../lib/index'
import { bench, CriaError, kernels } from '../../lib/kernels'
import { one, q4, two } from './kernel_inputs'

const kv = (n = 1) => {
  const page = { data: new Float32Array(n * 32 * 4), shape: [n, 1, 32, 4] }
  return { k: page, v: page }
}
const at = (position: number, tokens: number, pages: number[]) => ({
  sequences: [{ position, tokens, pages }],
})

/** For calls that the types forbid. */
// biome-ignore lint/suspicious/noExplicitAny: the calls are wrong on purpose
const any = kernels as any

type Case = [name: string, call: () => Promise<unknown>, message: RegExp]

const CASES: Case[] = [
  ['x is not a tensor', () => any.rmsNorm('x', one), /rmsNorm: x must be a Float32Array.*got "x" \(string\)/],
  [
    'no x',
    () => any.rmsNorm(),
    /x must be a Float32Array, \{ data, dtype, shape \} or a tensor, got undefined/,
  ],
  ['a plain array', () => any.softmax([1, 2]), /x must be a Float32Array.*got an array of 2/],
  [
    'bits without a type',
    () => any.softmax(new Uint16Array(2)),
    /x must be \{ data, dtype \} for a Uint16Array/,
  ],
  [
    'bytes of a float type',
    () => any.dequantize({ data: new Uint8Array(4), dtype: 'F32', shape: [1] }),
    /x.dtype must be Q4_0 or.*got "F32"/,
  ],
  [
    'an unknown dtype',
    () => any.dequantize({ data: new Uint8Array(18), dtype: 'Q4' }),
    /x.dtype must be.*got "Q4" \(string\)/,
  ],
  [
    'an unknown field',
    () => any.softmax({ data: one, sahpe: [1] }),
    /x must be \{ data, dtype, shape \}, got an object with 'sahpe'/,
  ],
  [
    'a shape of the wrong length',
    () => kernels.softmax({ data: two, shape: [3] }),
    /x.data must be a Float32Array of 3 elements for shape \[3\] of F32, got 2/,
  ],
  [
    'a negative size',
    () => any.softmax({ data: two, shape: [2, -1] }),
    /x.shape must be an array of integers of at least 0, got \[2,-1\]/,
  ],
  ['an empty shape', () => any.softmax({ data: one, shape: [] }), /x.shape must be an array/],
  [
    'half a block',
    () => kernels.dequantize({ data: new Uint8Array(9), dtype: 'Q4_0', shape: [16] }),
    /a multiple of 32, Q4_0's block, got \[16\]/,
  ],
  [
    'rows of the wrong width',
    () => kernels.rmsNorm({ data: new Float32Array(6), shape: [2, 3] }, two),
    /x must be rows of 2 columns, like the weight, got shape \[2, 3\]/,
  ],
  ['an empty norm', () => kernels.rmsNorm(new Float32Array(0), new Float32Array(0)), /rows of 0 columns/],
  ['a quantized activation', () => kernels.softmax(q4(1, 32)), /x.dtype must be F32, F16 or BF16, got Q4_0/],
  [
    'y of the wrong shape',
    () => kernels.addRmsNorm(two, one, two),
    /y must be of shape \[2\], got shape \[1\]/,
  ],
  [
    'an odd head size',
    () => kernels.rope(new Float32Array(3), { headDim: 3, positions: [0] }),
    /'ropeDim' must be an even number of at most the head size 3/,
  ],
  [
    'half a head',
    () => kernels.rope(new Float32Array(6), { headDim: 4, positions: [0] }),
    /x must be of 1 positions times a whole number of heads of 4/,
  ],
  [
    'a position below 0',
    () => kernels.rope(new Float32Array(4), { headDim: 4, positions: [-1] }),
    /'positions'\[0\] must be an integer from 0/,
  ],
  ['no head size', () => any.rope(new Float32Array(4), { positions: [0] }), /'headDim' must be/],
  [
    'a scaling without its factor',
    () => any.rope(new Float32Array(4), { headDim: 4, positions: [0], scaling: { type: 'linear' } }),
    /'scaling.factor' must be a number from 0.001/,
  ],
  [
    'an unknown scaling',
    () => any.rope(new Float32Array(4), { headDim: 4, positions: [0], scaling: { type: 'ntk' } }),
    /'scaling' must be .*'yarn'/,
  ],
  [
    'llama3 with its factors swapped',
    () =>
      kernels.rope(new Float32Array(4), {
        headDim: 4,
        positions: [0],
        scaling: {
          type: 'llama3',
          factor: 8,
          lowFreqFactor: 4,
          highFreqFactor: 1,
          originalContextLength: 8192,
        },
      }),
    /'scaling.highFreqFactor' must be more than lowFreqFactor 4, got 1/,
  ],
  [
    'a matrix of one dimension',
    () => kernels.matmul(two, { data: two }),
    /weight must be a matrix of shape \[rows, cols\], got shape \[2\]/,
  ],
  [
    'x of the wrong width for the matrix',
    () => kernels.matmul(new Float32Array(33), q4(2, 32)),
    /x must be rows of 32 columns, like the weight, got shape \[33\]/,
  ],
  [
    'weights of an activation type',
    () => kernels.matmul(new Float32Array(32), { data: new Uint8Array(36), dtype: 'Q8_1', shape: [1, 32] }),
    /weight.dtype must be a weight type \(F32/,
  ],
  [
    'addTo of the wrong shape',
    () => kernels.matmul(new Float32Array(32), q4(2, 32), { addTo: one }),
    /'addTo' must be of shape \[1, 2\], got shape \[1\]/,
  ],
  [
    'gate and up of different shapes',
    () =>
      kernels.swiglu(new Float32Array(32), { norm: new Float32Array(32), gate: q4(2, 32), up: q4(3, 32) }),
    /weights.up must be of shape \[2, 32\], got shape \[3, 32\]/,
  ],
  ['no weights', () => any.swiglu(one), /weights.norm must be a Float32Array/],
  [
    'an id past the table',
    () => kernels.embed(q4(2, 32), [0, 2]),
    /ids\[1\] must be a token id from 0 to 1, got 2/,
  ],
  [
    'columns that are not whole blocks',
    () => kernels.quantize(new Float32Array(33), 'Q8_0'),
    /rows of a multiple of 32 columns for Q8_0, got shape \[33\]/,
  ],
  ['an unknown type', () => any.quantize(one, 'Q9'), /dtype must be 'F32' or/],
  [
    'a page past the cache',
    () => kernels.pagedAttention(new Float32Array(4), kv(), at(0, 1, [1])),
    /sequences\[0\].pages\[0\] must be a page from 0 to 0, got 1/,
  ],
  [
    'too few pages',
    () => kernels.pagedAttention(new Float32Array(4), kv(), at(32, 1, [0])),
    /sequences\[0\].pages must be at least 2 pages of 32 tokens to hold 33, got 1/,
  ],
  [
    'no sequences',
    () => any.pagedAttention(new Float32Array(4), kv(), {}),
    /'sequences' must be an array of \{ position, tokens, pages \}/,
  ],
  [
    'one token too many',
    () => kernels.pagedAttention(new Float32Array(4), kv(), at(0, 2, [0])),
    /q must be a multiple of the cache's 1 KV heads, got 0.5 heads/,
  ],
  [
    'pages of the wrong size',
    () => {
      const page = { data: new Float32Array(64), shape: [1, 1, 16, 4] }
      return kernels.pagedAttention(new Float32Array(4), { k: page, v: page }, at(0, 1, [0]))
    },
    /kv: expected pages of 32 tokens on cpu, found 16/,
  ],
  [
    'not a cache',
    () => any.pagedAttention(new Float32Array(4), 5, at(0, 1, [0])),
    /kv must be a KvCache, got 5/,
  ],
  [
    'a cache without pages',
    () => kernels.kvCache({ pages: 0, kvHeads: 1, headDim: 4 }),
    /'pages' must be an integer from 1/,
  ],
  [
    'a cache without a head size',
    () => any.kvCache({ pages: 1, kvHeads: 1 }),
    /'headDim' must be an integer/,
  ],
  [
    'a misspelt option',
    () => any.softmax(one, { treads: 1 }),
    /unknown option 'treads'; did you mean 'threads'\?/,
  ],
  [
    'an unknown instruction-set level',
    () => kernels.softmax(one, { isa: 'avx9' }),
    /'isa' must be an instruction-set level of this machine/,
  ],
  [
    'no threads',
    () => kernels.softmax(one, { threads: 0 }),
    /'threads' must be an integer from 1 to 1024, got 0/,
  ],
  [
    'an unknown device',
    () => any.softmax(one, { device: 'gpu' }),
    /'device' must be 'cpu', 'cuda' or 'cuda:<n>', got "gpu"/,
  ],
  ['out in host memory', () => any.softmax(one, { out: one }), /'out' must be a resident tensor of F32/],
  ['no logits', () => kernels.sample(new Float32Array(0)), /logits must be rows of at least one logit/],
  [
    'the wrong number of positions',
    () => kernels.sample(one, { positions: [1, 2] }),
    /one for each of 1 rows, got 2/,
  ],
  [
    'a negative temperature',
    () => kernels.sample(one, { temperature: -1 }),
    /'temperature' must be a number from 0 to 100/,
  ],
  [
    'an upload of a plain array',
    () => any.upload([1]),
    /data.data must be a Float32Array, Uint16Array or Uint8Array, got an array of 1/,
  ],
  ['a bench of an unknown op', () => bench({ op: 'rmsnorm' } as never), /op must be 'rmsNorm' or/],
  [
    'a size of zero',
    () => bench({ op: 'softmax', rows: 0, cols: 1 }),
    /rows must be an integer of at least 1, got 0/,
  ],
  [
    'a field of another op',
    () => bench({ op: 'softmax', rows: 1, cols: 1, tokens: 1 } as never),
    /a field of softmax must be one of op, rows, cols, got "tokens"/,
  ],
  [
    'a bench without a weight type',
    () => bench({ op: 'matmul', rows: 1, cols: 32, tokens: 1 } as never),
    /dtype must be 'F32' or .*, got undefined/,
  ],
  [
    'a bench of weights of an activation type',
    () => bench({ op: 'matmul', dtype: 'Q8_K', rows: 1, cols: 256, tokens: 1 } as never),
    /dtype must be 'F32' or .*, got "Q8_K"/,
  ],
  [
    'a bench of a matrix without whole blocks',
    () => bench({ op: 'matmul', dtype: 'Q4_K', rows: 3, cols: 100, tokens: 1 }),
    /the matrix must be a shape whose last size is a multiple of 256, Q4_K's block, got \[3,100\]/,
  ],
  [
    'a context shorter than the new tokens',
    () => bench({ op: 'pagedAttention', heads: 1, kvHeads: 1, headDim: 4, tokens: 2, context: 1 }),
    /context must be at least 2, the new tokens, got 1/,
  ],
  [
    'a bench of a function, with a level',
    () => bench(() => 1, { isa: cpuInfo().isa }),
    /'isa' must be absent for a function, whose kernels take it themselves/,
  ],
  [
    'an instruction-set level on CUDA',
    () => kernels.softmax(one, { device: 'cuda', isa: cpuInfo().isa }),
    /'isa' must be absent on 'cuda:0': it is for the CPU only, got "/,
  ],
  [
    'threads on CUDA',
    () => kernels.softmax(one, { device: 'cuda:3', threads: 2 }),
    /'threads' must be absent on 'cuda:3': it is for the CPU only, got 2/,
  ],
]

test.each(CASES)('%s', async (_name, call, message) => {
  const error = await call().then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(CriaError)
  expect((error as CriaError).message).toMatch(message)
  expect((error as CriaError).code).toBe('ERR_INVALID_ARGUMENT')
})

test('a missing device does not fall back to the CPU', async () => {
  await expect(kernels.softmax(one, { device: 'cuda' })).rejects.toMatchObject({
    code: 'ERR_UNSUPPORTED_DEVICE',
  })
  await expect(kernels.upload(one, { device: 'cuda:1' })).rejects.toMatchObject({
    code: 'ERR_UNSUPPORTED_DEVICE',
  })
})

test('a missing file, and a file of another format', async () => {
  await expect(kernels.loadTensors('/nowhere.gguf')).rejects.toMatchObject({ code: 'ERR_FILE_NOT_FOUND' })
  await expect(kernels.loadTensors(__filename)).rejects.toMatchObject({ code: 'ERR_INVALID_FILE' })
})

test('an array is copied at the call: detaching it afterwards has no effect', async () => {
  const x = new Float32Array(1 << 16).fill(1)
  const running = kernels.softmax(x)
  structuredClone(x.buffer, { transfer: [x.buffer] })
  expect((await running)[0]).toBeCloseTo(1 / (1 << 16), 9)
  expect(await kernels.softmax(new Float32Array(new SharedArrayBuffer(8)))).toEqual(Float32Array.of(0.5, 0.5))
  const part = Float32Array.of(9, 0, 0, 9).subarray(1, 3)
  expect(await kernels.softmax(part)).toEqual(Float32Array.of(0.5, 0.5))
})

test('the event loop runs while a kernel runs', async () => {
  let turns = 0
  const timer = setInterval(() => turns++, 5)
  await kernels.matmul(
    new Float32Array(256 * 2048),
    { data: new Float32Array(2048 * 2048), shape: [2048, 2048] },
    { isa: 'portable' },
  )
  clearInterval(timer)
  expect(turns).toBeGreaterThan(2)
})

test('a worker is terminated while kernels run', async () => {
  const script = `
    const { kernels } = require('${process.cwd()}/dist/kernels.js')
    const x = { data: new Float32Array(1 << 22), shape: [1 << 10, 1 << 12] }
    const weight = new Float32Array(1 << 12)
    const { parentPort } = require('node:worker_threads')
    kernels.rmsNorm(x, weight).then(() => parentPort.postMessage('running'))
    for (let i = 0; i < 20; i++) kernels.upload(x.data).then(() => {})`
  for (let round = 0; round < 3; round++) {
    const worker = new Worker(script, { eval: true })
    await new Promise((resolve, reject) => {
      worker.on('message', resolve)
      worker.on('error', reject)
    })
    await worker.terminate()
  }
})
