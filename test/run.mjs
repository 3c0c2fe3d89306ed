/**
 * Runs all tests: the native ones (ctest), the types, and jest. The last line is `N passed, N failed`, with
 * `, N skipped` if there are any. The exit code is 1 if a test failed or a step ran no test.
 *
 *   node test/run.mjs [jest arguments]
 */

import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { ctest, finish, root, run, summary } from './ctest.mjs'

const require = createRequire(import.meta.url)
const scratch = mkdtempSync(join(tmpdir(), 'cria-test-'))
const jestArguments = process.argv.slice(2)

/** Without a build, they are visibly skipped. */
function nativeTests() {
  const build = join(root, 'build')
  if (!existsSync(join(build, 'CTestTestfile.cmake'))) {
    return { passed: 0, failed: 0, skipped: 1, note: 'not built; run npm run build:tests' }
  }
  return ctest(build, join(scratch, 'ctest.xml'))
}

/** Each file in test/types is a test: it compiles, apart from the lines that are marked as errors. */
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
    // The JSON report also goes to stdout, where it would only be noise.
    stdio: ['inherit', 'ignore', 'inherit'],
  })
  if (!existsSync(report)) return { passed: 0, failed: 1, skipped: 0, note: 'jest wrote no report' }
  const result = JSON.parse(readFileSync(report, 'utf8'))
  // A suite that failed to start has no failed tests.
  const failed = result.numFailedTests + result.numRuntimeErrorTestSuites
  return {
    passed: result.numPassedTests,
    failed: failed || (status === 0 ? 0 : 1),
    skipped: result.numPendingTests + result.numTodoTests,
  }
}

const results = []
const lines = []
try {
  for (const [name, step] of Object.entries({ native: nativeTests, types: typeTests, jest: jestTests })) {
    const { note, ...result } = step()
    if (result.passed + result.failed + result.skipped === 0) {
      result.failed = 1
      lines.push(`${name}: no test was run`)
    } else {
      lines.push(`${name}: ${summary(result)}${note ? ` (${note})` : ''}`)
    }
    results.push(result)
  }
} finally {
  rmSync(scratch, { recursive: true, force: true })
}

console.log(`\n${lines.join('\n')}`)
finish(results)
