// Registers, shared memory and spills of every CUDA kernel on every architecture, as ptxas reports them, against
// cmake/ptxas_report.txt.
//
//   node cmake/ptxas_report.mjs --write | --check <build folder>
//
// The folder is one in which the addon was built with CRIA_CUDA=ON for all architectures: that build kept what ptxas
// said (ptxas_log.mjs), so that nothing is compiled twice. --check fails when a kernel spills, uses a stack, takes
// noticeably more than is written down, or is not written down at all. A deliberate change is written with --write and
// reviewed as a diff.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const ARCHITECTURES = ['75', '80', '86', '89', '90a', '100', '120']
const REGISTER_TOLERANCE = 4 // compilers differ by a few; more is a change of the kernel

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const folder = join(root, 'native', 'kernels', 'cuda')
const reportFile = join(root, 'cmake', 'ptxas_report.txt')

/** "rms_norm_kernel(const float*, ...)" as a name that stays when parameters change. */
function shortName(mangled) {
  const { stdout } = spawnSync('c++filt', [mangled], { encoding: 'utf8' })
  const name = (stdout ?? mangled)
    .trim()
    .replace(/^void /, '')
    .replaceAll('cria::cuda::', '')
    .replaceAll('cria::', '')
  // Up to the parameter list: the first parenthesis outside of template arguments.
  let depth = 0
  for (let i = 0; i < name.length; i++) {
    if (name[i] === '<') depth++
    else if (name[i] === '>') depth--
    else if (name[i] === '(' && depth === 0) return name.slice(0, i).replace(/\s+/g, '')
  }
  return name.replace(/\s+/g, '')
}

/** What ptxas said of each kernel file, by its name. Throws where the build has no such logs. */
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

/** Rows of {kernel, arch, registers, shared, spills, stack}. */
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

/** One line a kernel: shared memory, then the registers on each architecture. */
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

function main(mode, build) {
  if ((mode !== '--write' && mode !== '--check') || !build) {
    console.error('usage: node cmake/ptxas_report.mjs --write | --check <build folder>')
    return 2
  }
  const rows = [...readLogs(build)].sort().flatMap(([file, log]) => parse(file, log))
  const problems = []
  const known = readReport()
  for (const { kernel, arch, registers, shared, stack, spills } of rows) {
    const where = `${kernel} on sm_${arch}`
    if (spills) problems.push(`${where} spills ${spills} bytes`)
    if (stack) problems.push(`${where} has a stack frame of ${stack} bytes`)
    if (mode === '--write') continue
    const before = known.get(kernel)
    if (!before) problems.push(`${where} is not in cmake/ptxas_report.txt`)
    else if (registers > before[`sm_${arch}`] + REGISTER_TOLERANCE)
      problems.push(`${where} uses ${registers} registers, ${before[`sm_${arch}`]} before`)
    else if (shared > before.shared)
      problems.push(`${where} uses ${shared} bytes of shared memory, ${before.shared} before`)
  }
  const kernels = new Set(rows.map(({ kernel }) => kernel))
  for (const kernel of kernels)
    for (const arch of ARCHITECTURES)
      if (!rows.some((row) => row.kernel === kernel && row.arch === arch))
        problems.push(`${kernel} was not compiled for sm_${arch}`)
  if (mode === '--check')
    for (const kernel of known.keys())
      if (!kernels.has(kernel)) problems.push(`${kernel} is gone from the sources`)
  if (mode === '--write') writeFileSync(reportFile, format(rows))
  for (const problem of problems) console.error(problem)
  console.log(
    `ptxas: ${kernels.size} kernels on ${ARCHITECTURES.length} architectures, ${problems.length} problems`,
  )
  return problems.length ? 1 : 0
}

process.exitCode = main(process.argv[2], process.argv[3])
