import { readFile, writeFile } from 'node:fs/promises'
import { loadavg } from 'node:os'
import { type KernelCase, kernelCases } from '../bench/kernel_cases'
import {
  compareReports,
  comparisonTable,
  type KernelReport,
  type KernelRow,
  kernelCsv,
  kernelTable,
} from '../bench/kernel_report'
import { describeMachine, type MachineInfo, versions } from '../bench/machine'
import { rooflineSvg } from '../bench/roofline'
import { SHAPE_NAMES } from '../bench/shapes'
import { CriaError } from '../errors'
import { cpuInfo } from '../info'
import { bench, ceilingsOf } from '../kernels/bench'
import { BENCH_OPS } from '../kernels/bench_specs'
import { type KernelDevice, kernelRules } from '../kernels/call'
import { WEIGHT_TYPES, type WeightType } from '../kernels/dtypes'
import { describeDevice } from '../kernels/memory'
import { type CommandLine, UsageError } from './args'
import { dim, Output } from './terminal'

interface Settings {
  op?: string
  shape?: string
  type?: string
  device?: string
  isa?: string
  filter?: string
  threads?: number
  warmup?: number
  iterations?: number
  json?: string
  csv?: string
  svg?: string
  compare?: string
  threshold?: number
}

const DEFAULT_SHAPE = 'llama-3.1-8b'
const DEFAULT_THRESHOLD = 0.1

export async function benchKernels(line: CommandLine, abort: AbortController): Promise<void> {
  const output = new Output(() => abort.abort())
  const settings = (line.bench ?? {}) as Settings
  const { threshold = DEFAULT_THRESHOLD, compare, json, csv, svg } = settings
  if (!(threshold > 0)) throw new UsageError(`--threshold needs a number above 0, got '${threshold}'`)
  const cases = chosenCases(settings)
  const devices = chosenDevices(settings)
  const levels = listed('isa', settings.isa, cpuInfo().isaLevels) ?? [cpuInfo().isa]
  // Read before minutes of measurement.
  const before = compare === undefined ? undefined : await readJson(compare)

  const report: KernelReport = {
    versions: versions(),
    date: new Date().toISOString(),
    loadAverage: loadavg()[0]!,
    machines: [],
    results: [],
  }
  for (const device of devices) {
    for (const isa of device === 'cpu' ? levels : [undefined]) {
      const { machine, rows } = await measure(cases, device, isa, settings, abort.signal)
      report.machines.push(machine)
      report.results.push(...rows)
    }
  }
  const command = ['cria', ...process.argv.slice(2)].join(' ')
  const text = `${JSON.stringify({ command, ...report }, null, 2)}\n`
  if (json !== undefined && json !== '-') await save('--json', json, text)
  if (csv !== undefined) await save('--csv', csv, kernelCsv(report))
  if (svg !== undefined) await save('--svg', svg, rooflineSvg(report))
  await output.write(json === '-' ? text : kernelTable(report))
  if (before === undefined) return
  const comparison = comparisonTable(compareReports(before, report), threshold)
  if (json === '-') process.stderr.write(comparison.text)
  else await output.write(comparison.text)
  if (comparison.regressions > 0) process.exitCode = 1
}

async function measure(
  cases: KernelCase[],
  device: KernelDevice,
  level: string | undefined,
  { threads, warmup, iterations }: Settings,
  signal: AbortSignal,
): Promise<{ machine: MachineInfo; rows: KernelRow[] }> {
  // Only the CPU has levels and threads.
  const where = { device, ...(device === 'cpu' ? { isa: level, threads } : {}) }
  const info = await describeDevice('bench kernels', where)
  const rows: KernelRow[] = []
  const ceilings = await ceilingsOf({ device: info.device, isa: info.isa, threads: info.threads }, signal)
  for (const [i, { name, spec }] of cases.entries()) {
    show(`${info.device} ${info.isa}: ${i + 1} of ${cases.length}, ${name}`)
    const result = await bench(spec, { ...where, warmup, iterations, signal })
    rows.push({ name, spec, device: info.device, isa: info.isa, threads: ceilings.threads, ...result })
  }
  show('')
  return { machine: describeMachine(info, ceilings), rows }
}

function chosenDevices({ device = 'cpu', isa, threads }: Settings): KernelDevice[] {
  const names = device.split(',').map((name) => name.trim())
  const { expected, parse } = kernelRules.device
  const wrong = names.find((name) => parse(name) === undefined)
  if (wrong !== undefined) throw new UsageError(`--device needs ${expected}, got '${wrong}'`)
  for (const [option, value] of Object.entries({ isa, threads })) {
    if (value !== undefined && !names.includes('cpu')) {
      throw new UsageError(`--${option} needs the device 'cpu', got '${device}'`)
    }
  }
  return names as KernelDevice[]
}

function chosenCases({ op, shape, type, filter }: Settings): KernelCase[] {
  const ops = listed('op', op, BENCH_OPS)
  const shapes = listed('shape', shape, SHAPE_NAMES, (name) => name.startsWith('test-')) ?? [DEFAULT_SHAPE]
  const types = listed('type', type, WEIGHT_TYPES) as WeightType[] | undefined
  const cases = shapes
    .flatMap((name) => kernelCases(name, types))
    .filter(({ name, spec }) => (ops?.includes(spec.op) ?? true) && name.includes(filter ?? ''))
  if (cases.length === 0) throw new UsageError(`--filter matches no kernel, got '${filter}'`)
  return cases
}

/** Splits a list of names, all of which must be known. `hidden` ones are accepted, but not in the message. */
function listed(
  option: string,
  value: string | undefined,
  known: readonly string[],
  hidden: (name: string) => boolean = () => false,
): string[] | undefined {
  const names = value?.split(',').map((name) => name.trim())
  const wrong = names?.find((name) => !known.includes(name) && !hidden(name))
  if (wrong !== undefined)
    throw new UsageError(`--${option} needs one of ${known.join(', ')}, got '${wrong}'`)
  return names
}

async function readJson(file: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(file, 'utf8'))
  } catch (error) {
    throw new CriaError('ERR_IO', `--compare: ${(error as Error).message}`, { cause: error })
  }
}

async function save(option: string, file: string, text: string): Promise<void> {
  try {
    await writeFile(file, text)
  } catch (error) {
    throw new CriaError('ERR_IO', `${option}: ${(error as Error).message}`, { cause: error })
  }
}

/** Shows the current phase in one line on stderr, only on a terminal. */
function show(phase: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r${dim(phase)}\x1b[K`)
}
