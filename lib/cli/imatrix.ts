import { basename } from 'node:path'
import { computeImatrix, type ImatrixOptions } from '../imatrix'
import { demoModelPath } from '../info'
import { type CommandLine, UsageError } from './args'
import { readText } from './perplexity'
import { Output, StatusLine } from './terminal'

export async function imatrix(line: CommandLine, abort: AbortController): Promise<void> {
  const { files = [] } = line
  const [textFile, target, ...others] = files
  if (textFile === undefined || target === undefined || others.length > 0) {
    throw new UsageError(`imatrix takes a file of text and the file to write, got ${files.length} paths`)
  }
  const output = new Output(() => abort.abort())
  const status = new StatusLine()
  try {
    const result = await computeImatrix(line.model ?? demoModelPath(), await readText(textFile), target, {
      ...(line.measure as ImatrixOptions),
      textName: basename(textFile),
      signal: abort.signal,
      onProgress: ({ loadedBytes, totalBytes }) => status.update(`chunk ${loadedBytes} of ${totalBytes}`),
    })
    status.clear()
    const text = `${result.path}: ${result.entries} matrices, ${result.chunks} chunks\n`
    await output.write(line.json ? `${JSON.stringify(result)}\n` : text)
  } finally {
    status.clear()
  }
}
