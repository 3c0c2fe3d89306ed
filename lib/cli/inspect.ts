import { demoModelPath, type FileInfo, inspect as inspectFile } from '../info'
import type { CommandLine } from './args'
import { localModel } from './model'
import { megabytes, Output, warn } from './terminal'

export async function inspect(line: CommandLine, abort: AbortController): Promise<void> {
  const output = new Output(() => abort.abort())
  const path = await localModel(line.model ?? demoModelPath(), abort.signal)
  const info = await inspectFile(path, { signal: abort.signal })
  if (!line.json) warn(info.warnings)
  await output.write(line.json ? `${JSON.stringify(info, bigintAsText)}\n` : describe(info))
}

function bigintAsText(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value
}

const MAX_SHOWN = 100

function shorten(value: unknown): string {
  const text = JSON.stringify(value, bigintAsText)
  return text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}… (${text.length} characters)` : text
}

function formatName({ format, version }: FileInfo): string {
  if (format === 'gguf') return `GGUF version ${version}`
  return format === 'meta' ? "folder of Meta's release files" : 'Hugging Face folder'
}

function describe(info: FileInfo): string {
  const lines = [`${info.path}: ${formatName(info)}, ${megabytes(info.fileBytes)}`]
  if (info.files.length > 1) lines.push(...info.files.map((file) => `  part ${file}`))
  lines.push('', `metadata (${info.metadata.length})`)
  for (const { key, type, value } of info.metadata) {
    const shown =
      typeof value === 'object'
        ? `${value.elementType}[${value.length}] ${shorten(value.head)}`
        : `${type} ${shorten(value)}`
    lines.push(`  ${key}: ${shown}`)
  }
  lines.push('', `tensors (${info.tensors.length})`)
  const width = Math.max(0, ...info.tensors.map(({ name }) => name.length))
  for (const { name, type, shape, bytes } of info.tensors) {
    lines.push(
      `  ${name.padEnd(width)}  ${type.padEnd(6)}  ${shape.join(' x ').padEnd(16)}  ${megabytes(bytes)}`,
    )
  }
  return `${lines.join('\n')}\n`
}
