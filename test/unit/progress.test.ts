import { ProgressBar } from '../../lib/cli/terminal'

function terminal(isTTY: boolean) {
  const written: string[] = []
  const stream = { isTTY, write: (text: string) => written.push(text) > 0 } as unknown as NodeJS.WriteStream
  return { written, stream }
}

const half = { loadedBytes: 50e6, totalBytes: 100e6, fraction: 0.5 }
let now = 1000
beforeEach(() => {
  jest.spyOn(performance, 'now').mockImplementation(() => now)
})
afterEach(() => jest.restoreAllMocks())

test('a quick load shows no bar', () => {
  const { written, stream } = terminal(true)
  const bar = new ProgressBar('loading', stream)
  now += 200
  bar.update(half)
  bar.clear()
  expect(written).toEqual([])
})

test('a slow load shows a bar, and clears it', () => {
  const { written, stream } = terminal(true)
  const bar = new ProgressBar('loading', stream)
  now += 400
  bar.update(half)
  expect(written).toEqual([`\rloading ${'█'.repeat(15)}${'░'.repeat(15)} 50/100 MB\x1b[K`])
  bar.clear()
  expect(written.at(-1)).toBe('\r\x1b[K')
})

test('without a terminal, nothing is written', () => {
  const { written, stream } = terminal(false)
  const bar = new ProgressBar('loading', stream)
  now += 5000
  bar.update(half)
  bar.clear()
  expect(written).toEqual([])
})
