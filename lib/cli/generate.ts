import type { GenerateOptions } from '../generation_options'
import { type CommandLine, UsageError } from './args'
import { openModel } from './model'
import { dim, Output, readStandardInput } from './terminal'

export async function generate(line: CommandLine, abort: AbortController): Promise<void> {
  const output = new Output(() => abort.abort())
  let { prompt } = line
  if (prompt === '-') prompt = await readStandardInput()
  if (prompt === undefined) {
    if (line.model !== undefined) {
      throw new UsageError("generate needs a prompt, got none; '-' reads it from standard input")
    }
    prompt = 'Once upon a time'
  }
  const model = await openModel(line, abort.signal)
  try {
    const generation = model.generate(prompt, {
      ...(line.generation as GenerateOptions),
      signal: abort.signal,
    })
    if (line.json) {
      const { text, tokens, finishReason, stopString, usage, seed } = await generation
      const shown = {
        prompt,
        text,
        finishReason,
        stopString,
        usage,
        seed: seedText(seed),
        tokens: [...tokens],
      }
      await output.write(`${JSON.stringify(shown)}\n`)
      return
    }
    // The prompt is not part of the answer: a person sees it, a pipe does not get it.
    if (process.stdout.isTTY && process.stderr.isTTY) process.stderr.write(dim(prompt))
    let last = ''
    for await (const chunk of generation) {
      await output.write(chunk.text)
      last = chunk.text || last
    }
    if (!last.endsWith('\n')) await output.write('\n')
  } catch (error) {
    if (output.gone) return
    throw error
  } finally {
    await model.dispose()
  }
}

/** A seed as JSON can hold it, which has no bigint. */
export function seedText(seed: number | bigint): number | string {
  return typeof seed === 'bigint' ? String(seed) : seed
}
