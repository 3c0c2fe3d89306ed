/**
 * The template engine's interpreter with two changes. It agrees with Python's jinja2 in printing, comparison,
 * white space and missing values. It always ends: every evaluation spends from a budget.
 */

import { type Budget, MAX_DEPTH, MAX_TEXT, TemplateError } from './budget'
import { type Environment, engine } from './engine'
import { applyFilter } from './filters'
import { withoutMarks } from './marks'
import { stringMethod } from './methods'
import {
  type BinaryNode,
  type CallNode,
  countNodes,
  type FilterNode,
  type FilterStatementNode,
  type ForNode,
  type HeldNode,
  type IdentifierNode,
  type KeywordArgumentNode,
  type MemberNode,
  type Node,
  nodeLike,
  type OutputNode,
  type SelectNode,
  type TestNode,
  type TupleNode,
} from './nodes'
import { equals, str } from './python'
import {
  arrayOf,
  booleanOf,
  floatOf,
  functionOf,
  integerOf,
  isArray,
  isInteger,
  isMap,
  isNamespace,
  isNumber,
  isString,
  isUndefined,
  itemsOf,
  mapOf,
  stringOf,
  truthy,
  undefinedValue,
  type Value,
} from './values'

export class BoundedInterpreter extends engine.Interpreter {
  readonly #budget: Budget
  #depth = 0
  readonly #sizes = new WeakMap<Node, number>()

  constructor(environment: Environment, budget: Budget) {
    super(environment)
    this.#budget = budget
  }

  override evaluate(node: Node | undefined, environment: Environment): Value {
    if (!node) return undefinedValue()
    this.#budget.spend(1)
    if (++this.#depth > MAX_DEPTH) throw new TemplateError('it is nested too deeply')
    try {
      const value = this.#dispatch(node, environment)
      // The engine returns a bare undefined for a missing element (`[] | first`).
      if (value === undefined) return undefinedValue()
      if (isString(value)) this.#budget.spendText(value.value.length)
      else if (isArray(value)) this.#budget.spend(value.value.length / 8)
      return value
    } finally {
      this.#depth--
    }
  }

  #dispatch(node: Node, environment: Environment): Value {
    switch (node.type) {
      case 'Held':
        return (node as HeldNode).held
      case 'Output':
        return stringOf(str(this.evaluate((node as OutputNode).expression, environment), this.#budget))
      case 'BinaryExpression':
        return this.#binary(node as BinaryNode, environment)
      case 'FilterExpression':
        return this.#filter(
          node as FilterNode,
          this.evaluate((node as FilterNode).operand, environment),
          environment,
        )
      case 'FilterStatement': {
        const { body, filter } = node as FilterStatementNode
        const rendered = this.evaluate(nodeLike(node, { type: 'Program', body }), environment)
        return this.#filter(
          nodeLike(node, { type: 'FilterExpression', filter }) as FilterNode,
          rendered,
          environment,
        )
      }
      case 'MemberExpression':
        return this.#member(node as MemberNode, environment)
      case 'TestExpression':
        return this.#test(node as TestNode, environment)
      case 'For':
        return this.#for(node as ForNode, environment)
      case 'Break':
      case 'Continue':
        throw new LoopSignal(node.type)
      case 'Macro':
      case 'CallStatement':
        // The engine walks the whole body at each definition.
        this.#budget.spend(this.#size(node))
        return super.evaluate(node, environment)
      default:
        return super.evaluate(node, environment)
    }
  }

