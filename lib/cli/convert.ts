import { type ConvertOptions, convertModel } from '../convert'
import { type CommandLine, UsageError } from './args'
import { megabytes, Output, ProgressBar } from './terminal'

export async function convert(line: CommandLine, abort: AbortController): Promise<void> {
  const { files = [] } = line
  const [source, target, ...others] = files
  if (source === undefined || target === undefined || others.length > 0) {
    throw new UsageError(`convert takes a model and the file to write, got ${files.length} paths`)
  }
  const output = new Output(() => abort.abort())
  const bar = new ProgressBar('converting')
  try {
    const result = await convertModel(source, target, {
      ...(line.convert as ConvertOptions),
      signal: abort.signal,
      onProgress: (progress) => bar.update(progress),
    })
    bar.clear()
    await output.write(line.json ? `${JSON.stringify(result)}\n` : describe(result))
  } finally {
    bar.clear()
  }
}

function describe(result: Awaited<ReturnType<typeof convertModel>>): string {
  const types = Object.entries(result.tensorTypes)
    .sort(([, a], [, b]) => b - a)
    .map(([type, bytes]) => `${type} ${megabytes(bytes)}`)
  return `${result.path}: ${result.type}, ${megabytes(result.fileBytes)} (${types.join(', ')})\n`
}
