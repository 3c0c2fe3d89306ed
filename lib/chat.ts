/**
 * Renders conversations for a vocabulary: its chat template, and the boundary between text and special
 * tokens.
 */

import { RaisedByTemplate } from './chat/budget'
import { cutAtMarks, markSpecials, unusedMark } from './chat/marks'
import {
  checkMessages,
  type Json,
  type JsonObject,
  joinParts,
  mapStrings,
  plain,
  stringsIn,
} from './chat/messages'
import { CriaError, type CriaErrorDetails } from './errors'
import type { NativeText } from './native'
import type { OptionsOf } from './options'
import { array, boolean, checkOptions, custom, plainObject, string } from './validate'

export type { ChatMessage, ChatTextPart } from './chat/messages'

/** How a conversation is rendered. */
export interface ChatTemplateOptions {
  /** A Jinja template. Default: the file's own. */
  chatTemplate?: string | undefined
  /** Tools as JSON-schema functions, for templates that support tools. */
  tools?: readonly object[] | undefined
  /** Documents for retrieval, for templates that support documents. */
  documents?: readonly object[] | undefined
  /** The clock that templates read. Default: the system's, in local time. */
  now?: Date | (() => Date) | undefined
  /** Continue the last message instead of beginning a new one. Default: false. */
  continueFinalMessage?: boolean | undefined
  /** Further variables of the template, e.g. `{ date_string: '26 Jul 2024' }`. */
  templateVariables?: Readonly<Record<string, unknown>> | undefined
}

export interface RenderChatOptions extends ChatTemplateOptions {
  /** End with the opening of the assistant's turn. Default: true, or false with `continueFinalMessage`. */
  addGenerationPrompt?: boolean | undefined
}

export const chatTemplateRules = {
  chatTemplate: string(),
  tools: array<object>(' of tools'),
  documents: array<object>(' of documents'),
  now: custom('a Date or a function that returns one', (value) =>
    typeof value === 'function' || (value instanceof Date && !Number.isNaN(value.getTime()))
      ? (value as Date | (() => Date))
      : undefined,
  ),
  continueFinalMessage: boolean(),
  templateVariables: plainObject(' of variables'),
} satisfies OptionsOf<ChatTemplateOptions>

export const renderRules = {
  ...chatTemplateRules,
  addGenerationPrompt: boolean(),
} satisfies OptionsOf<RenderChatOptions>

/** The parts of a vocabulary that rendering needs. */
export interface ChatVocabulary {
  template: string | null
  /** Spelling of BOS; empty if there is none. */
  bos: string
  /** Spelling of EOS; empty if there is none. */
  eos: string
  /** Spellings of all special tokens. */
  specials: readonly string[]
}

export interface RenderedChat {
  text: string
  /** The same text, cut so that spellings of special tokens in messages stay text. */
  pieces: NativeText
  beginsWithBos: boolean
  /** With `continueFinalMessage`: the content of the last message. */
  opening: string
}

/** Variables that the conversation itself sets. */
const RESERVED = ['messages', 'tools', 'documents', 'add_generation_prompt']

/** Messages and options, checked. */
interface Conversation {
  call: string
  messages: JsonObject[]
  tools: Json
  documents: Json
  variables: JsonObject
  template: string | undefined
  clock: () => Date
  continues: boolean
  addGenerationPrompt: boolean
}

/**
 * Checks messages and options now, and returns the function that renders them for a vocabulary.
 * @throws ERR_INVALID_ARGUMENT; the returned function throws ERR_CHAT_TEMPLATE
 */
export function prepareChat(
  call: string,
  messages: unknown,
  options: unknown,
): (vocabulary: ChatVocabulary) => RenderedChat {
  const conversation = checkConversation(call, messages, options)
  return (vocabulary) => renderConversation(conversation, vocabulary)
}

export function renderChat(
  call: string,
  vocabulary: ChatVocabulary,
  messages: unknown,
  options: unknown,
): RenderedChat {
  return prepareChat(call, messages, options)(vocabulary)
}

