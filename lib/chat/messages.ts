/** The messages of a conversation, checked and copied as plain JSON values. */

import { CriaError, invalidArgument } from '../errors'

/** A part of a message's content. Text is the only kind so far. */
export interface ChatTextPart {
  type: 'text'
  text: string
}

/** A message. Other fields (`name`, `tool_call_id`, ...) reach the template unchanged. */
export interface ChatMessage {
  /** `'system'`, `'user'`, `'assistant'`, `'tool'`, or another role of the template. */
  role: string
  /** Text or text parts; for a tool's result, any JSON value. Optional beside `tool_calls`. */
  content?:
    | string
    | readonly ChatTextPart[]
    | readonly unknown[]
    | { readonly [key: string]: unknown }
    | null
    | undefined
  /** Calls that the assistant made. */
  tool_calls?: readonly unknown[] | undefined
  readonly [field: string]: unknown
}

export type Json = string | number | boolean | null | Json[] | JsonObject
export type JsonObject = { [key: string]: Json }

const MAX_NESTING = 64

/**
 * A copy as plain JSON values.
 * @throws ERR_INVALID_ARGUMENT, which names the place of anything else
 */
export function plain(call: string, value: unknown, place: string, depth = 0): Json {
  if (depth > MAX_NESTING) {
    const message = `${call}: ${place} must be nested at most ${MAX_NESTING} deep and without cycles`
    throw new CriaError('ERR_INVALID_ARGUMENT', message, { details: { call, name: place } })
  }
  switch (typeof value) {
    case 'string':
    case 'boolean':
    case 'number':
      return value
    case 'bigint':
      if (BigInt(Number(value)) === value) return Number(value)
      break
    case 'object': {
      if (value === null) return null
      if (Array.isArray(value)) {
        return value.map((item, index) => plain(call, item, `${place}[${index}]`, depth + 1))
      }
      if (typeof (value as { toJSON?: unknown }).toJSON === 'function') {
        return plain(call, (value as { toJSON(): unknown }).toJSON(), place, depth + 1)
      }
      const copy: JsonObject = Object.create(null)
      for (const [key, item] of Object.entries(value)) {
        if (item !== undefined) copy[key] = plain(call, item, `${place}.${key}`, depth + 1)
      }
      return copy
    }
  }
  throw invalidArgument(call, place, 'a JSON value', value)
}

/** Checks the messages and copies them. */
export function checkMessages(call: string, messages: unknown): JsonObject[] {
  if (!Array.isArray(messages) || messages.length === 0) {
    throw invalidArgument(call, 'messages', 'a non-empty array of { role, content }', messages)
  }
  return messages.map((message, index) => checkMessage(call, message, `messages[${index}]`))
}

function checkMessage(call: string, message: unknown, place: string): JsonObject {
  if (typeof message !== 'object' || message === null || Array.isArray(message)) {
    throw invalidArgument(call, place, 'an object { role, content }', message)
  }
  const { role, content, tool_calls } = message as Record<string, unknown>
  if (typeof role !== 'string' || role === '') {
    throw invalidArgument(call, `${place}.role`, 'a non-empty string', role)
  }
  const isMissing = content === undefined || content === null
  if (isMissing ? tool_calls === undefined : typeof content !== 'string' && typeof content !== 'object') {
    throw invalidArgument(call, `${place}.content`, 'a string or text parts', content)
  }
  // The result of a tool may be any JSON value.
  if (Array.isArray(content) && role !== 'tool' && role !== 'ipython') {
    content.forEach((part: unknown, i) => {
      if (isTextPart(part)) return
      const found = typeof part === 'object' && part !== null ? (part as { type?: unknown }).type : undefined
      throw invalidArgument(call, `${place}.content[${i}]`, "a part { type: 'text', text }", found ?? part)
    })
  }
  return plain(call, message, place) as JsonObject
}

function isTextPart(value: unknown): value is ChatTextPart {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false
  const { type, text } = value as Record<string, unknown>
  return type === 'text' && typeof text === 'string'
}

/** Turns content in text parts into one text. */
export function joinParts(messages: JsonObject[]): void {
  for (const message of messages) {
    const parts: unknown = message.content
    if (Array.isArray(parts) && parts.length > 0 && parts.every(isTextPart)) {
      message.content = parts.map((part) => part.text).join('\n')
    }
  }
}

export function* stringsIn(value: Json): Generator<string> {
  if (typeof value === 'string') yield value
  else if (typeof value === 'object' && value !== null) {
    for (const item of Object.values(value)) yield* stringsIn(item)
  }
}

export function mapStrings(value: Json, change: (text: string) => string): Json {
  if (typeof value === 'string') return change(value)
  if (Array.isArray(value)) return value.map((item) => mapStrings(item, change))
  if (typeof value !== 'object' || value === null) return value
  const copy: JsonObject = Object.create(null)
  for (const [key, item] of Object.entries(value)) copy[key] = mapStrings(item, change)
  return copy
}
