/**
 * Makes docs/api from the docstrings of lib/.
 *
 *   node docs/typedoc/generate.mjs            writes docs/api
 *   node docs/typedoc/generate.mjs --check    fails when docs/api is not what it would write
 */

import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const here = dirname(fileURLToPath(import.meta.url))
const reference = join(here, '..', 'api')

function run(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: here, stdio: ['ignore', 2, 2] })
  if (error) throw error
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: exit code ${status}`)
}

function generate(folder) {
  if (!existsSync(join(here, 'node_modules', 'typedoc'))) {
    run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'])
  }
  rmSync(folder, { recursive: true, force: true })
  run(process.execPath, [
    join(here, 'node_modules', 'typedoc', 'bin', 'typedoc'),
    '--logLevel',
    'Warn',
    '--out',
    folder,
  ])
}

/** Path -> text of every file below a folder. */
function contents(folder) {
  if (!existsSync(folder)) return new Map()
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  )
  return new Map(
    files.map((entry) => {
      const path = join(entry.parentPath, entry.name)
      return [path.slice(folder.length + 1), readFileSync(path, 'utf8')]
    }),
  )
}

if (process.argv.includes('--check')) {
  const scratch = mkdtempSync(join(tmpdir(), 'cria-api-'))
  try {
    generate(scratch)
    const [wanted, found] = [contents(scratch), contents(reference)]
    const paths = new Set([...wanted.keys(), ...found.keys()])
    const stale = [...paths].filter((path) => wanted.get(path) !== found.get(path))
    if (stale.length > 0) {
      console.error(`docs/api is not current: ${stale.join(', ')}; run: npm run docs:api`)
      process.exitCode = 1
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
} else {
  generate(reference)
}
