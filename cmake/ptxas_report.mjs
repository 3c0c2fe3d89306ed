// Compares the registers, shared memory and spills of every CUDA kernel on every architecture, as reported by
// ptxas, with cmake/ptxas_report.txt.
//
//   node cmake/ptxas_report.mjs --write | --check <build folder>
//
// The addon must have been built in the folder with CRIA_CUDA=ON for all architectures: that build saved
// ptxas's messages (ptxas_log.mjs), so nothing is compiled again. --check fails if a kernel spills, uses a
// stack frame, needs clearly more than the file says, or is missing from it. Write an intended change with
// --write and review the diff.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const ARCHITECTURES = ['75', '80', '86', '89', '90a', '100', '120']
/** Compiler versions differ by a few registers; more is a change of the kernel. */
const REGISTER_TOLERANCE = 4

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const folder = join(root, 'native', 'kernels', 'cuda')
const reportFile = join(root, 'cmake', 'ptxas_report.txt')

/** The demangled name without namespaces and parameters: "rms_norm_kernel". */
function shortName(mangled) {
  const { stdout } = spawnSync('c++filt', [mangled], { encoding: 'utf8' })
  const name = (stdout ?? mangled)
    .trim()
    .replace(/^void /, '')
    .replaceAll('cria::cuda::', '')
    .replaceAll('cria::', '')
  // Cut at the parameter list: the first parenthesis outside template arguments.
  let depth = 0
  for (let i = 0; i < name.length; i++) {
    if (name[i] === '<') depth++
    else if (name[i] === '>') depth--
    else if (name[i] === '(' && depth === 0) return name.slice(0, i).replace(/\s+/g, '')
  }
  return name.replace(/\s+/g, '')
}

/** The ptxas log of each kernel file, by its name. Throws if the build lacks one. */
function readLogs(build) {
  const logs = new Map()
  const objects = join(build, 'CMakeFiles', 'cria_cuda.dir')
  const names = existsSync(objects) ? readdirSync(objects, { recursive: true }) : []
  for (const name of names.filter((n) => n.endsWith('.cu.o.ptxas')))
    logs.set(basename(name, '.o.ptxas'), readFileSync(join(objects, name), 'utf8'))
  for (const file of readdirSync(folder).filter((f) => f.endsWith('.cu')))
    if (!logs.has(file))
      throw new Error(`${build} has no log of ${file}: expected an addon built with CRIA_CUDA=ON`)
  return logs
}

/** The kernels of a log: rows of { kernel, arch, registers, shared, spills, stack }. */
function parse(file, output) {
  const rows = []
  for (const part of output.split('Compiling entry function ').slice(1)) {
    const [, mangled, arch] = /^'([^']+)' for 'sm_(\w+)'/.exec(part)
    const number = (pattern) => Number(pattern.exec(part)?.[1] ?? 0)
    rows.push({
      kernel: `${file}:${shortName(mangled)}`,
      arch,
      registers: number(/Used (\d+) registers/),
      shared: number(/(\d+) bytes smem/),
      stack: number(/(\d+) bytes stack frame/),
      spills: number(/(\d+) bytes spill stores/) + number(/(\d+) bytes spill loads/),
    })
  }
  return rows
}

/** One line per kernel: its shared memory, then its registers on each architecture. */
function format(rows) {
  const lines = [
    '# Static shared memory in bytes, and registers a thread on each architecture. No kernel spills.',
  ]
  const kernels = [...new Set(rows.map(({ kernel }) => kernel))].sort()
  for (const kernel of kernels) {
    const own = rows.filter((row) => row.kernel === kernel)
    const registers = own.map(({ arch, registers }) => `sm_${arch}=${registers}`).join(' ')
    lines.push(`${kernel} shared=${Math.max(...own.map(({ shared }) => shared))} ${registers}`)
  }
  return `${lines.join('\n')}\n`
}

function readReport() {
  const known = new Map()
  if (!existsSync(reportFile)) return known
  for (const line of readFileSync(reportFile, 'utf8').split('\n')) {
    if (!line || line.startsWith('#')) continue
    const [kernel, ...fields] = line.split(' ')
    known.set(kernel, Object.fromEntries(fields.map((f) => [f.split('=')[0], Number(f.split('=')[1])])))
  }
  return known
}

/** What is wrong with one kernel on one architecture; `before` is its line in the report. */
function kernelProblems({ kernel, arch, registers, shared, stack, spills }, before) {
  const where = `${kernel} on sm_${arch}`
  const problems = []
  if (spills) problems.push(`${where} spills ${spills} bytes`)
  if (stack) problems.push(`${where} has a stack frame of ${stack} bytes`)
  if (before && registers > before[`sm_${arch}`] + REGISTER_TOLERANCE) {
    problems.push(`${where} uses ${registers} registers, ${before[`sm_${arch}`]} before`)
  } else if (before && shared > before.shared) {
    problems.push(`${where} uses ${shared} bytes of shared memory, ${before.shared} before`)
  }
  return problems
}

/** Kernels that some architecture lacks. */
function missingKernels(rows, kernels) {
  const compiled = new Set(rows.map(({ kernel, arch }) => `${kernel} ${arch}`))
  return kernels.flatMap((kernel) =>
    ARCHITECTURES.filter((arch) => !compiled.has(`${kernel} ${arch}`)).map(
      (arch) => `${kernel} was not compiled for sm_${arch}`,
    ),
  )
}

function main(mode, build) {
  if ((mode !== '--write' && mode !== '--check') || !build) {
    console.error('usage: node cmake/ptxas_report.mjs --write | --check <build folder>')
    return 2
  }
  const rows = [...readLogs(build)].sort().flatMap(([file, log]) => parse(file, log))
  const kernels = [...new Set(rows.map(({ kernel }) => kernel))]
  const known = mode === '--check' ? readReport() : new Map()
  const problems = rows.flatMap((row) => kernelProblems(row, known.get(row.kernel)))
  problems.push(...missingKernels(rows, kernels))
  if (mode === '--write') {
    writeFileSync(reportFile, format(rows))
  } else {
    const added = kernels.filter((kernel) => !known.has(kernel))
    const removed = [...known.keys()].filter((kernel) => !kernels.includes(kernel))
    problems.push(...added.map((kernel) => `${kernel} is not in cmake/ptxas_report.txt`))
    problems.push(...removed.map((kernel) => `${kernel} is in cmake/ptxas_report.txt but not in the sources`))
  }
  for (const problem of problems) console.error(problem)
  console.log(
    `ptxas: ${kernels.length} kernels on ${ARCHITECTURES.length} architectures, ${problems.length} problems`,
  )
  return problems.length ? 1 : 0
}

process.exitCode = main(process.argv[2], process.argv[3])
