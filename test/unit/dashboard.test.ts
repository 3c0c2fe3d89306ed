/** The dashboard of examples/, started like a user starts it and read like its page reads it. */

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { soon } from './real_models'

const LIMIT_MS = 40_000
const server = join(__dirname, '..', '..', 'examples', 'dashboard', 'server.mjs')

let child: ChildProcess
let url: string
let stderr = ''

beforeAll(async () => {
  child = spawn(process.execPath, [server, '--port', '0', '--kv-memory', '2MiB'])
  child.stderr?.on('data', (data) => {
    stderr += data
  })
  const [first] = await soon(once(child.stdout!, 'data'), LIMIT_MS)
  url = /^http:\S+/.exec(String(first))![0]
}, LIMIT_MS)

afterAll(() => {
  child.kill('SIGKILL')
})

interface Message {
  event: string
  // biome-ignore lint/suspicious/noExplicitAny: the JSON that the page reads
  data: any
}

/** The messages of the feed. Leaving the loop disconnects. */
async function* messages(): AsyncGenerator<Message> {
  const [response] = (await once(request(`${url}events`).end(), 'response')) as [IncomingMessage]
  expect(response.headers['content-type']).toMatch(/^text\/event-stream/)
  let text = ''
  try {
    for await (const part of response.setEncoding('utf8')) {
      text += part
      const frames = text.split('\n\n')
      text = frames.pop()!
      for (const frame of frames) {
        const field = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(frame)![1]!
        yield { event: field('event'), data: JSON.parse(field('data')) }
      }
    }
  } finally {
    response.destroy()
  }
}

async function post(path: string, body: unknown, headers: Record<string, string> = {}) {
  const response = await fetch(url + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  })
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

test('serves its page and its parts, and nothing else', async () => {
  const page = await (await fetch(url)).text()
  const parts = [...page.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, path]) => path!)
  expect(parts).toContain('main.mjs')
  const main = await (await fetch(`${url}main.mjs`)).text()
  parts.push(...[...main.matchAll(/from '\.\/([^']+)'/g)].map(([, path]) => path!))
  for (const part of parts) {
    const response = await fetch(url + part)
    expect([part, response.status]).toEqual([part, 200])
    expect(response.headers.get('content-type')).toMatch(/^(text\/(css|javascript)|image\/svg\+xml); /)
    expect((await response.text()).length).toBeGreaterThan(50)
  }
  for (const path of ['server.mjs', '../server.mjs', '%2e%2e/server.mjs', 'constructor'])
    expect((await fetch(url + path)).status).toBe(404)
})

test.each([
  ['other hosts', { host: 'example.org' }, 403],
  ['other origins', { origin: 'http://example.org' }, 403],
  ['other types', { 'content-type': 'text/plain' }, 415],
])('refuses %s', async (_, headers, status) => {
  // Not with fetch, which sets some of these headers itself.
  const call = request(`${url}load`, { method: 'POST', headers }).end('{"streams":1}')
  const [response] = (await once(call, 'response')) as [IncomingMessage]
  expect(response.statusCode).toBe(status)
  response.resume()
})

test.each([
  ['nothing', {}],
  ['no object', null],
  ['too few streams', { streams: 0 }],
  ['too many streams', { streams: 65 }],
  ['a wrong number', { streams: '8' }],
  ['a wrong flag', { streams: 1, shared: 1 }],
  ['a long body', 'x'.repeat(2000)],
])('refuses a load of %s', async (_, body) => {
  const { status, body: answer } = await post('load', body)
  expect(status).toBeGreaterThanOrEqual(400)
  expect(status).toBeLessThan(500)
  expect(answer.error).toMatch(/must (be|have)/)
})

