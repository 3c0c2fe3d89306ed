import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline/promises'
import type { ChatMessage } from '../chat'
import { CriaError } from '../errors'
import type { ChatOptions, Model } from '../model'
import { type CommandLine, UsageError } from './args'
import { seedText } from './generate'
import { openModel } from './model'
import { dim, Output, readStandardInput } from './terminal'

export async function chat(line: CommandLine, abort: AbortController): Promise<void> {
  const output = new Output(() => abort.abort())
  const options = { ...(line.generation as ChatOptions) }
  if (line.templateFile !== undefined) options.chatTemplate = readTemplate(line.templateFile)
  const opening: ChatMessage[] = line.system === undefined ? [] : [{ role: 'system', content: line.system }]
  let message = line.prompt
  if (message === '-' || (message === undefined && !process.stdin.isTTY)) message = await readStandardInput()
  if (message?.trim() === '') throw new UsageError('chat needs a message, got an empty one')
  const model = await openModel(line, abort.signal)
  try {
    if (message === undefined) await converse(model, opening, options, output)
    else
      await answerOnce(
        model,
        [...opening, { role: 'user', content: message }],
        options,
        line.json,
        output,
        abort.signal,
      )
  } catch (error) {
    if (!output.gone) throw error
  } finally {
    await model.dispose()
  }
}

function readTemplate(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw new CriaError('ERR_FILE_NOT_FOUND', `--template: ${(error as Error).message}`, { cause: error })
  }
}

async function answerOnce(
  model: Model,
  messages: ChatMessage[],
  options: ChatOptions,
  json: boolean,
  output: Output,
  signal: AbortSignal,
): Promise<void> {
  const generation = model.chat(messages, { ...options, signal })
  if (json) {
    const { text, finishReason, stopString, usage, seed, message } = await generation
    await output.write(
      `${JSON.stringify({ message, text, finishReason, stopString, usage, seed: seedText(seed) })}\n`,
    )
    return
  }
  let last = ''
  for await (const chunk of generation) {
    await output.write(chunk.text)
    last = chunk.text || last
  }
  if (!last.endsWith('\n')) await output.write('\n')
}

/** Prompt and hints go to stderr: stdout holds only the answers. */
async function converse(
  model: Model,
  opening: ChatMessage[],
  options: ChatOptions,
  output: Output,
): Promise<void> {
  const lines = createInterface({ input: process.stdin, output: process.stderr, historySize: 200 })
  let running: AbortController | undefined
  let leave = false
  lines.on('SIGINT', () => {
    if (running) {
      running.abort()
      return
    }
    leave = true
    lines.close()
  })
  let messages = [...opening]
  process.stderr.write(dim(`${model.info.name || 'model'}: /clear, /exit, Ctrl-C stops an answer\n`))
  lines.setPrompt('> ')
  lines.prompt()
  for await (const text of lines) {
    const said = text.trim()
    if (said === '/exit' || said === '/quit') break
    if (said === '/clear') messages = [...opening]
    else if (said.startsWith('/'))
      process.stderr.write(dim('commands: /clear forgets the conversation, /exit leaves\n'))
    else if (said !== '') {
      running = new AbortController()
      messages.push({ role: 'user', content: text })
      try {
        const generation = model.chat(messages, { ...options, signal: running.signal })
        for await (const chunk of generation) await output.write(chunk.text)
        messages.push((await generation).message)
      } catch (error) {
        if (!(error instanceof CriaError) || error.code === 'ERR_DISPOSED') throw error
        // What was said so far stays part of the conversation; a refused question does not.
        if (error.code === 'ERR_ABORTED')
          messages.push({ role: 'assistant', content: error.partial?.text ?? '' })
        else {
          messages.pop()
          process.stderr.write(`cria: ${error.code}: ${error.message}\n`)
        }
      } finally {
        running = undefined
      }
      await output.write('\n')
      if (output.gone) break
    }
    lines.prompt()
  }
  lines.close()
  if (leave) process.exitCode = 130
}