function checkConversation(call: string, messages: unknown, options: unknown): Conversation {
  const values = checkOptions(call, options, renderRules)
  const { now, tools, documents, continueFinalMessage: continues = false } = values
  const conversation: Conversation = {
    call,
    messages: checkMessages(call, messages),
    tools: tools ? plain(call, tools, "option 'tools'") : null,
    documents: documents ? plain(call, documents, "option 'documents'") : null,
    variables: checkVariables(call, values.templateVariables ?? {}),
    template: values.chatTemplate,
    clock: typeof now === 'function' ? now : () => now ?? new Date(),
    continues,
    addGenerationPrompt: values.addGenerationPrompt ?? !continues,
  }
  if (continues && conversation.addGenerationPrompt) {
    const message = `${call}: options 'continueFinalMessage' and 'addGenerationPrompt' exclude each other`
    throw new CriaError('ERR_INVALID_ARGUMENT', message, { details: { call, option: 'addGenerationPrompt' } })
  }
  return conversation
}

function checkVariables(call: string, variables: object): JsonObject {
  const option = 'templateVariables'
  const checked = plain(call, variables, `option '${option}'`) as JsonObject
  const reserved = RESERVED.find((name) => Object.hasOwn(checked, name))
  if (reserved === undefined) return checked
  const message = `${call}: option '${option}' must not hold '${reserved}', which the conversation sets`
  throw new CriaError('ERR_INVALID_ARGUMENT', message, { details: { call, option } })
}

/** Templates that match take content in parts; for the others, text parts are joined. */
const READS_PARTS = /\.text\b|\[\s*['"]text['"]\s*\]/

function renderConversation(conversation: Conversation, vocabulary: ChatVocabulary): RenderedChat {
  const { call, variables, continues } = conversation
  const template = conversation.template ?? vocabulary.template
  if (template === null) {
    throw templateError(
      call,
      'the file has no chat template, so it may not be a chat model; ' +
        "give a Jinja template as option 'chatTemplate', or use generate",
    )
  }
  const messages = structuredClone(conversation.messages)
  if (!READS_PARTS.test(template)) joinParts(messages)
  const input: Json = [messages, conversation.tools, conversation.documents]
  const mark = unusedMark(stringsIn([input, variables, template]))
  if (mark === undefined) {
    throw templateError(
      call,
      'the messages contain all noncharacters from U+FDD0 to U+FDEF; remove one of them',
    )
  }
  const [marked, tools, documents] = mapStrings(input, (text) =>
    markSpecials(text, vocabulary.specials, mark),
  ) as [JsonObject[], Json, Json]
  const rendered = runTemplate(call, template, conversation.clock, {
    bos_token: vocabulary.bos,
    eos_token: vocabulary.eos,
    ...variables,
    messages: marked,
    tools,
    documents,
    add_generation_prompt: conversation.addGenerationPrompt,
  })
  const [kept, opening] = continues ? cutAfterLast(call, rendered, marked) : [rendered, '']
  const text = kept.replaceAll(mark, '')
  return {
    text,
    pieces: cutAtMarks(kept, mark),
    beginsWithBos: vocabulary.bos !== '' && text.startsWith(vocabulary.bos),
    opening: opening.replaceAll(mark, ''),
  }
}

/** The rendered text up to the end of the last message's content, and that content as rendered. */
function cutAfterLast(
  call: string,
  rendered: string,
  messages: JsonObject[],
): [kept: string, opening: string] {
  const content = messages.at(-1)?.content
  if (typeof content === 'string') {
    for (const form of [content, content.trim()]) {
      const at = form === '' ? -1 : rendered.lastIndexOf(form)
      if (at >= 0) return [rendered.slice(0, at + form.length), form]
    }
  }
  throw templateError(call, "the last message cannot be continued: the template's output lacks its text")
}

/** The only place where failures of a template become CriaErrors. */
function runTemplate(
  call: string,
  template: string,
  clock: () => Date,
  variables: Record<string, unknown>,
): string {
  try {
    // Loaded on first use: the template engine is a third of the package's import time.
    const { renderTemplate } = require('./chat/template') as typeof import('./chat/template')
    return renderTemplate(template, variables, clock)
  } catch (error) {
    const reason = reasonOf(error)
    const refused = error instanceof RaisedByTemplate
    const problem = refused ? 'the chat template refuses these messages' : 'the chat template failed'
    throw templateError(call, `${problem}: ${reason}`, { refused, reason }, error)
  }
}

function reasonOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error)
  // The engine's parser recurses; deep nesting overflows its stack.
  return /call stack/i.test(message) ? 'it is nested too deeply' : message
}

function templateError(
  call: string,
  problem: string,
  details: CriaErrorDetails = {},
  cause?: unknown,
): CriaError {
  return new CriaError('ERR_CHAT_TEMPLATE', `${call}: ${problem}`, {
    details: { call, ...details },
    ...(cause === undefined ? {} : { cause }),
  })
}
