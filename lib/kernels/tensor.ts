import { addon } from '../binding'
import { CriaError, show } from '../errors'
import { runTask } from '../tasks'
import { oneOf } from '../validate'
import { ALL_TYPES, bytesOf, type DataOf, DTYPES, type DType, elementsOf, type TensorData } from './dtypes'
import type {
  NativeHostTensor,
  NativeKernelArgs,
  NativeKernelOp,
  NativeKernelResult,
  NativeOperand,
  NativeTensor,
} from './native'

/** A host array with its type and shape. */
export interface HostTensor {
  readonly data: TensorData
  /** How to read the bits. Default for a Float32Array: `'F32'`; required for other arrays. */
  readonly dtype?: DType | undefined
  /** Sizes, the contiguous dimension last. Default: one dimension. */
  readonly shape?: readonly number[] | undefined
}

/** An input of a kernel: plain float32 values, an array with its type and shape, or a resident tensor. */
export type TensorInput = Float32Array | HostTensor | Tensor

/** The result of a kernel: a resident tensor if the first input was one, otherwise a new array. */
export type Result<X> = X extends Tensor ? Tensor<'F32'> : Float32Array

/** The native object behind each Tensor and KvCache, hidden from users. */
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

  /**
   * Bytes on the device, without the packed copy that a CUDA device keeps of a weight matrix
   * (`kernels.upload`).
   */
  get bytes(): number {
    return nativeOf(this).bytes
  }

  get disposed(): boolean {
    return nativeOf(this).disposed
  }

  /** Frees the memory as soon as no running kernel uses it. Idempotent. */
  dispose(): void {
    nativeOf(this).dispose()
  }

  /** `using x = ...` */
  [Symbol.dispose](): void {
    this.dispose()
  }
}

/**
 * A tensor on a device. Kernels whose inputs and outputs are resident copy nothing between host and device,
 * so timing them measures the kernel alone. Created by `kernels.upload`, `kernels.allocate`,
 * `kernels.loadTensors`, or as the result of a kernel. The garbage collector frees a tensor that was not
 * disposed.
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
   * Copies the tensor to the host: as a Float32Array for F32, a Uint16Array of bits for F16 and BF16, a
   * Uint8Array of blocks for quantized types.
   * @throws (rejects) ERR_DISPOSED
   */
  async download(): Promise<DataOf<D>> {
    const native = undisposed('tensor.download', 'the tensor', this)
    const out = { resident: false, shape: native.shape }
    const { outputs } = await runOn(native, 'tensor.download', 'download', { x: native, out })
    return outputs[0] as DataOf<D>
  }
}

/**
 * A paged KV cache of one layer, in the layout that the device's attention kernel reads best; {@link
 * KvCache.download} returns it as plain arrays. `shape` is `[2, pages, kvHeads, pageTokens, headDim]`.
 * Created by `kernels.kvCache`.
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
  /** Tokens per page; the device determines it. */
  get pageTokens(): number {
    return this.shape[3]!
  }
  get headDim(): number {
    return this.shape[4]!
  }

  /**
   * Copies keys and values to the host, `[pages, kvHeads, pageTokens, headDim]` each, as float32.
   * @throws (rejects) ERR_DISPOSED
   */
  async download(): Promise<{ k: Float32Array; v: Float32Array }> {
    const native = undisposed('kvCache.download', 'the KV cache', this)
    const out = { resident: false, shape: native.shape.slice(1) }
    const { outputs } = await runOn(native, 'kvCache.download', 'kvRead', { kv: native, k: out, v: out })
    return { k: outputs[0] as Float32Array, v: outputs[1] as Float32Array }
  }
}

/** Runs an op once on the device that holds `native`. */
function runOn(
  { device }: NativeTensor,
  call: string,
  op: NativeKernelOp,
  args: NativeKernelArgs,
): Promise<NativeKernelResult> {
  return runTask(call, () => addon().kernels.run(op, [args], { device, isa: '', threads: 0 }, 0, 1))
}

/** @internal */
export function nativeOf(resident: object): NativeTensor {
  const native = natives.get(resident)
  if (!native) throw new CriaError('ERR_INVALID_ARGUMENT', 'not a tensor of this package')
  return native
}

/** @throws ERR_DISPOSED */
function undisposed(call: string, what: string, resident: Resident): NativeTensor {
  const native = nativeOf(resident)
  if (native.disposed) throw new CriaError('ERR_DISPOSED', `${call}: ${what} was disposed`)
  return native
}

/** An ERR_INVALID_ARGUMENT about a kernel's input. `found` goes into the message as it is. */
export function wrong(call: string, name: string, expected: string, found: string): CriaError {
  return new CriaError('ERR_INVALID_ARGUMENT', `${call}: ${name} must be ${expected}, got ${found}`, {
    details: { call, name, expected, received: found },
  })
}

/** The same for an input of the wrong shape. */
export function wrongShape(
  call: string,
  name: string,
  expected: string,
  shape: readonly number[],
): CriaError {
  return wrong(call, name, expected, `shape ${showShape(shape)}`)
}

export function showShape(shape: readonly number[]): string {
  return `[${shape.join(', ')}]`
}

