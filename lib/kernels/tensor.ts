import { addon } from '../binding'
import { CriaError, show } from '../errors'
import { runTask } from '../tasks'
import { oneOf } from '../validate'
import { ALL_TYPES, bytesOf, type DataOf, DTYPES, type DType, elementsOf, type TensorData } from './dtypes'
import type { NativeHostTensor, NativeOperand, NativeTensor } from './native'

/**
 * An array of the host with what a typed array does not say of itself. `dtype`: what the bits mean; it may be left out
 * for a Float32Array. `shape`: sizes, the contiguous dimension last; left out: one dimension.
 */
export interface HostTensor {
  readonly data: TensorData
  readonly dtype?: DType | undefined
  readonly shape?: readonly number[] | undefined
}

/** What a kernel takes: plain float32 values, an array with its type and shape, or a resident tensor. */
export type TensorInput = Float32Array | HostTensor | Tensor

/** What a kernel gives: resident for a resident input, else a new array. */
export type Result<X> = X extends Tensor ? Tensor<'F32'> : Float32Array

/** The address of a tensor's native half, for this package alone. */
const natives = new WeakMap<object, NativeTensor>()

abstract class Resident {
  /** @internal */
  constructor(native: NativeTensor) {
    natives.set(this, native)
  }

  /** The device that holds it, e.g. `'cpu'`. */
  get device(): string {
    return nativeOf(this).device
  }

  /** Sizes; the contiguous dimension is the last. */
  get shape(): readonly number[] {
    return nativeOf(this).shape
  }

  /** Bytes on the device, without the packed copy that a CUDA device keeps of a matrix (`kernels.upload`). */
  get bytes(): number {
    return nativeOf(this).bytes
  }

  get disposed(): boolean {
    return nativeOf(this).disposed
  }

  /** Frees the memory, once the kernels under way no longer use it. Harmless a second time. */
  dispose(): void {
    nativeOf(this).dispose()
  }

  /** `using x = ...` */
  [Symbol.dispose](): void {
    this.dispose()
  }
}

/**
 * Memory on a device. Kernels that take and give tensors copy nothing between host and device, so a measurement of them
 * measures the kernel. From `kernels.upload`, `kernels.allocate` or `kernels.loadTensors`, or from a kernel. What is not
 * disposed of is freed when it is collected.
 */
export class Tensor<D extends DType = DType> extends Resident {
  /** @internal */
  static create<D extends DType>(native: NativeTensor): Tensor<D> {
    return new Tensor<D>(native)
  }

  get dtype(): D {
    return nativeOf(this).dtype as D
  }

  /**
   * A copy of the bytes: a Float32Array for F32, the bits as a Uint16Array for F16 and BF16, blocks as a Uint8Array.
   * @throws (rejects) ERR_DISPOSED
   */
  async download(): Promise<DataOf<D>> {
    const call = 'tensor.download'
    const native = nativeOf(this)
    if (native.disposed) throw disposed(call, 'the tensor')
    const args = { x: native, out: { resident: false, shape: native.shape } }
    const where = { device: native.device, isa: '', threads: 0 }
    const { outputs } = await runTask(call, () => addon().kernels.run('download', [args], where, 0, 1))
    return outputs[0] as DataOf<D>
  }
}

/**
 * Pages of keys and values on a device, in the layout that its attention reads best; {@link KvCache.download} gives
 * them as plain arrays. `shape` is `[2, pages, kvHeads, pageTokens, headDim]`. From `kernels.kvCache`.
 */
export class KvCache extends Resident {
  /** @internal */
  static create(native: NativeTensor): KvCache {
    return new KvCache(native)
  }

  get dtype(): 'F16' | 'F32' {
    return nativeOf(this).dtype as 'F16' | 'F32'
  }
  get pages(): number {
    return this.shape[1]!
  }
  get kvHeads(): number {
    return this.shape[2]!
  }
  /** Positions of one sequence that a page holds: the device's choice. */
  get pageTokens(): number {
    return this.shape[3]!
  }
  get headDim(): number {
    return this.shape[4]!
  }

  /**
   * Keys and values, `[pages, kvHeads, pageTokens, headDim]` each, as float32.
   * @throws (rejects) ERR_DISPOSED
   */
  async download(): Promise<{ k: Float32Array; v: Float32Array }> {
    const call = 'kvCache.download'
    const native = nativeOf(this)
    if (native.disposed) throw disposed(call, 'the KV cache')
    const out = { resident: false, shape: native.shape.slice(1) }
    const where = { device: native.device, isa: '', threads: 0 }
    const { outputs } = await runTask(call, () =>
      addon().kernels.run('kvRead', [{ kv: native, k: out, v: out }], where, 0, 1),
    )
    return { k: outputs[0] as Float32Array, v: outputs[1] as Float32Array }
  }
}

/** @internal */
export function nativeOf(resident: object): NativeTensor {
  const native = natives.get(resident)
  if (!native) throw new CriaError('ERR_INVALID_ARGUMENT', 'not a tensor of this package')
  return native
}

function disposed(call: string, what: string): CriaError {
  return new CriaError('ERR_DISPOSED', `${call}: ${what} was disposed`)
}

/** An ERR_INVALID_ARGUMENT about an input of a kernel. */
export function wrong(call: string, name: string, expected: string, found: string): CriaError {
  return new CriaError('ERR_INVALID_ARGUMENT', `${call}: ${name} must be ${expected}, got ${found}`, {
    details: { call, name, expected, received: found },
  })
}

