// Formats the C++ sources with clang-format 19 (Debian: clang-format-19), or checks their format.
//
//   node cmake/format.mjs --write | --check
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { dirname, extname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const VERSION = 19
const FOLDERS = ['native', 'test/native', 'test/cuda_emulation', 'test/fuzz', 'bench']
// Not .inc: the tables are generated.
const EXTENSIONS = ['.cc', '.h', '.cu', '.cuh']

const root = dirname(dirname(fileURLToPath(import.meta.url)))

/** The command of the right version; other versions format differently. */
function findFormatter() {
  for (const command of [process.env.CLANG_FORMAT, `clang-format-${VERSION}`, 'clang-format']) {
    if (!command) continue
    const { stdout } = spawnSync(command, ['--version'], { encoding: 'utf8' })
    if (new RegExp(`version ${VERSION}\\.`).test(stdout ?? '')) return command
  }
  return undefined
}

function sources() {
  return FOLDERS.flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && EXTENSIONS.includes(extname(entry.name)))
      .map((entry) => relative(root, join(entry.parentPath, entry.name)))
      .filter((path) => !path.includes('node_modules')),
  ).sort()
}

function main(mode) {
  if (mode !== '--write' && mode !== '--check') {
    console.error('usage: node cmake/format.mjs --write | --check')
    return 2
  }
  const formatter = findFormatter()
  if (!formatter) {
    console.error(`clang-format ${VERSION} is missing (Debian: apt-get install clang-format-${VERSION})`)
    return 1
  }
  const files = sources()
  const args = mode === '--write' ? ['-i'] : ['--dry-run', '-Werror']
  const { status, error } = spawnSync(formatter, [...args, ...files], { cwd: root, stdio: 'inherit' })
  if (error) throw error
  if (status === 0) console.log(`clang-format: ${files.length} files`)
  else if (mode === '--check') console.error('the sources above are not formatted; run npm run format')
  return status ?? 1
}

process.exitCode = main(process.argv[2])
