/**
 * Runs all tests: the native ones (ctest), the types, and jest. The last line is `N passed, N failed`, with
 * `, N skipped` where some were; the exit code is 1 when one failed or a step ran no test.
 *
 *   node test/run.mjs [jest arguments]
 */

import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const require = createRequire(import.meta.url)
const scratch = mkdtempSync(join(tmpdir(), 'cria-test-'))
const jestArguments = process.argv.slice(2)

function run(command, args, options = {}) {
  const { status, signal, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit', ...options })
  if (error) console.error(String(error))
  return status ?? (signal ? 1 : 0)
}

/** Counts as ctest wrote them. Not built: skipped, visibly. */
function nativeTests() {
  const build = join(root, 'build')
  if (!existsSync(join(build, 'CTestTestfile.cmake'))) {
    return { passed: 0, failed: 0, skipped: 1, note: 'not built; npm run build:tests builds them' }
  }
  const report = join(scratch, 'ctest.xml')
  const status = run('ctest', ['--test-dir', build, '--output-on-failure', '--output-junit', report])
  const head = existsSync(report) ? /<testsuite\b[^>]*>/.exec(readFileSync(report, 'utf8'))?.[0] : undefined
  const count = (name) => Number(new RegExp(`\\b${name}="(\\d+)"`).exec(head ?? '')?.[1] ?? 0)
  const failed = count('failures')
  const skipped = count('skipped') + count('disabled')
  const passed = count('tests') - failed - skipped
  return { passed, failed: failed || (status === 0 ? 0 : 1), skipped }
}

/** Each file in test/types is a test: it compiles, and what must not compile is marked in it. */
function typeTests() {
  const files = readdirSync(join(root, 'test', 'types')).filter((name) => name.endsWith('.ts')).length
  const tsc = join(dirname(require.resolve('typescript/package.json')), 'bin', 'tsc')
  const status = run(process.execPath, [tsc, '-p', join(root, 'test', 'types', 'tsconfig.json')])
  return status === 0 ? { passed: files, failed: 0, skipped: 0 } : { passed: 0, failed: files, skipped: 0 }
}

function jestTests() {
  const report = join(scratch, 'jest.json')
  const jest = join(dirname(require.resolve('jest/package.json')), 'bin', 'jest.js')
  const status = run(process.execPath, [jest, '--json', `--outputFile=${report}`, ...jestArguments], {
    // The report goes to the file; on stdout it would only be noise.
    stdio: ['inherit', 'ignore', 'inherit'],
  })
  if (!existsSync(report)) return { passed: 0, failed: 1, skipped: 0, note: 'jest wrote no report' }
  const result = JSON.parse(readFileSync(report, 'utf8'))
  // A suite that could not even start has no failed tests of its own.
  const failed = result.numFailedTests + result.numRuntimeErrorTestSuites
  return {
    passed: result.numPassedTests,
    failed: failed || (status === 0 ? 0 : 1),
    skipped: result.numPendingTests + result.numTodoTests,
  }
}

const steps = { native: nativeTests, types: typeTests, jest: jestTests }
const total = { passed: 0, failed: 0, skipped: 0 }
const summary = []
try {
  for (const [name, step] of Object.entries(steps)) {
    const { note, ...result } = step()
    if (result.passed + result.failed + result.skipped === 0) {
      result.failed = 1
      summary.push(`${name}: no test was run`)
    } else {
      summary.push(`${name}: ${line(result)}${note ? ` (${note})` : ''}`)
    }
    for (const key of Object.keys(total)) total[key] += result[key]
  }
} finally {
  rmSync(scratch, { recursive: true, force: true })
}

function line({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`
}

console.log(`\n${summary.join('\n')}\n${line(total)}`)
process.exitCode = total.failed > 0 ? 1 : 0
