import { RaisedByTemplate } from './chat/budget'
import { cutAtMarks, markSpecials, unusedMark } from './chat/marks'
import { CriaError, invalidArgument } from './errors'
import type { NativeText } from './native'
import { array, boolean, checkOptions, custom, plainObject, type Rules, string } from './validate'

/** A part of a message's content. Text is the only kind so far. */
export interface ChatTextPart {
  type: 'text'
  text: string
}

/**
 * A message. Fields beyond these (`name`, `tool_call_id`, ...) reach the template as they are.
 */
export interface ChatMessage {
  /** `'system'`, `'user'`, `'assistant'`, `'tool'`, or what else the template knows. */
  role: string
  /** Text, or text parts; a tool's result may be any JSON. May be missing beside `tool_calls`. */
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

/** How a conversation is rendered. */
export interface ChatTemplateOptions {
  /** A Jinja template in the place of the file's own. */
  chatTemplate?: string | undefined
  /** Tools as JSON-schema functions, for templates that know tools. */
  tools?: readonly object[] | undefined
  /** Documents for retrieval, for templates that know documents. */
  documents?: readonly object[] | undefined
  /** The clock that templates read. Default: the system's, in local time. */
  now?: Date | (() => Date) | undefined
  /** The answer goes on in the last message rather than in a new one. Default false. */
  continueFinalMessage?: boolean | undefined
  /** Further variables of the template, e.g. `{ date_string: '26 Jul 2024' }`. */
  templateVariables?: Readonly<Record<string, unknown>> | undefined
}

export interface RenderChatOptions extends ChatTemplateOptions {
  /** End with the opening of the assistant's turn. Default true, or false with `continueFinalMessage`. */
  addGenerationPrompt?: boolean | undefined
}

export const chatTemplateRules = {
  chatTemplate: string(),
  tools: array(' of tools'),
  documents: array(' of documents'),
  now: custom('a Date or a function that returns one', (value) =>
    typeof value === 'function' || (value instanceof Date && !Number.isNaN(value.getTime()))
      ? (value as Date | (() => Date))
      : undefined,
  ),
  continueFinalMessage: boolean(),
  templateVariables: plainObject(' of variables'),
} satisfies Rules

export const renderRules = { ...chatTemplateRules, addGenerationPrompt: boolean() } satisfies Rules

/** What rendering needs to know of a vocabulary. */
export interface ChatVocabulary {
  template: string | null
  /** Spelling of BOS; empty when there is none. */
  bos: string
  eos: string
  /** Spellings of all special tokens. */
  specials: readonly string[]
}

export interface RenderedChat {
  text: string
  /** The same text, cut so that special-token spellings inside messages stay text. */
  pieces: NativeText
  beginsWithBos: boolean
  /** With `continueFinalMessage`: what the last message holds already. */
  opening: string
}

/** Set by the conversation itself. */
const RESERVED = ['messages', 'tools', 'documents', 'add_generation_prompt']

const MAX_NESTING = 64

type Json = string | number | boolean | null | Json[] | { [key: string]: Json }

/** A copy as plain JSON values; names the place of anything else. */
function plain(call: string, value: unknown, place: string, depth = 0): Json {
  if (depth > MAX_NESTING) {
    throw new CriaError(
      'ERR_INVALID_ARGUMENT',
      `${call}: ${place} is nested more than ${MAX_NESTING} deep, or in a circle`,
      {
        details: { call, name: place },
      },
    )
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
      if (Array.isArray(value))
        return value.map((item, index) => plain(call, item, `${place}[${index}]`, depth + 1))
      if (typeof (value as { toJSON?: unknown }).toJSON === 'function') {
        return plain(call, (value as { toJSON(): unknown }).toJSON(), place, depth + 1)
      }
      const copy: { [key: string]: Json } = Object.create(null)
      for (const [key, item] of Object.entries(value)) {
        if (item !== undefined) copy[key] = plain(call, item, `${place}.${key}`, depth + 1)
      }
      return copy
    }
  }
  throw invalidArgument(call, place, 'a JSON value', value)
}

