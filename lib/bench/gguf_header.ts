/** Writes the header of a GGUF file (version 3, little endian): the metadata and the list of tensors. */

import { DTYPES } from '../kernels/dtypes'
import { type TensorPlan, tensorBytes } from './shapes'

/** The metadata value types by their number in the file. */
const TYPE_IDS = { u32: 4, i32: 5, f32: 6, bool: 7, string: 8, array: 9 } as const

const ALIGNMENT = 32

type Scalar = Exclude<keyof typeof TYPE_IDS, 'array'>
type ValueOf<T extends Scalar> = T extends 'string' ? string : T extends 'bool' ? boolean : number

const aligned = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT

export class GgufHeader {
  readonly #metadata: Buffer[] = []
  #entries = 0

  set<T extends Scalar>(key: string, type: T, value: ValueOf<T>): this {
    return this.#add(key, u32(TYPE_IDS[type]), scalar(type, value))
  }

  setArray<T extends 'string' | 'i32' | 'f32'>(key: string, type: T, values: Array<ValueOf<T>>): this {
    const elements = Buffer.concat(values.map((value) => scalar(type, value)))
    return this.#add(key, u32(TYPE_IDS.array), u32(TYPE_IDS[type]), u64(values.length), elements)
  }

  #add(key: string, ...parts: Buffer[]): this {
    this.#metadata.push(scalar('string', key), ...parts)
    this.#entries++
    return this
  }

  /** The header with its padding, after which the tensors' data begins, and the size of the whole file. */
  encode(tensors: TensorPlan[]): { header: Buffer; fileBytes: number } {
    const parts = [Buffer.from('GGUF'), u32(3), u64(tensors.length), u64(this.#entries), ...this.#metadata]
    let offset = 0
    for (const tensor of tensors) {
      parts.push(scalar('string', tensor.name), u32(tensor.dims.length), ...tensor.dims.map(u64))
      parts.push(u32(DTYPES[tensor.type].id), u64(offset))
      offset += aligned(tensorBytes(tensor))
    }
    const unpadded = Buffer.concat(parts)
    const header = Buffer.concat([unpadded, padding(unpadded.length)])
    return { header, fileBytes: header.length + offset }
  }
}

/** The zeros that pad `bytes` bytes to the alignment. */
export function padding(bytes: number): Buffer {
  return Buffer.alloc(aligned(bytes) - bytes)
}

function u32(value: number): Buffer {
  const buffer = Buffer.allocUnsafe(4)
  buffer.writeUInt32LE(value)
  return buffer
}

function u64(value: number): Buffer {
  const buffer = Buffer.allocUnsafe(8)
  buffer.writeBigUInt64LE(BigInt(value))
  return buffer
}

function scalar(type: Scalar, value: string | number | boolean): Buffer {
  if (type === 'string') {
    const text = Buffer.from(value as string, 'utf8')
    return Buffer.concat([u64(text.length), text])
  }
  if (type === 'bool') return Buffer.of(value ? 1 : 0)
  const buffer = Buffer.allocUnsafe(4)
  if (type === 'f32') buffer.writeFloatLE(value as number)
  else if (type === 'i32') buffer.writeInt32LE(value as number)
  else buffer.writeUInt32LE(value as number)
  return buffer
}
