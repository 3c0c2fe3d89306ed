// CMake's launcher for nvcc: runs the command and saves ptxas's messages on registers and spills next to the
// object (<object>.ptxas), for ptxas_report.mjs. All other output is passed on.
//
//   node cmake/ptxas_log.mjs nvcc ... -o <object> ...
import { spawnSync } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'

const [command, ...args] = process.argv.slice(2)
const log = `${args[args.indexOf('-o') + 1]}.ptxas`
rmSync(log, { force: true })
const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 28 })
if (error) throw error
const lines = (stdout + stderr).split('\n')
// "ptxas info : ...", and the indented line after it, which gives the size of a function's stack frame.
const isReport = (line) => /^ptxas info\s*:/.test(line) || /^\s+\d+ bytes stack frame/.test(line)
for (const line of lines) if (line !== '' && !isReport(line)) process.stderr.write(`${line}\n`)
if (status === 0 && lines.some(isReport)) writeFileSync(log, lines.filter(isReport).join('\n'))
process.exitCode = status ?? 1
