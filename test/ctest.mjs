/** Running ctest and counting its results, for test/run.mjs and test/arm.mjs. */

import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = join(dirname(fileURLToPath(import.meta.url)), '..')

/** Runs a command in the project's folder. Returns its exit code, 1 if it was killed or could not start. */
export function run(command, args, options = {}) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit', ...options })
  if (error) console.error(String(error))
  return status ?? 1
}

/** Runs the tests of a build folder and counts them. A run without a passed test counts as failed. */
export function ctest(build, report, args = [], options = {}) {
  rmSync(report, { force: true })
  const output = [
    '--output-on-failure',
    '--output-junit',
    report,
    '--parallel',
    String(availableParallelism()),
  ]
  const status = run('ctest', ['--test-dir', build, ...output, ...args], options)
  const head = existsSync(report) ? /<testsuite\b[^>]*>/.exec(readFileSync(report, 'utf8'))?.[0] : undefined
  const count = (name) => Number(new RegExp(`\\b${name}="(\\d+)"`).exec(head ?? '')?.[1] ?? 0)
  const failed = count('failures')
  const skipped = count('skipped') + count('disabled')
  const passed = count('tests') - failed - skipped
  return { passed, failed: failed || (status === 0 && passed > 0 ? 0 : 1), skipped }
}

/** `N passed, N failed`, and `, N skipped` if there are any. */
export function summary({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`
}

/** Prints the sum of some results as the last line and sets the exit code. */
export function finish(results) {
  const sum = (key) => results.reduce((total, result) => total + result[key], 0)
  const total = { passed: sum('passed'), failed: sum('failed'), skipped: sum('skipped') }
  console.log(summary(total))
  process.exitCode = total.failed > 0 ? 1 : 0
}
