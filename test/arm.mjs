/**
 * Builds the native tests for 64-bit ARM Linux with Debian's cross compiler and runs them under QEMU's user
 * emulation (packages g++-aarch64-linux-gnu, qemu-user-static). All tests run on a processor with every
 * feature; the tests of kernels and engine also run once per level, on the smallest processor that has it,
 * where an instruction of a higher level ends the program. The last line is `N passed, N failed`, with `, N
 * skipped` if there are any.
 *
 *   node test/arm.mjs [build folder] [jobs]
 */

import { join, resolve } from 'node:path'
import { ctest, finish, root, run } from './ctest.mjs'

const build = resolve(process.argv[2] ?? join(root, 'build-arm'))
const jobs = process.argv[3]

/** QEMU's names of processors, and the highest level that each can run. */
const PROCESSORS = [
  ['cortex-a53', 'neon'],
  ['neoverse-n1', 'neon_dotprod'],
  ['max', 'neon_i8mm'],
]

function buildTests() {
  const toolchain = join(root, 'cmake', 'aarch64-toolchain.cmake')
  const options = [`-DCMAKE_TOOLCHAIN_FILE=${toolchain}`, '-DCRIA_ADDON=OFF', '-DCRIA_TESTS=ON']
  return (
    run('cmake', ['-S', root, '-B', build, '-G', 'Ninja', ...options]) === 0 &&
    run('cmake', ['--build', build, ...(jobs ? ['-j', jobs] : [])]) === 0
  )
}

function runTests(title, args, env) {
  console.log(`\n==== ${title}`)
  return ctest(build, join(build, 'ctest.xml'), args, { env: { ...process.env, ...env } })
}

function main() {
  if (!buildTests()) return [{ passed: 0, failed: 1, skipped: 0 }]
  return [
    runTests('all native tests, max', [], { QEMU_CPU: 'max', CRIA_CPU_ISA: '' }),
    ...PROCESSORS.map(([cpu, level]) => {
      const tests = ['-R', '^(cross_isa|engine)$']
      return runTests(`${level} on ${cpu}`, tests, { QEMU_CPU: cpu, CRIA_CPU_ISA: level })
    }),
  ]
}

const results = main()
console.log()
finish(results)
