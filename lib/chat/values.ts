/** Constructors and type tests for the engine's runtime values, whose classes the package does not export. */

import { type Environment, engine, type Value } from './engine'

export type { Value }
export type StringV = Value & { readonly value: string }
export type IntegerV = Value & { value: number }
export type ArrayV = Value & { value: Value[] }
export type MapV = Value & { value: Map<string, Value> }
export type FunctionBody = (args: Value[], scope: Environment) => Value

type Maker<T> = new (value: T) => Value

function makerOf<T>(name: string, sample: unknown): Maker<T> {
  return new engine.Environment().set(name, sample).constructor as Maker<T>
}

const StringMaker = makerOf<string>('string', '')
const IntegerMaker = makerOf<number>('integer', 1)
const FloatMaker = makerOf<number>('float', 0.5)
const BooleanMaker = makerOf<boolean>('boolean', true)
const ArrayMaker = makerOf<Value[]>('array', [])
const NullMaker = makerOf<null>('null', null)
const UndefinedMaker = makerOf<undefined>('undefined', undefined)
const MapMaker = makerOf<Map<string, Value>>('map', {})
const FunctionMaker = makerOf<FunctionBody>('function', () => null)

export const stringOf = (value: string): Value => new StringMaker(value)
export const integerOf = (value: number): Value => new IntegerMaker(value)
export const floatOf = (value: number): Value => new FloatMaker(value)
export const booleanOf = (value: boolean): Value => new BooleanMaker(value)
export const arrayOf = (value: Value[]): Value => new ArrayMaker(value)
export const mapOf = (value: Map<string, Value>): Value => new MapMaker(value)
/**
 * A tuple prints differently from a list. Only a template can create one, so its class comes from a template.
 */
const TupleMaker = (() => {
  const environment = new engine.Environment()
  new engine.Interpreter(environment).run(engine.parse(engine.tokenize('{% set tuple = (1, 2) %}', {})))
  return environment.lookupVariable('tuple').constructor as Maker<Value[]>
})()
export const tupleOf = (...value: Value[]): Value => new TupleMaker(value)
export const functionOf = (value: FunctionBody): Value => new FunctionMaker(value)
export const nullValue = (): Value => new NullMaker(null)
export const undefinedValue = (): Value => new UndefinedMaker(undefined)

export const isString = (value: Value | undefined): value is StringV => value?.type === 'StringValue'
export const isInteger = (value: Value | undefined): value is IntegerV => value?.type === 'IntegerValue'
export const isNumber = (value: Value | undefined): value is IntegerV =>
  value?.type === 'IntegerValue' || value?.type === 'FloatValue'
export const isBoolean = (value: Value | undefined): value is Value & { value: boolean } =>
  value?.type === 'BooleanValue'
export const isNull = (value: Value | undefined): boolean => value?.type === 'NullValue'
export const isUndefined = (value: Value | undefined): boolean => value?.type === 'UndefinedValue'
/** Lists and tuples. */
export const isArray = (value: Value | undefined): value is ArrayV =>
  value?.type === 'ArrayValue' || value?.type === 'TupleValue'
export const isMap = (value: Value | undefined): value is MapV => value?.type === 'ObjectValue'
export const isNamespace = (value: Value | undefined): value is MapV => value?.type === 'NamespaceValue'
export const isFunction = (value: Value | undefined): value is Value & { value: FunctionBody } =>
  value?.type === 'FunctionValue'

export const truthy = (value: Value): boolean => value.__bool__().value

/** Separates the keyword arguments of a call, which the engine passes as its last value. */
export function splitArguments(args: Value[]): { positional: Value[]; keywords: Map<string, Value> } {
  const last = args.at(-1)
  if (last?.type !== 'KeywordArgumentsValue') return { positional: args, keywords: new Map() }
  return { positional: args.slice(0, -1), keywords: (last as MapV).value }
}

/** `dict.items()`. */
export const itemsOf = (map: MapV): Value =>
  arrayOf([...map.value].map(([key, value]) => tupleOf(stringOf(key), value)))
