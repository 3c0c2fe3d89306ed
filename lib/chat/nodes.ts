/** The parts of the template engine's syntax tree that the interpreter looks into. */

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

/** A value already computed, in the place of an expression. */
export interface HeldNode extends Node {
  held: Value
}
/** `{{ expression }}`: prints as Python does. */
export interface OutputNode extends Node {
  expression: Node
}

/** Statements, whose own result is printed as it is or not at all. */
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

/** A node of the engine's own class, since parts of the engine test for that. */
export function nodeLike(model: Node, fields: { type: string } & Record<string, unknown>): Node {
  return Object.assign(Object.create(Object.getPrototypeOf(model) as object) as Node, fields)
}

/** Wraps every printed expression of a parsed template in an Output node, in place. Returns the number of nodes. */
export function prepareTree(root: Node): number {
  let count = 0
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
      count++
      const node = value as Record<string, unknown>
      for (const name of ['body', 'alternate', 'defaultBlock']) {
        if (Array.isArray(node[name])) node[name] = (node[name] as Node[]).map(wrap)
      }
      for (const child of Object.values(node)) visit(child)
    }
  }
  visit(root)
  return count
}

export function countNodes(root: unknown): number {
  if (Array.isArray(root)) return root.reduce<number>((sum, item) => sum + countNodes(item), 0)
  if (root instanceof Map) return countNodes([...root.keys()]) + countNodes([...root.values()])
  if (typeof root !== 'object' || root === null) return 0
  return 1 + countNodes(Object.values(root))
}
