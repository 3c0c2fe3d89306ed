// cria/kernels: its types, and misuse that must not compile.
import {
  type AddRmsNormResult,
  type BenchSpec,
  bench,
  devices,
  type KernelBenchResult,
  type KvCache,
  kernels,
  type SampleResult,
  type Tensor,
} from 'cria/kernels'

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
function same<A, B>(_equal: Equal<A, B>): void {}

const x = Float32Array.of(1)

export async function tensors(): Promise<void> {
  using resident = await kernels.upload(x, { shape: [1, 1] })
  same<typeof resident, Tensor<'F32'>>(true)
  using half = await kernels.upload(Uint16Array.of(1), { dtype: 'BF16' })
  same<typeof half, Tensor<'BF16'>>(true)
  const blocks = await kernels.upload(new Uint8Array(18), { dtype: 'Q4_0', shape: [1, 32] })
  const [floats, bits, bytes] = [await resident.download(), await half.download(), await blocks.download()]
  same<typeof floats, Float32Array>(true)
  same<typeof bits, Uint16Array>(true)
  same<typeof bytes, Uint8Array>(true)
  using out = await kernels.allocate([1])
  same<typeof out, Tensor<'F32'>>(true)
}

/** Resident inputs give resident results, arrays give arrays. */
export async function operators(
  resident: Tensor<'F32'>,
  half: Tensor<'BF16'>,
  blocks: Tensor<'Q4_0'>,
): Promise<void> {
  using out = await kernels.allocate([1])
  const a = await kernels.rmsNorm(x, x)
  const b = await kernels.rmsNorm(resident, x, { eps: 1e-6, out, threads: 2, isa: 'avx2' })
  same<typeof a, Float32Array>(true)
  same<typeof b, Tensor<'F32'>>(true)
  const c = await kernels.matmul({ data: x, shape: [1, 1] }, resident)
  same<typeof c, Float32Array>(true)
  const d = await kernels.addRmsNorm(resident, x, x)
  same<typeof d, AddRmsNormResult<Tensor<'F32'>>>(true)
  const e = await kernels.quantize(x, 'F16')
  const f = await kernels.quantize(resident, 'Q8_0')
  same<typeof e, Uint16Array>(true)
  same<typeof f, Tensor<'Q8_0'>>(true)
  await kernels.rope(x, {
    headDim: 2,
    positions: [0],
    scaling: { type: 'yarn', factor: 4, originalContextLength: 4096 },
  })
  const kv: KvCache = await kernels.kvCache({ pages: 1, kvHeads: 1, headDim: 2 })
  const q = await kernels.attentionInput(
    resident,
    { norm: x, query: resident, key: half, value: blocks },
    kv,
    {
      sequences: [{ position: 0, tokens: 1, pages: [0] }],
      rope: { layout: 'half' },
    },
  )
  await kernels.pagedAttention(q, kv, { sequences: [{ position: 0, tokens: 1, pages: Int32Array.of(0) }] })
  const sampled: SampleResult = await kernels.sample(x, { temperature: 1, seed: 5n })
  const spec: BenchSpec = { op: 'rmsNorm', rows: 1, cols: 2 }
  const result: KernelBenchResult = await bench(spec, { warmup: 1 })
  await bench(() => kernels.softmax(resident, { out }))
  const pageTokens: number = (await devices())[0]!.pageTokens
  void [sampled, result, pageTokens]
}

export async function misuse(resident: Tensor<'F32'>, half: Tensor<'BF16'>, kv: KvCache): Promise<void> {
  // @ts-expect-error a plain array is no tensor
  await kernels.softmax([1, 2])
  // @ts-expect-error bits need a dtype
  await kernels.upload(Uint16Array.of(1))
  // @ts-expect-error results are F32
  await kernels.softmax(x, { out: half })
  // @ts-expect-error an unknown dtype
  await kernels.quantize(x, 'Q9')
  // @ts-expect-error an unknown option
  await kernels.softmax(x, { eps: 1 })
  // @ts-expect-error the head size is missing
  await kernels.rope(x, { positions: [0] })
  // @ts-expect-error a linear scaling has a factor
  await kernels.rope(x, { headDim: 2, positions: [0], scaling: { type: 'linear' } })
  // @ts-expect-error weights need a shape
  await kernels.matmul(x, x)
  // @ts-expect-error a cache is no tensor
  await kernels.softmax(kv)
  // @ts-expect-error a tensor is no cache
  await kernels.pagedAttention(x, resident, { sequences: [] })
  // @ts-expect-error the rows are missing
  await bench({ op: 'rmsNorm', cols: 2 })
  // @ts-expect-error read-only
  resident.shape = [1]
}