test(
  'shows requests from the queue to their end, and what the engine does',
  async () => {
    const types = new Map<number, string[]>()
    let ended = 0
    let samples = 0
    for await (const { event, data } of messages()) {
      if (event === 'snapshot') {
        expect(data.model).toMatchObject({ name: 'cria demo', kvPages: expect.any(Number) })
        expect(data.model.path).toBeUndefined()
        expect(data.requests).toEqual([])
        expect(await post('load', { streams: 8, shared: true })).toEqual({
          status: 202,
          body: { started: 8 },
        })
        continue
      }
      if (data.sample) samples++
      for (const change of data.events) {
        types.set(change.id, [...(types.get(change.id) ?? []), change.type])
        if (change.type !== 'finished') continue
        ended++
        expect(change.usage.generatedTokens).toBe(change.tokens)
        expect(change.usage.promptTokens).toBeGreaterThan(10)
      }
      // Do not wait for running requests: all eight may end between two updates.
      if (ended === 8 && data.stats.running === 0 && samples > 0) {
        expect(data.stats.totals).toMatchObject({ finished: 8, failed: 0, cancelled: 0 })
        expect(data.stats.pages).toMatchObject({ used: 0, shared: 0 })
        expect(data.stats.pages.cached).toBeGreaterThan(0)
        break
      }
    }
    expect([...types.keys()]).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
    for (const list of types.values()) {
      expect(list[0]).toBe('queued')
      expect(list).toContain('firstToken')
      expect(list.at(-1)).toBe('finished')
    }
    // A page that opens later gets the history.
    for await (const { event, data } of messages()) {
      expect(event).toBe('snapshot')
      expect(
        data.requests.map(({ id, reason }: { id: number; reason: string }) => [id, typeof reason]),
      ).toEqual(Array.from({ length: 8 }, (_, i) => [i + 1, 'string']))
      break
    }
  },
  LIMIT_MS,
)

test('sends nothing to a page that falls behind, and then a snapshot', async () => {
  const script = `
    import { EventEmitter } from 'node:events'
    import { Feed } from ${JSON.stringify(pathToFileURL(join(server, '../feed.mjs')).href)}
    const model = Object.assign(new EventEmitter(), { info: {}, stats: () => ({ tokensPerSecond: {} }) })
    const feed = new Feed(model)
    const page = (isFull) => {
      const response = new EventEmitter()
      const got = []
      feed.open(Object.assign(response, {
        writeHead() {},
        write: (text) => { got.push(...text.matchAll(/^event: (.*)$/gm)); return !isFull() },
        end() { got.push([0, 'end']) },
      }))
      return { response, got: () => got.map(([, event]) => event) }
    }
    let full = true
    const slow = page(() => full)
    const quick = page(() => false)
    const send = async (id) => {
      model.emit('request', { type: 'queued', id, at: performance.now(), call: 'x' })
      await new Promise((resolve) => setTimeout(resolve, 250))
    }
    await send(1)
    const before = [slow.got(), quick.got().length > 1]
    full = false
    slow.response.emit('drain')
    const drained = slow.got()
    await send(2)
    slow.response.emit('close')
    feed.close()
    console.log(JSON.stringify({ before, drained, after: slow.got().slice(0, 3), quick: quick.got().at(-1), left: slow.got().at(-1) }))
  `
  const run = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let out = ''
  run.stdout.on('data', (data) => {
    out += data
  })
  expect(await soon(once(run, 'close'), LIMIT_MS)).toEqual([0, null])
  expect(JSON.parse(out)).toEqual({
    before: [['snapshot'], true],
    drained: ['snapshot', 'snapshot'],
    after: ['snapshot', 'snapshot', 'update'],
    quick: 'end',
    left: 'update',
  })
}, 60_000)

test(
  'stops what it has started',
  async () => {
    expect((await post('load', { streams: 8, shared: false, slow: true, repeat: true })).status).toBe(202)
    expect(await post('stop', {})).toEqual({ status: 200, body: { streams: 0 } })
    for await (const { data } of messages()) {
      if (data.stats.running + data.stats.waiting + data.stats.paused === 0) break
    }
  },
  LIMIT_MS,
)

test(
  'ends at once, with code 0, while requests run and pages are open',
  async () => {
    // One page reads, one never reads, and one disconnects.
    const reader = messages()
    await reader.next()
    const socket = (path: string) => {
      const opened = connect(Number(new URL(url).port), '127.0.0.1')
      opened.on('error', () => {})
      opened.write(`GET /${path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n`)
      return opened
    }
    const idle = socket('events')
    idle.pause()
    socket('events').destroy()
    await post('load', { streams: 32, shared: true, slow: true, repeat: true })
    // One stream in four reads slowly and runs for seconds, long enough for an update.
    for await (const { data } of messages()) if (data.stats.running > 0 && data.stats.pages.used > 0) break
    const exit = once(child, 'exit')
    child.kill('SIGINT')
    while (!(await reader.next()).done);
    expect(await soon(exit, LIMIT_MS)).toEqual([0, null])
    expect(stderr).toBe('')
    idle.destroy()
  },
  LIMIT_MS,
)
