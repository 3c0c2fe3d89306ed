import { readFile } from 'node:fs/promises'
import { CriaError } from '../errors'
import { demoModelPath } from '../info'
import { perplexity as measure, type PerplexityOptions, type PerplexityResult } from '../perplexity'
import { type CommandLine, UsageError } from './args'
import { Output, StatusLine } from './terminal'

export async function perplexity(line: CommandLine, abort: AbortController): Promise<void> {
  const { files = [] } = line
  const [textFile, ...others] = files
  if (textFile === undefined || others.length > 0) {
    throw new UsageError(`perplexity takes one file of text, got ${files.length}`)
  }
  const output = new Output(() => abort.abort())
  const status = new StatusLine()
  try {
    const result = await measure(line.model ?? demoModelPath(), await readText(textFile), {
      ...(line.measure as PerplexityOptions),
      signal: abort.signal,
      onChunk: ({ chunk, chunks, perplexity }) =>
        status.update(`chunk ${chunk} of ${chunks}: perplexity ${perplexity.toFixed(4)}`),
    })
    status.clear()
    await output.write(line.json ? `${JSON.stringify(result)}\n` : describe(result))
  } finally {
    status.clear()
  }
}

export async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'ERR_FILE_NOT_FOUND' : 'ERR_IO'
    const message = `cannot read ${path}: ${(error as Error).message}`
    throw new CriaError(code, message, { details: { path }, cause: error })
  }
}

function describe(result: PerplexityResult): string {
  const { perplexity, error, tokens, chunks, comparison } = result
  const lines = [
    `perplexity ${perplexity.toFixed(4)} ± ${error.toFixed(4)} (${tokens} tokens, ${chunks} chunks)`,
  ]
  if (comparison) {
    const { klDivergence, klError, maxKlDivergence, sameTop } = comparison
    lines.push(
      `reference  ${comparison.perplexity.toFixed(4)}`,
      `KL divergence from the reference: mean ${klDivergence.toFixed(6)} ± ${klError.toFixed(6)}, ` +
        `max ${maxKlDivergence.toFixed(4)}`,
      `same most probable token: ${(100 * sameTop).toFixed(2)} %`,
    )
  }
  return `${lines.join('\n')}\n`
}
