/**
 * The template engine, @huggingface/jinja, with types for the parts in use. (The package's own declarations
 * do not resolve under Node's module resolution, and it does not export its value classes.)
 */

/** A runtime value of the kind `type`. */
export interface Value {
  readonly type: string
  readonly value: unknown
  readonly builtins: ReadonlyMap<string, Value>
  __bool__(): { value: boolean }
}

/** A node of the syntax tree. */
export interface Node {
  readonly type: string
}

export interface Environment {
  readonly tests: ReadonlyMap<string, (...values: Value[]) => boolean>
  /** Converts a JavaScript value to a runtime value, declares a variable with it, and returns it. */
  set(name: string, value: unknown): Value
  /** Declares or changes a variable in this scope. */
  setVariable(name: string, value: Value): Value
  lookupVariable(name: string): Value
}

export interface Interpreter {
  run(program: Node): Value
  evaluate(node: Node | undefined, environment: Environment): Value
}

interface Engine {
  Environment: new (parent?: Environment) => Environment
  Interpreter: new (environment: Environment) => Interpreter
  tokenize(source: string, options: { lstrip_blocks?: boolean; trim_blocks?: boolean }): unknown[]
  parse(tokens: unknown[]): Node
}

export const engine = require('@huggingface/jinja') as Engine
