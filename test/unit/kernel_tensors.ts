/**
 * Tensors on a device: where results go, disposal, the order of calls, packed weights. Shared by all devices.
 */

import { type DType, devices, type KernelDevice, kernels, type Tensor } from '../../lib/kernels'
import { values } from './kernel_harness'
import { one, q4, two } from './kernel_inputs'

/** For calls that the types forbid. */
// biome-ignore lint/suspicious/noExplicitAny: the calls are wrong on purpose
const any = kernels as any

/** `passTokens`: the maximum number of tokens of a pass on the device. */
export function kernelTensors(device: string, passTokens: number): void {
  const at = { device: device as KernelDevice }
  outputTests(device, at)
  lifetimeTests(at)
  weightTests(at)
  splitPassTest(device, at, passTokens)
}

interface At {
  device: KernelDevice
}

function outputTests(device: string, at: At): void {
  test('results are resident if the first input is', async () => {
    using x = await kernels.upload(two, { shape: [1, 2], ...at })
    using y = await kernels.softmax(x)
    expect([y.dtype, y.shape, y.device, y.bytes, y.disposed]).toEqual(['F32', [1, 2], device, 8, false])
    expect(await kernels.siluMul(two, y)).toHaveLength(2)
    expect(await y.download()).toEqual(await kernels.softmax(two, at))
  })

  test('out: another tensor, in place, and inputs that it must not be', async () => {
    using x = await kernels.upload(two, at)
    using out = await kernels.allocate([2], at)
    expect(await kernels.softmax(x, { out })).toBe(out)
    expect(await kernels.softmax(x, { out: x })).toBe(x)
    expect(await x.download()).toEqual(await out.download())
    await expect(kernels.rmsNorm(two, x, { out: x })).rejects.toThrow(
      /'out' must be a tensor that is not an input of this kernel, got 'weight'/,
    )
    using matrix = await kernels.upload(two, { shape: [1, 2], ...at })
    await expect(kernels.matmul(x, matrix, { out: x })).rejects.toThrow(
      /'out' must be of shape \[1, 1\], got shape \[2\]/,
    )
    using single = await kernels.upload(one, { shape: [1, 1], ...at })
    await expect(kernels.matmul(single, single, { out: single })).rejects.toThrow(
      /not an input of this kernel, got 'x'/,
    )
    await expect(kernels.matmul(single, single, { addTo: single })).rejects.toThrow(
      /not an input of this kernel, got 'x'/,
    )
    await expect(kernels.matmul(single, single, { addTo: one })).rejects.toThrow(
      /'addTo' must be resident exactly if x is/,
    )
    await expect(kernels.addRmsNorm(x, x, two)).rejects.toThrow(/not an input of this kernel, got 'y'/)
    await expect(
      any.softmax(x, { out: await kernels.allocate([2], { dtype: 'F16', ...at }) }),
    ).rejects.toThrow(/F32/)
  })

  test('a resident x or addTo is overwritten with the sum', async () => {
    using x = await kernels.upload(two, at)
    const { sum, out } = await kernels.addRmsNorm(x, two, two)
    expect(sum).toBe(x)
    expect(await x.download()).toEqual(Float32Array.of(2, 4))
    out.dispose()
    using h = await kernels.upload(one, { shape: [1, 1], ...at })
    using y = await kernels.upload(one, { shape: [1, 1], ...at })
    expect(await kernels.matmul(h, { data: one, shape: [1, 1] }, { addTo: y })).toBe(y)
    expect(await y.download()).toEqual(Float32Array.of(2))
  })

  test('calls run in the order in which they are made, on arrays as they were at the call', async () => {
    using x = await kernels.upload(Float32Array.of(0, 0), at)
    const ones = Float32Array.of(1, 1)
    const sums = Array.from({ length: 50 }, () => kernels.addRmsNorm(x, ones, ones))
    ones.fill(7)
    const late = x.download()
    for (const { out } of await Promise.all(sums)) out.dispose()
    expect(await late).toEqual(Float32Array.of(50, 50))
  })
}

