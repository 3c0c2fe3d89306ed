#!/usr/bin/env node
/** The command `cria`. Exit codes: 0, 1 (error), 2 (wrong usage), 130 (Ctrl-C). */

import { version } from '../binding'
import { CriaError } from '../errors'
import { type CommandLine, parseCommandLine, UsageError } from './args'
import { bench } from './bench'
import { benchKernels } from './bench_kernels'
import { chat } from './chat'
import { convert } from './convert'
import { generate } from './generate'
import { helpText } from './help'
import { imatrix } from './imatrix'
import { inspect } from './inspect'
import { list, pull, remove } from './models'
import { perplexity } from './perplexity'
import { Output } from './terminal'

async function main(): Promise<number> {
  let interrupted = false
  const abort = new AbortController()
  // The first Ctrl-C ends the command cleanly. A second one kills the process.
  process.once('SIGINT', () => {
    interrupted = true
    abort.abort()
  })
  try {
    const line = parseCommandLine(process.argv.slice(2))
    await run(line, abort)
    return interrupted ? 130 : 0
  } catch (error) {
    if (interrupted) {
      if (process.stdout.isTTY) process.stdout.write('\n')
      return 130
    }
    process.stderr.write(`cria: ${explain(error)}\n`)
    return error instanceof UsageError || isWrongOption(error) ? 2 : 1
  }
}

async function run(line: CommandLine, abort: AbortController): Promise<void> {
  switch (line.command) {
    case 'help':
      return new Output().write(helpText(line.topic))
    case 'version':
      return new Output().write(`${version}\n`)
    case 'generate':
      return generate(line, abort)
    case 'chat':
      return chat(line, abort)
    case 'inspect':
      return inspect(line, abort)
    case 'pull':
      return pull(line, abort)
    case 'ls':
      return list(line, abort)
    case 'rm':
      return remove(line, abort)
    case 'convert':
      return convert(line, abort)
    case 'perplexity':
      return perplexity(line, abort)
    case 'imatrix':
      return imatrix(line, abort)
    case 'bench':
      return bench(line, abort)
    case 'bench kernels':
      return benchKernels(line, abort)
  }
}

/** The command passes options to the library unchanged, so an error about an option means wrong usage. */
function isWrongOption(error: unknown): boolean {
  return error instanceof CriaError && error.code === 'ERR_INVALID_ARGUMENT' && 'option' in error.details
}

function explain(error: unknown): string {
  if (error instanceof CriaError) return `${error.code}: ${error.message.replace(/\s*\n\s*/g, ' ')}`
  if (error instanceof UsageError) return error.message
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}

main().then((code) => {
  // Not process.exit(): it would drop output that a pipe has not taken yet.
  if (code !== 0) process.exitCode = code
})