function isTextPart(value: Json): value is { type: 'text'; text: string } {
  return (
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    value.type === 'text' &&
    typeof value.text === 'string'
  )
}

/** Checks the messages and copies them. */
function checkMessages(call: string, messages: unknown): Array<{ [key: string]: Json }> {
  if (!Array.isArray(messages) || messages.length === 0) {
    throw invalidArgument(call, 'messages', 'a non-empty array of { role, content }', messages)
  }
  return messages.map((message, index) => {
    const place = `messages[${index}]`
    if (typeof message !== 'object' || message === null || Array.isArray(message)) {
      throw invalidArgument(call, place, 'an object { role, content }', message)
    }
    const { role, content, tool_calls } = message as Record<string, unknown>
    if (typeof role !== 'string' || role === '')
      throw invalidArgument(call, `${place}.role`, 'a non-empty string', role)
    if (content === undefined || content === null) {
      if (tool_calls === undefined)
        throw invalidArgument(call, `${place}.content`, 'a string or text parts', content)
    } else if (typeof content !== 'string' && typeof content !== 'object') {
      throw invalidArgument(call, `${place}.content`, 'a string or text parts', content)
    }
    if (Array.isArray(content)) {
      content.forEach((part: unknown, i) => {
        const type = typeof part === 'object' && part !== null ? (part as { type?: unknown }).type : undefined
        if (
          role !== 'tool' &&
          role !== 'ipython' &&
          (type !== 'text' || typeof (part as ChatTextPart).text !== 'string')
        ) {
          throw invalidArgument(call, `${place}.content[${i}]`, "a part { type: 'text', text }", type ?? part)
        }
      })
    }
    return plain(call, message, place) as { [key: string]: Json }
  })
}

