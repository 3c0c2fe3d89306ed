/** `cria pull`, `cria ls` and `cria rm`: the models of the cache. */

import { listModels, removeModel } from '../hub/models'
import type { DownloadOptions } from '../hub/options'
import { isRemote } from '../hub/spec'
import { type CommandLine, UsageError } from './args'
import { localModel } from './model'
import { Output } from './terminal'

export async function pull(line: CommandLine, abort: AbortController): Promise<void> {
  const output = new Output(() => abort.abort())
  const models = named(line)
  const path = models.find((model) => !isRemote(model))
  if (path !== undefined) throw new UsageError(`pull takes names such as hf:owner/repo:Q4_K_M, got '${path}'`)
  for (const model of models) {
    const path = await localModel(model, abort.signal, line.hub)
    await output.write(line.json ? `${JSON.stringify({ model, path })}\n` : `${path}\n`)
  }
}

export async function list(line: CommandLine, abort: AbortController): Promise<void> {
  const output = new Output(() => abort.abort())
  const models = await listModels(line.hub as DownloadOptions)
  if (line.json) return output.write(`${JSON.stringify(models)}\n`)
  const width = Math.max(0, ...models.map(({ name }) => name.length))
  for (const { name, bytes, modified, complete } of models) {
    const date = modified.toISOString().slice(0, 10)
    const note = complete ? '' : '  incomplete'
    await output.write(`${name.padEnd(width)}  ${size(bytes).padStart(8)}  ${date}${note}\n`)
  }
}

export async function remove(line: CommandLine, abort: AbortController): Promise<void> {
  const output = new Output(() => abort.abort())
  for (const model of named(line)) {
    const { freedBytes, files } = await removeModel(model, line.hub as DownloadOptions)
    const count = files.length === 1 ? '1 file' : `${files.length} files`
    const text = line.json
      ? JSON.stringify({ model, freedBytes, files })
      : `${model}: ${count}, ${size(freedBytes)}`
    await output.write(`${text}\n`)
  }
}

function named({ command, models = [] }: CommandLine): string[] {
  if (models.length > 0) return models
  throw new UsageError(`${command} needs a model, such as hf:owner/repo:Q4_K_M`)
}

function size(bytes: number): string {
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(1)} kB`
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`
}
