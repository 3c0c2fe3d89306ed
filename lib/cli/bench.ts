import { rm, writeFile } from 'node:fs/promises'
import { type BenchOptions, checkBenchOptions, bench as measure } from '../bench/bench'
import { parseSynthetic, syntheticFile } from '../bench/synthetic'
import { benchTable } from '../bench/table'
import { CriaError } from '../errors'
import { type CommandLine, UsageError } from './args'
import { localModel } from './model'
import { dim, Output, ProgressBar } from './terminal'

export async function bench(line: CommandLine, abort: AbortController): Promise<void> {
  const output = new Output(() => abort.abort())
  const { synthetic, json, noCache, ...options } = (line.bench ?? {}) as {
    synthetic?: string
    json?: string
    noCache?: boolean
  } & Omit<BenchOptions, 'path'>
  if ((line.model === undefined) === (synthetic === undefined)) {
    throw new UsageError(
      'bench needs one model: --model <file> or --synthetic <shape>:<type>, such as llama-3.2-1b:Q4_K_M',
    )
  }
  if (noCache && synthetic === undefined) throw new UsageError('--no-cache needs --synthetic')

  const { signal } = abort
  const model = synthetic === undefined ? undefined : parseSynthetic(synthetic)
  // Checked before a file of gigabytes is written.
  checkBenchOptions({ ...options, path: line.model ?? '' })
  const path = model ? await makeFile(model, noCache ?? false, signal) : await localModel(line.model!, signal)
  const phases = new Phases()
  try {
    const result = await measure({ ...options, path, signal, onPhase: (phase) => phases.show(phase) })
    phases.clear()
    const text = `${JSON.stringify({ command: commandLine(), ...result }, null, 2)}\n`
    if (json === '-') return await output.write(text)
    if (json !== undefined) await save(json, text)
    await output.write(benchTable(result))
  } finally {
    phases.clear()
    if (noCache) await rm(path, { force: true })
  }
}

async function makeFile(
  model: ReturnType<typeof parseSynthetic>,
  anew: boolean,
  signal: AbortSignal,
): Promise<string> {
  const bar = new ProgressBar('writing')
  try {
    return await syntheticFile(model, { anew, signal, onProgress: (progress) => bar.update(progress) })
  } finally {
    bar.clear()
  }
}

/** The command as typed. */
function commandLine(): string {
  return ['cria', ...process.argv.slice(2)].join(' ')
}

async function save(file: string, text: string): Promise<void> {
  try {
    await writeFile(file, text)
  } catch (error) {
    throw new CriaError('ERR_IO', `--json: ${(error as Error).message}`, { cause: error })
  }
}

/** Shows the current phase in one line on stderr, only on a terminal. */
class Phases {
  #shown = false

  show(phase: string): void {
    if (!process.stderr.isTTY) return
    process.stderr.write(`\r${dim(phase)}\x1b[K`)
    this.#shown = true
  }

  clear(): void {
    if (this.#shown) process.stderr.write('\r\x1b[K')
    this.#shown = false
  }
}
