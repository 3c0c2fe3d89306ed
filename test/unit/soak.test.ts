/** A short run of the soak, in another process, whose memory is measured. Needs dist/. */

import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { scratchFolder } from './real_models'

const root = join(__dirname, '..', '..')
const { folder } = scratchFolder()

test('64 streams for 15 seconds: all end, nothing leaks, the same request gives the same tokens', () => {
  const json = join(folder, 'soak.json')
  const { status, signal, stderr } = spawnSync(
    process.execPath,
    [join(root, 'bench', 'soak.mjs'), '--minutes', '0.25', '--seed', '1', '--json', json],
    { encoding: 'utf8', timeout: 240_000 },
  )
  expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' })
  const report = JSON.parse(readFileSync(json, 'utf8'))
  expect(report.violations).toEqual({})
  expect(report.stats).toMatchObject({ running: 0, waiting: 0, paused: 0, pages: { used: 0 } })
  expect(report.repeated).toBeGreaterThan(0)
  expect(report.stopSteps.count).toBeGreaterThan(0)
  expect(report.events.queued).toBe(report.requests)
}, 300_000)