function lifetimeTests(at: At): void {
  test('a disposed tensor keeps its properties but cannot be used; running kernels finish', async () => {
    const x = await kernels.upload(new Float32Array(1 << 16).fill(1), { shape: [1, 1 << 16], ...at })
    const running = kernels.softmax(x)
    x.dispose()
    x.dispose()
    expect([x.disposed, x.shape, x.dtype]).toEqual([true, [1, 1 << 16], 'F32'])
    using y = await running
    expect((await y.download())[5]).toBeCloseTo(1 / (1 << 16), 9)
    for (const call of [() => x.download(), () => kernels.softmax(x), () => kernels.softmax(y, { out: x })]) {
      await expect(call()).rejects.toMatchObject({ code: 'ERR_DISPOSED' })
    }
    const cache = await kernels.kvCache({ pages: 1, kvHeads: 1, headDim: 4, ...at })
    cache.dispose()
    await expect(cache.download()).rejects.toMatchObject({ code: 'ERR_DISPOSED' })
    await expect(kernels.writeKv(cache, { k: two, v: two })).rejects.toThrow(/a cache that was not disposed/)
  })

  test('a cache is not a tensor, and a tensor is not a cache', async () => {
    using cache = await kernels.kvCache({ pages: 1, kvHeads: 1, headDim: 4, ...at })
    await expect(kernels.softmax(cache as unknown as Tensor)).rejects.toThrow(
      /x must be a tensor, got a KV cache/,
    )
    using x = await kernels.upload(two, at)
    await expect(
      any.pagedAttention(new Float32Array(4), x, { sequences: [{ position: 0, tokens: 1, pages: [0] }] }),
    ).rejects.toThrow(/kv must be a KvCache/)
  })

  test('more memory than the machine has', async () => {
    await expect(kernels.allocate([2 ** 45], at)).rejects.toMatchObject({ code: 'ERR_OUT_OF_MEMORY' })
  })

  test('empty inputs give empty results', async () => {
    expect(await kernels.rmsNorm(new Float32Array(0), two, at)).toEqual(new Float32Array(0))
    expect(await kernels.siluMul(new Float32Array(0), new Float32Array(0), at)).toEqual(new Float32Array(0))
    expect(await kernels.matmul(new Float32Array(0), q4(2, 32), at)).toEqual(new Float32Array(0))
    expect(await kernels.embed(q4(2, 32), [], at)).toEqual(new Float32Array(0))
    expect(await kernels.dequantize({ data: new Uint8Array(0), dtype: 'Q4_0', shape: [0, 32] }, at)).toEqual(
      new Float32Array(0),
    )
  })
}

function weightTests(at: At): void {
  test('resident weights are packed at the first product, and again when overwritten', async () => {
    const [rows, cols] = [20, 64]
    const x = values(1, 3 * cols)
    const [first, second] = [values(2, rows * cols), values(3, rows * cols)]
    const product = (weight: Float32Array) => kernels.matmul(x, { data: weight, shape: [rows, cols] }, at)
    using resident = await kernels.upload(x, { shape: [3, cols], ...at })
    using weight = await kernels.upload(first, { shape: [rows, cols], ...at })
    const multiply = async () => {
      using y = await kernels.matmul(resident, weight)
      return y.download()
    }
    expect(await multiply()).toEqual(await product(first))
    expect(await multiply()).toEqual(await product(first))
    using other = await kernels.upload(second, { shape: [rows, cols], ...at })
    using ones = await kernels.upload(new Float32Array(rows * cols).fill(1), { shape: [rows, cols], ...at })
    // weight = silu(1) · second
    await kernels.siluMul(ones, other, { out: weight })
    const written = await weight.download()
    expect(written).not.toEqual(first)
    expect(await multiply()).toEqual(await product(written))
    // Packing leaves the uploaded data unchanged.
    expect(await other.download()).toEqual(second)
  })

  test('swiglu with resident matrices of one type, of two, and the same matrix twice', async () => {
    const [ffnHidden, hidden, tokens] = [24, 256, 3]
    const x = values(1, tokens * hidden)
    const norm = values(2, hidden)
    const shape = [ffnHidden, hidden]
    const pack = async (from: number, dtype: DType) => {
      const data = await kernels.quantize({ data: values(from, ffnHidden * hidden), shape }, dtype, at)
      return kernels.upload(data as Uint8Array, { dtype, shape, ...at })
    }
    using a = await pack(3, 'Q4_K')
    using b = await pack(4, 'Q4_K')
    using c = await pack(5, 'Q8_0')
    const n = await kernels.rmsNorm(x, norm, at)
    for (const [gate, up] of [
      [a, b],
      [b, a],
      [a, a],
      [a, c],
      [a, b],
    ] as const) {
      const pieces = await kernels.siluMul(await kernels.matmul(n, gate), await kernels.matmul(n, up), at)
      expect(await kernels.swiglu(x, { norm, gate, up })).toEqual(pieces)
    }
  })
}

