// The action of binding.gyp: builds the addon with CMake, from the source list in CMakeLists.txt, into the
// folder that node-gyp and prebuildify expect.
//
//   node cmake/gyp_bridge.mjs <output folder>
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const output = resolve(process.argv[2] ?? join(root, 'build/Release'))
const binaryDir = join(root, 'build/cmake')
const jobs = process.env.CMAKE_BUILD_PARALLEL_LEVEL ?? String(availableParallelism())
const headers = createRequire(import.meta.url)('node-api-headers').include_dir

function run(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit' })
  if (error) {
    const advice = 'install CMake 3.22 or newer and a C++20 compiler'
    throw new Error(`cannot run ${command}: ${error.message}; ${advice}`)
  }
  if (status !== 0) process.exit(status ?? 1)
}

// AUTO: with CUDA if nvcc is found. CRIA_CUDA=ON requires it, OFF disables it.
const cuda = process.env.CRIA_CUDA ?? 'AUTO'
const options = ['-DCMAKE_BUILD_TYPE=Release', `-DCMAKE_JS_INC=${headers}`, `-DCRIA_CUDA=${cuda}`]
run('cmake', ['-S', root, '-B', binaryDir, ...options])
run('cmake', ['--build', binaryDir, '--target', 'cria', '--parallel', jobs])
mkdirSync(output, { recursive: true })
copyFileSync(join(binaryDir, 'cria.node'), join(output, 'cria.node'))
