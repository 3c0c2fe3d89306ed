/** The nodes of the template engine's syntax tree that the interpreter reads. */

import type { Node, Value } from './engine'

export type { Node }

export interface IdentifierNode extends Node {
  value: string
}
export interface CallNode extends Node {
  callee: Node
  args: Node[]
}
export interface KeywordArgumentNode extends Node {
  key: IdentifierNode
  value: Node
}
export interface BinaryNode extends Node {
  operator: { value: string; type: string }
  left: Node
  right: Node
}
export interface FilterNode extends Node {
  operand: Node
  filter: IdentifierNode | CallNode
}
export interface FilterStatementNode extends Node {
  filter: IdentifierNode | CallNode
  body: Node[]
}
export interface MemberNode extends Node {
  object: Node
  property: Node
  computed: boolean
}
export interface TestNode extends Node {
  operand: Node
  negate: boolean
  test: IdentifierNode
}
export interface ForNode extends Node {
  loopvar: Node
  iterable: Node
  body: Node[]
  defaultBlock: Node[]
}
export interface TupleNode extends Node {
  value: Node[]
}
export interface SelectNode extends Node {
  lhs: Node
  test: Node
}

/** A computed value in place of an expression. */
export interface HeldNode extends Node {
  held: Value
}
/** `{{ expression }}`, printed as in Python. */
export interface OutputNode extends Node {
  expression: Node
}

/** Statements. Their results are printed unchanged or not at all. */
const STATEMENTS = new Set([
  'Set',
  'If',
  'For',
  'Macro',
  'Break',
  'Continue',
  'Comment',
  'StringLiteral',
  'Output',
])

/** A node of the same class as `model`, since the engine tests classes. */
export function nodeLike(model: Node, fields: { type: string } & Record<string, unknown>): Node {
  return Object.assign(Object.create(Object.getPrototypeOf(model) as object) as Node, fields)
}

/** Wraps every printed expression of a parsed template in an Output node, in place. */
export function prepareTree(root: Node): void {
  const wrap = (node: Node): Node =>
    STATEMENTS.has(node.type) ? node : nodeLike(node, { type: 'Output', expression: node })
  const visit = (value: unknown): void => {
    if (Array.isArray(value)) {
      for (const item of value) visit(item)
    } else if (value instanceof Map) {
      for (const [key, item] of value) {
        visit(key)
        visit(item)
      }
    } else if (typeof value === 'object' && value !== null) {
      const node = value as Record<string, unknown>
      for (const name of ['body', 'alternate', 'defaultBlock']) {
        if (Array.isArray(node[name])) node[name] = (node[name] as Node[]).map(wrap)
      }
      for (const child of Object.values(node)) visit(child)
    }
  }
  visit(root)
}

export function countNodes(root: unknown): number {
  if (Array.isArray(root)) return root.reduce<number>((sum, item) => sum + countNodes(item), 0)
  if (root instanceof Map) return countNodes([...root.keys()]) + countNodes([...root.values()])
  if (typeof root !== 'object' || root === null) return 0
  return 1 + countNodes(Object.values(root))
}