  #size(node: Node): number {
    let size = this.#sizes.get(node)
    if (size === undefined) {
      size = countNodes(node)
      this.#sizes.set(node, size)
    }
    return size
  }

  #held(model: Node, value: Value): Node {
    return nodeLike(model, { type: 'Held', held: value })
  }

  #binary(node: BinaryNode, environment: Environment): Value {
    const operator = node.operator.value
    if (operator === 'and' || operator === 'or') return super.evaluate(node, environment)
    const left = this.evaluate(node.left, environment)
    const right = this.evaluate(node.right, environment)
    const own = this.#operate(operator, left, right)
    if (own) return own
    return super.evaluate(
      nodeLike(node, {
        type: node.type,
        operator: node.operator,
        left: this.#held(node.left, left),
        right: this.#held(node.right, right),
      }),
      environment,
    )
  }

  /** Python's result, or undefined if the engine's is the same. */
  #operate(operator: string, left: Value, right: Value): Value | undefined {
    const budget = this.#budget
    switch (operator) {
      case '==':
        return booleanOf(equals(left, right, budget))
      case '!=':
        return booleanOf(!equals(left, right, budget))
      case '~':
        return stringOf(str(left, budget) + str(right, budget))
      case 'in':
      case 'not in': {
        const found = this.#contains(right, left)
        return found === undefined ? undefined : booleanOf(found === (operator === 'in'))
      }
      case '+':
        if (isString(left) !== isString(right)) {
          throw new TemplateError(`'+' cannot join ${kindOf(left)} and ${kindOf(right)}`)
        }
        return undefined
      case '*':
        if (isInteger(right) && (isString(left) || isArray(left))) return this.#repeat(left, right.value)
        if (isInteger(left) && (isString(right) || isArray(right))) return this.#repeat(right, left.value)
        return undefined
      case '/':
      case '//':
      case '%':
        if (!isNumber(left) || !isNumber(right)) return undefined
        if (right.value === 0) throw new TemplateError('division by zero')
        if (operator !== '%') return undefined
        return (isInteger(left) && isInteger(right) ? integerOf : floatOf)(
          ((left.value % right.value) + right.value) % right.value,
        )
      case '<':
      case '>':
      case '<=':
      case '>=': {
        if (!isString(left) || !isString(right)) return undefined
        const a = withoutMarks(left.value)
        const b = withoutMarks(right.value)
        return booleanOf(
          operator === '<' ? a < b : operator === '>' ? a > b : operator === '<=' ? a <= b : a >= b,
        )
      }
      default:
        return undefined
    }
  }

  #contains(container: Value, item: Value): boolean | undefined {
    if (isUndefined(container)) return false
    if (isArray(container)) return container.value.some((one) => equals(one, item, this.#budget))
    if (isString(container) && isString(item)) {
      return withoutMarks(container.value).includes(withoutMarks(item.value))
    }
    if (isMap(container)) return isString(item) && container.value.has(item.value)
    throw new TemplateError(`'in' cannot search ${kindOf(container)}`)
  }

  #repeat(value: Value & { value: string | Value[] }, times: number): Value {
    const count = Math.max(0, times)
    if (value.value.length * count > MAX_TEXT)
      throw new TemplateError(
        `it built a value of ${value.value.length * count} elements, more than ${MAX_TEXT}`,
      )
    if (typeof value.value === 'string') return stringOf(value.value.repeat(count))
    this.#budget.spend(value.value.length * count)
    const items = value.value
    return arrayOf(Array.from({ length: items.length * count }, (_, index) => items[index % items.length]!))
  }

  #filter(node: FilterNode, operand: Value, environment: Environment): Value {
    const { filter } = node
    const call = filter.type === 'CallExpression' ? (filter as CallNode) : undefined
    const name = call ? (call.callee as IdentifierNode).value : (filter as IdentifierNode).value
    const positional: Value[] = []
    const keywords = new Map<string, Value>()
    // Each argument is evaluated once; the engine's own filters get the values.
    const args = (call?.args ?? []).map((argument) => {
      if (argument.type === 'KeywordArgumentExpression') {
        const { key, value } = argument as KeywordArgumentNode
        const computed = this.evaluate(value, environment)
        keywords.set(key.value, computed)
        return nodeLike(argument, { type: argument.type, key, value: this.#held(value, computed) })
      }
      if (argument.type === 'SpreadExpression' || argument.type === 'KeywordSpreadExpression') {
        throw new TemplateError(`the filter '${name}' takes no unpacked arguments`)
      }
      const computed = this.evaluate(argument, environment)
      positional.push(computed)
      // Some filters of the engine require a literal.
      return argument.type === 'StringLiteral' ? argument : this.#held(argument, computed)
    })
    const own = applyFilter(name, operand, { positional, keywords }, environment, this.#budget)
    if (own) return own
    return super.evaluate(
      nodeLike(node, {
        type: 'FilterExpression',
        operand: this.#held(node, operand),
        filter: call ? nodeLike(call, { type: call.type, callee: call.callee, args }) : filter,
      }),
      environment,
    )
  }

  #member(node: MemberNode, environment: Environment): Value {
    const object = this.evaluate(node.object, environment)
    const slice = node.computed && node.property.type === 'SliceExpression'
    const property = slice
      ? undefined
      : node.computed
        ? this.evaluate(node.property, environment)
        : node.property.type === 'Identifier'
          ? stringOf((node.property as IdentifierNode).value)
          : this.evaluate(node.property, environment)
    if (isUndefined(object)) {
      const wanted = property ? `'${String(property.value)}'` : 'slice'
      throw new TemplateError(`${describe(node.object)} is undefined, so it has no ${wanted}`)
    }
    if (isString(property)) {
      if (isString(object)) {
        const method = stringMethod(object.value, property.value, this.#budget)
        if (method) return functionOf(method)
      } else if (isMap(object)) {
        // After a dot, Python looks for the dict's method first; in brackets, for the key first.
        const method =
          property.value === 'items' ? functionOf(() => itemsOf(object)) : object.builtins.get(property.value)
        const entry = object.value.get(property.value)
        return (node.computed ? (entry ?? method) : (method ?? entry)) ?? undefinedValue()
      }
    } else if (property && (isMap(object) || isNamespace(object))) {
      return undefinedValue()
    }
    return super.evaluate(
      nodeLike(node, {
        type: node.type,
        object: this.#held(node.object, object),
        property: property ? this.#held(node.property, property) : node.property,
        computed: true,
      }),
      environment,
    )
  }

  #test(node: TestNode, environment: Environment): Value {
    const name = node.test.value
    if (name !== 'iterable' && name !== 'sequence' && name !== 'float')
      return super.evaluate(node, environment)
    const operand = this.evaluate(node.operand, environment)
    const result =
      name === 'float'
        ? operand.type === 'FloatValue'
        : isString(operand) || isArray(operand) || isMap(operand) || isUndefined(operand)
    return booleanOf(result !== node.negate)
  }

  /** Unlike the engine, keeps the output of an iteration before its break or continue. */
  evaluateBlock(statements: Node[], environment: Environment): Value {
    let text = ''
    for (const statement of statements) {
      try {
        const value = this.evaluate(statement, environment)
        if (value.type !== 'NullValue' && value.type !== 'UndefinedValue') text += String(value.value)
      } catch (error) {
        if (error instanceof LoopSignal) error.text = text + error.text
        throw error
      }
    }
    return stringOf(text)
  }

  /** Unlike in the engine, each iteration has a scope of its own, which ends with it. */
  #for(node: ForNode, environment: Environment): Value {
    const select = node.iterable.type === 'SelectExpression' ? (node.iterable as SelectNode) : undefined
    const items = this.#iterate(this.evaluate(select ? select.lhs : node.iterable, environment))
    this.#budget.spend(items.length * 8)
    const scopeOf = (item: Value): Environment => {
      const scope = new engine.Environment(environment)
      this.#assign(node.loopvar, item, scope)
      return scope
    }
    const kept = select ? items.filter((item) => truthy(this.evaluate(select.test, scopeOf(item)))) : items
    if (kept.length === 0) return this.evaluateBlock(node.defaultBlock, new engine.Environment(environment))
    let text = ''
    for (const [index, item] of kept.entries()) {
      const scope = scopeOf(item)
      scope.setVariable('loop', loopOf(kept, index))
      try {
        text += String(this.evaluateBlock(node.body, scope).value)
      } catch (error) {
        if (!(error instanceof LoopSignal)) throw error
        text += error.text
        if (error.kind === 'Break') break
      }
    }
    return stringOf(text)
  }

  #iterate(iterable: Value): Value[] {
    if (isArray(iterable)) return iterable.value
    if (isMap(iterable)) return [...iterable.value.keys()].map(stringOf)
    if (isUndefined(iterable)) return []
    if (isString(iterable)) {
      this.#budget.spendPieces(iterable.value.length)
      return [...iterable.value].map(stringOf)
    }
    throw new TemplateError(`a loop cannot iterate over ${kindOf(iterable)}`)
  }

  #assign(target: Node, value: Value, scope: Environment): void {
    if (target.type === 'Identifier') {
      scope.setVariable((target as IdentifierNode).value, value)
      return
    }
    const names = (target as TupleNode).value
    const values = this.#iterate(value)
    if (names.length !== values.length) {
      throw new TemplateError(`a loop unpacks ${values.length} values into ${names.length} variables`)
    }
    for (const [index, name] of names.entries()) this.#assign(name, values[index]!, scope)
  }
}

