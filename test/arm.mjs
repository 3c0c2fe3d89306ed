/**
 * Builds the native tests for 64-bit ARM Linux with Debian's cross compiler and runs them under QEMU's user emulation
 * (g++-aarch64-linux-gnu, qemu-user-static): all of them on a processor that has every feature, then kernels and engine
 * once per level on the least processor that has it, where an instruction of a higher level would end the program.
 * The last line is `N passed, N failed`, with `, N skipped` where some were.
 *
 *   node test/arm.mjs [build folder] [jobs]
 */

import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const build = resolve(process.argv[2] ?? join(root, 'build-arm'))
const jobs = process.argv[3]

/** QEMU's name of a processor, and the best level it can run. */
const PROCESSORS = [
  ['cortex-a53', 'neon'],
  ['neoverse-n1', 'neon_dotprod'],
  ['max', 'neon_i8mm'],
]

function run(command, args, env = {}) {
  const { status, error } = spawnSync(command, args, {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, ...env },
  })
  if (error) console.error(String(error))
  return status === 0
}

/** Runs ctest and counts as it wrote them. */
function tests(title, args, env) {
  console.log(`\n==== ${title}`)
  const report = join(build, 'ctest.xml')
  rmSync(report, { force: true })
  const ok = run(
    'ctest',
    ['--test-dir', build, '--output-on-failure', '--output-junit', report, ...args],
    env,
  )
  const head = existsSync(report) ? /<testsuite\b[^>]*>/.exec(readFileSync(report, 'utf8'))?.[0] : undefined
  const count = (name) => Number(new RegExp(`\\b${name}="(\\d+)"`).exec(head ?? '')?.[1] ?? 0)
  const failed = count('failures')
  const skipped = count('skipped') + count('disabled')
  const passed = count('tests') - failed - skipped
  // A level that was not run has not passed.
  return { passed, failed: failed || (ok && passed > 0 ? 0 : 1), skipped }
}

function main() {
  const toolchain = join(root, 'cmake', 'aarch64-toolchain.cmake')
  const options = [`-DCMAKE_TOOLCHAIN_FILE=${toolchain}`, '-DCRIA_ADDON=OFF', '-DCRIA_TESTS=ON']
  if (!run('cmake', ['-S', root, '-B', build, '-G', 'Ninja', ...options]))
    return [{ passed: 0, failed: 1, skipped: 0 }]
  if (!run('cmake', ['--build', build, ...(jobs ? ['-j', jobs] : [])]))
    return [{ passed: 0, failed: 1, skipped: 0 }]
  return [
    tests('all native tests, max', [], { QEMU_CPU: 'max', CRIA_CPU_ISA: '' }),
    ...PROCESSORS.map(([cpu, level]) =>
      tests(`${level} on ${cpu}`, ['-R', '^(cross_isa|engine)$'], { QEMU_CPU: cpu, CRIA_CPU_ISA: level }),
    ),
  ]
}

const results = main()
const sum = (key) => results.reduce((total, result) => total + result[key], 0)
const skipped = sum('skipped')
console.log(`\n${sum('passed')} passed, ${sum('failed')} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`)
process.exitCode = sum('failed') > 0 ? 1 : 0