export function showShape(shape: readonly number[]): string {
  return `[${shape.join(', ')}]`
}

/** A checked input: what is known of it, and how the addon takes it. */
export interface Source {
  readonly native: NativeOperand
  readonly dtype: DType
  readonly shape: readonly number[]
  readonly elements: number
  /** Where it is resident, its tensor. */
  readonly tensor: Tensor | undefined
  readonly device: string | undefined
}

const ARRAYS = { Float32Array: ['F32'], Uint16Array: ['F16', 'BF16'], Uint8Array: [] as DType[] } as Record<
  string,
  DType[]
>
const typeRule = oneOf(...ALL_TYPES)

/** Not instanceof: an array may come from another realm. */
function arrayKind(value: unknown): 'Float32Array' | 'Uint16Array' | 'Uint8Array' | undefined {
  const name = Object.prototype.toString.call(value).slice(8, -1)
  return Object.hasOwn(ARRAYS, name) ? (name as 'Float32Array') : undefined
}

/**
 * A tensor argument.
 * @throws ERR_INVALID_ARGUMENT, ERR_DISPOSED
 */
export function source(call: string, name: string, value: unknown): Source {
  if (value instanceof KvCache) throw wrong(call, name, 'a tensor', 'a KV cache')
  if (value instanceof Tensor) {
    const native = nativeOf(value)
    if (native.disposed) throw disposed(call, name)
    const { dtype, shape, device } = native
    return { native, dtype, shape, elements: elementsOf(shape), tensor: value, device }
  }
  const kind = arrayKind(value)
  if (kind && kind !== 'Float32Array') {
    throw wrong(
      call,
      name,
      `{ data, dtype${kind === 'Uint8Array' ? ', shape' : ''} } for a ${kind}`,
      show(value),
    )
  }
  const host = kind ? { data: value as TensorData } : (value as HostTensor)
  if (typeof host !== 'object' || host === null || !('data' in host)) {
    throw wrong(call, name, 'a Float32Array, { data, dtype, shape } or a tensor', show(value))
  }
  const native = hostTensor(call, name, host)
  return { ...native, native, elements: elementsOf(native.shape), tensor: undefined, device: undefined }
}

function hostTensor(
  call: string,
  name: string,
  { data, dtype, shape, ...rest }: HostTensor,
): NativeHostTensor {
  const [unknown] = Object.keys(rest)
  if (unknown !== undefined) throw wrong(call, name, '{ data, dtype, shape }', `an object with '${unknown}'`)
  const kind = arrayKind(data)
  if (!kind) throw wrong(call, `${name}.data`, 'a Float32Array, Uint16Array or Uint8Array', show(data))
  const type = dtype ?? (kind === 'Float32Array' ? 'F32' : undefined)
  const known = typeRule.parse(type)
  const fitting = kind === 'Uint8Array' ? ALL_TYPES.filter((one) => DTYPES[one].block > 1) : ARRAYS[kind]!
  if (!known || !fitting.includes(known)) {
    throw wrong(call, `${name}.dtype`, `${fitting.join(' or ')} for a ${kind}`, show(type))
  }
  const elements = (data.byteLength / DTYPES[known].bytes) * DTYPES[known].block
  const sizes = checkShape(call, `${name}.shape`, shape ?? [elements], known)
  if (elementsOf(sizes) !== elements) {
    const bytes = bytesOf(known, elementsOf(sizes))
    const wanted = `${bytes / data.BYTES_PER_ELEMENT} elements for shape ${showShape(sizes)} of ${known}`
    throw wrong(call, `${name}.data`, `a ${kind} of ${wanted}`, `${data.length}`)
  }
  // The addon reads no shared memory.
  const plain = data.buffer instanceof ArrayBuffer || !isShared(data.buffer) ? data : data.slice()
  return { data: plain, dtype: known, shape: sizes }
}

function isShared(buffer: ArrayBufferLike): boolean {
  return Object.prototype.toString.call(buffer) === '[object SharedArrayBuffer]'
}

/** Sizes, whole blocks in the last of them. */
export function checkShape(call: string, name: string, shape: unknown, dtype: DType): number[] {
  const sizes = Array.isArray(shape) ? (shape as unknown[]) : undefined
  if (!sizes?.every((size) => Number.isSafeInteger(size) && (size as number) >= 0) || sizes.length === 0) {
    throw wrong(
      call,
      name,
      'an array of integers of at least 0',
      Array.isArray(shape) ? `[${shape}]` : show(shape),
    )
  }
  const { block } = DTYPES[dtype]
  if ((sizes.at(-1) as number) % block !== 0) {
    throw wrong(
      call,
      name,
      `a shape whose last size is a multiple of ${block}, ${dtype}'s block`,
      `[${sizes}]`,
    )
  }
  return sizes as number[]
}

/** Wants so many elements, or that shape. */
export function expectShape(
  call: string,
  name: string,
  { shape, elements }: Source,
  wanted: readonly number[],
): void {
  if (elements === elementsOf(wanted) && (shape.length === 1 || shape.at(-1) === wanted.at(-1))) return
  throw wrong(call, name, `of shape ${showShape(wanted)}`, `shape ${showShape(shape)}`)
}

/** Float values, which kernels take as float32. */
export function expectFloats(call: string, name: string, { dtype }: Source): void {
  if (dtype === 'F32' || dtype === 'F16' || dtype === 'BF16') return
  throw wrong(call, `${name}.dtype`, 'F32, F16 or BF16', dtype)
}