/** A break or continue on its way to the loop, with the iteration's output so far. */
class LoopSignal extends Error {
  text = ''

  constructor(readonly kind: 'Break' | 'Continue') {
    super(`'${kind.toLowerCase()}' outside of a loop`)
  }
}

/** The variable `loop` of an iteration. */
function loopOf(items: Value[], index: number): Value {
  const { length } = items
  return mapOf(
    new Map([
      ['index', integerOf(index + 1)],
      ['index0', integerOf(index)],
      ['revindex', integerOf(length - index)],
      ['revindex0', integerOf(length - index - 1)],
      ['first', booleanOf(index === 0)],
      ['last', booleanOf(index === length - 1)],
      ['length', integerOf(length)],
      ['previtem', items[index - 1] ?? undefinedValue()],
      ['nextitem', items[index + 1] ?? undefinedValue()],
      ['cycle', functionOf((args) => args[index % args.length] ?? undefinedValue())],
    ]),
  )
}

function describe(node: Node): string {
  if (node.type === 'Identifier') return `'${(node as IdentifierNode).value}'`
  if (node.type === 'MemberExpression') {
    const { property } = node as MemberNode
    if ('value' in property) return `'${String(property.value)}'`
  }
  return 'a value'
}

export function kindOf(value: Value): string {
  switch (value.type) {
    case 'NullValue':
      return 'None'
    case 'UndefinedValue':
      return 'an undefined value'
    case 'StringValue':
      return 'a string'
    case 'IntegerValue':
    case 'FloatValue':
      return 'a number'
    case 'BooleanValue':
      return 'a boolean'
    case 'ArrayValue':
    case 'TupleValue':
      return 'a list'
    case 'FunctionValue':
      return 'a function'
    default:
      return 'a mapping'
  }
}