function splitPassTest(device: string, at: At, passTokens: number): void {
  test('more tokens than fit into a pass give the same bits as fewer', async () => {
    const { pageTokens } = (await devices()).find((one) => one.device === device)!
    const tokens = passTokens + 3
    const [hidden, heads, kvHeads, headDim] = [32, 1, 1, 16]
    const each = Math.ceil(tokens / pageTokens)
    // A sequence that is split into passes, one without tokens, and one of a single token after it.
    const sequences = [
      { position: 0, tokens: tokens - 1, pages: Array.from({ length: each }, (_, i) => each - i) },
      { position: 5, tokens: 0, pages: [0] },
      { position: 0, tokens: 1, pages: [0] },
    ]
    const x = values(1, tokens * hidden)
    const matrix = (from: number, rows: number) => ({
      data: values(from, rows * hidden),
      shape: [rows, hidden],
    })
    const weights = {
      norm: values(2, hidden),
      query: matrix(3, heads * headDim),
      key: matrix(4, kvHeads * headDim),
      value: matrix(5, kvHeads * headDim),
    }
    using kv = await kernels.kvCache({ pages: each + 1, kvHeads, headDim, dtype: 'F32', ...at })
    const q = await kernels.attentionInput(x, weights, kv, { sequences })
    const positions = [...Array.from({ length: tokens - 1 }, (_, i) => i), 0]
    const n = await kernels.rmsNorm(x, weights.norm, at)
    const rope = { headDim, positions, ...at }
    expect(q).toEqual(await kernels.rope(await kernels.matmul(n, weights.query, at), rope))
    const whole = await kernels.pagedAttention(q, kv, { sequences })
    const last = tokens - 2
    const alone = [{ position: last, tokens: 1, pages: sequences[0]!.pages }]
    const row = (i: number) => [i * heads * headDim, (i + 1) * heads * headDim] as const
    expect(whole.subarray(...row(last))).toEqual(
      await kernels.pagedAttention(q.slice(...row(last)), kv, { sequences: alone }),
    )
    expect(whole.subarray(...row(tokens - 1))).toEqual(
      await kernels.pagedAttention(q.slice(...row(tokens - 1)), kv, { sequences: sequences.slice(2) }),
    )
    const swiglu = { norm: weights.norm, gate: matrix(6, 3), up: matrix(7, 3) }
    const h = await kernels.swiglu(x, swiglu, at)
    expect(h.subarray(3 * (tokens - 1))).toEqual(
      await kernels.swiglu(x.slice(hidden * (tokens - 1)), swiglu, at),
    )
    const ids = Array.from({ length: tokens }, (_, i) => i % 16)
    const rows = await kernels.embed(weights.query, ids, at)
    expect(rows.subarray(-hidden)).toEqual(await kernels.embed(weights.query, ids.slice(-1), at))
  })
}