/** Templates that take content in parts read their `text`; for the others text parts become one text. */
const READS_PARTS = /\.text\b|\[\s*['"]text['"]\s*\]/

function joinParts(messages: Array<{ [key: string]: Json }>): void {
  for (const message of messages) {
    const { content } = message
    if (Array.isArray(content) && content.length > 0 && content.every(isTextPart)) {
      message.content = content.map((part) => part.text).join('\n')
    }
  }
}

function* stringsIn(value: Json): Generator<string> {
  if (typeof value === 'string') yield value
  else if (typeof value === 'object' && value !== null)
    for (const item of Object.values(value)) yield* stringsIn(item)
}

function mapStrings(value: Json, change: (text: string) => string): Json {
  if (typeof value === 'string') return change(value)
  if (Array.isArray(value)) return value.map((item) => mapStrings(item, change))
  if (typeof value !== 'object' || value === null) return value
  const copy: { [key: string]: Json } = Object.create(null)
  for (const [key, item] of Object.entries(value)) copy[key] = mapStrings(item, change)
  return copy
}

/**
 * Checks messages and options now, and returns what renders them for a vocabulary.
 * @throws ERR_INVALID_ARGUMENT; the returned function throws ERR_CHAT_TEMPLATE
 */
export function prepareChat(
  call: string,
  messages: unknown,
  options: unknown,
): (vocabulary: ChatVocabulary) => RenderedChat {
  const values = checkOptions(call, options, renderRules)
  const checked = checkMessages(call, messages)
  const tools = values.tools ? plain(call, values.tools, "option 'tools'") : null
  const documents = values.documents ? plain(call, values.documents, "option 'documents'") : null
  const variables = plain(call, values.templateVariables ?? {}, "option 'templateVariables'") as {
    [key: string]: Json
  }
  const reserved = RESERVED.find((name) => Object.hasOwn(variables, name))
  if (reserved) {
    throw new CriaError(
      'ERR_INVALID_ARGUMENT',
      `${call}: option 'templateVariables' must not hold '${reserved}', which the conversation sets`,
      {
        details: { call, option: 'templateVariables' },
      },
    )
  }
  const continues = values.continueFinalMessage ?? false
  if (continues && values.addGenerationPrompt) {
    throw new CriaError(
      'ERR_INVALID_ARGUMENT',
      `${call}: options 'continueFinalMessage' and 'addGenerationPrompt' exclude each other`,
      {
        details: { call, option: 'addGenerationPrompt' },
      },
    )
  }
  const { now } = values
  const clock = typeof now === 'function' ? now : () => now ?? new Date()

  return (vocabulary) => {
    const template = values.chatTemplate ?? vocabulary.template
    if (template === null) {
      throw new CriaError(
        'ERR_CHAT_TEMPLATE',
        `${call}: the file has no chat template, so it is perhaps no chat model; pass a Jinja template as option 'chatTemplate', or use generate`,
        { details: { call } },
      )
    }
    const conversation = structuredClone(checked)
    if (!READS_PARTS.test(template)) joinParts(conversation)
    const input: Json = [conversation, tools, documents]
    const mark = unusedMark(stringsIn([input, variables, template]))
    if (mark === undefined) {
      throw new CriaError(
        'ERR_CHAT_TEMPLATE',
        `${call}: the messages use every noncharacter from U+FDD0 to U+FDEF`,
        {
          details: { call },
        },
      )
    }
    const [marked, markedTools, markedDocuments] = mapStrings(input, (text) =>
      markSpecials(text, vocabulary.specials, mark),
    ) as [Array<{ content?: Json }>, Json, Json]
    let rendered = render(call, template, clock, {
      bos_token: vocabulary.bos,
      eos_token: vocabulary.eos,
      ...variables,
      messages: marked,
      tools: markedTools,
      documents: markedDocuments,
      add_generation_prompt: values.addGenerationPrompt ?? !continues,
    })
    let opening = ''
    if (continues) {
      const last = marked.at(-1)?.content
      ;[rendered, opening] = cutBehind(call, rendered, typeof last === 'string' ? last : '')
    }
    const text = rendered.replaceAll(mark, '')
    return {
      text,
      pieces: cutAtMarks(rendered, mark),
      beginsWithBos: vocabulary.bos !== '' && text.startsWith(vocabulary.bos),
      opening: opening.replaceAll(mark, ''),
    }
  }
}

/** The rendered text up to the end of the last message's content. */
function cutBehind(call: string, rendered: string, content: string): [rendered: string, opening: string] {
  for (const form of [content, content.trim()]) {
    const at = form === '' ? -1 : rendered.lastIndexOf(form)
    if (at >= 0) return [rendered.slice(0, at + form.length), form]
  }
  throw new CriaError(
    'ERR_CHAT_TEMPLATE',
    `${call}: the last message cannot be continued: its text is not in what the template rendered`,
    {
      details: { call },
    },
  )
}

/** The one place where a template's failures become CriaErrors. */
function render(
  call: string,
  template: string,
  clock: () => Date,
  variables: Record<string, unknown>,
): string {
  try {
    // Loaded at the first use: the template engine is a third of what importing the package would cost.
    const { renderTemplate } = require('./chat/template') as typeof import('./chat/template')
    return renderTemplate(template, variables, clock)
  } catch (error) {
    const reason = explain(error)
    const refused = error instanceof RaisedByTemplate
    throw new CriaError(
      'ERR_CHAT_TEMPLATE',
      refused
        ? `${call}: the chat template refuses these messages: ${reason}`
        : `${call}: the chat template failed: ${reason}`,
      { details: { call, refused, reason }, cause: error },
    )
  }
}

function explain(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error)
  // The engine's parser recurses; what it meets there is the end of the stack.
  return /call stack/i.test(message) ? 'it is nested too deeply' : message
}

export function renderChat(
  call: string,
  vocabulary: ChatVocabulary,
  messages: unknown,
  options: unknown,
): RenderedChat {
  return prepareChat(call, messages, options)(vocabulary)
}