/** A checked input, and the form in which the addon takes it. */
export interface Source {
  readonly native: NativeOperand
  readonly dtype: DType
  readonly shape: readonly number[]
  readonly elements: number
  /** The tensor of a resident input. */
  readonly tensor: Tensor | undefined
  readonly device: string | undefined
}

/** The array types that kernels take, and the dtypes that each can hold. */
const ARRAY_DTYPES: Readonly<Record<string, readonly DType[]>> = {
  Float32Array: ['F32'],
  Uint16Array: ['F16', 'BF16'],
  Uint8Array: ALL_TYPES.filter((dtype) => DTYPES[dtype].block > 1),
}
const dtypeRule = oneOf(...ALL_TYPES)

/** Not instanceof: an array may come from another realm. */
function arrayKind(value: unknown): string | undefined {
  const name = Object.prototype.toString.call(value).slice(8, -1)
  return Object.hasOwn(ARRAY_DTYPES, name) ? name : undefined
}

/**
 * Checks an input tensor.
 * @throws ERR_INVALID_ARGUMENT, ERR_DISPOSED
 */
export function source(call: string, name: string, value: unknown): Source {
  if (value instanceof KvCache) throw wrong(call, name, 'a tensor', 'a KV cache')
  if (value instanceof Tensor) {
    const native = undisposed(call, name, value)
    const { dtype, shape, device } = native
    return { native, dtype, shape, elements: elementsOf(shape), tensor: value, device }
  }
  const kind = arrayKind(value)
  if (kind && kind !== 'Float32Array') {
    const fields = kind === 'Uint8Array' ? '{ data, dtype, shape }' : '{ data, dtype }'
    throw wrong(call, name, `${fields} for a ${kind}`, show(value))
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
  const given = dtype ?? (kind === 'Float32Array' ? 'F32' : undefined)
  const known = dtypeRule.parse(given)
  const fitting = ARRAY_DTYPES[kind]!
  if (!known || !fitting.includes(known)) {
    throw wrong(call, `${name}.dtype`, `${fitting.join(' or ')} for a ${kind}`, show(given))
  }
  const elements = (data.byteLength / DTYPES[known].bytes) * DTYPES[known].block
  const sizes = checkShape(call, `${name}.shape`, shape ?? [elements], known)
  if (elementsOf(sizes) !== elements) {
    const length = bytesOf(known, elementsOf(sizes)) / data.BYTES_PER_ELEMENT
    const expected = `a ${kind} of ${length} elements for shape ${showShape(sizes)} of ${known}`
    throw wrong(call, `${name}.data`, expected, `${data.length}`)
  }
  // The addon does not read shared memory.
  const plain = data.buffer instanceof ArrayBuffer || !isShared(data.buffer) ? data : data.slice()
  return { data: plain, dtype: known, shape: sizes }
}

function isShared(buffer: ArrayBufferLike): boolean {
  return Object.prototype.toString.call(buffer) === '[object SharedArrayBuffer]'
}

/** Checks the sizes; the last one must be whole blocks. */
export function checkShape(call: string, name: string, shape: unknown, dtype: DType): number[] {
  const sizes = Array.isArray(shape) ? (shape as unknown[]) : undefined
  if (!sizes?.every((size) => Number.isSafeInteger(size) && (size as number) >= 0) || sizes.length === 0) {
    const found = sizes ? `[${sizes}]` : show(shape)
    throw wrong(call, name, 'an array of integers of at least 0', found)
  }
  const { block } = DTYPES[dtype]
  if ((sizes.at(-1) as number) % block !== 0) {
    const expected = `a shape whose last size is a multiple of ${block}, ${dtype}'s block`
    throw wrong(call, name, expected, `[${sizes}]`)
  }
  return sizes as number[]
}

/**
 * Requires the number of elements of `expected`; an input of more than one dimension must have its last size
 * too.
 */
export function expectShape(
  call: string,
  name: string,
  { shape, elements }: Source,
  expected: readonly number[],
): void {
  if (elements === elementsOf(expected) && (shape.length === 1 || shape.at(-1) === expected.at(-1))) return
  throw wrongShape(call, name, `of shape ${showShape(expected)}`, shape)
}

/** The number of rows in x, whose rows must have `cols` columns, as `like` has. */
export function rowsIn(call: string, x: Source, cols: number, like: string): number {
  if (cols > 0 && x.elements % cols === 0 && (x.shape.length === 1 || x.shape.at(-1) === cols)) {
    return x.elements / cols
  }
  throw wrongShape(call, 'x', `rows of ${cols} columns, like ${like}`, x.shape)
}

/** The columns of x, at least one: the size of its last dimension. */
export function columnsOf(call: string, name: string, x: Source, of: string): number {
  const cols = x.shape.at(-1)!
  if (cols < 1) throw wrongShape(call, name, `rows of at least one ${of}`, x.shape)
  return cols
}

/** Requires float values, which kernels take as float32. */
export function expectFloats(call: string, name: string, { dtype }: Source): void {
  if (dtype === 'F32' || dtype === 'F16' || dtype === 'BF16') return
  throw wrong(call, `${name}.dtype`, 'F32, F16 or BF16', dtype)
}

/** Checks inputs of float values, by name. */
export function floats(call: string, inputs: Record<string, unknown>): Source[] {
  return Object.entries(inputs).map(([name, value]) => {
    const found = source(call, name, value)
    expectFloats(call, name, found)
    return found
  })
}
