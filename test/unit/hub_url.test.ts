/** Plain URLs, proxies, locks between processes, and the command on top of it all. */

import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { acquireLock } from '../../lib/hub/lock'
import { urlFileName, urlFolder } from '../../lib/hub/url'
import { inspect, listModels, loadModel, loadTokenizer, removeModel } from '../../lib/index'
import { type Hook, refuse, sha256 } from '../fixtures/fake_hub'
import { failure, hubForTests, untilSize } from './hub'
import { demo } from './real_models'

const context = hubForTests()
const { download } = context
const bytes = randomBytes(300_000)
const root = join(__dirname, '..', '..')

describe('a plain URL', () => {
  /** Serves `content` at every path of the storage server. */
  let content = bytes
  let etag: string | undefined = '"one"'
  const serve: Hook = (seen, response) => {
    if (seen.server !== 'storage') return false
    if (etag) response.setHeader('ETag', etag)
    context.hub.send(content, seen, response, seen.range ? seen.ifRange : undefined)
    return true
  }
  const url = (name = 'm.gguf') => `${context.hub.storage}/files/${name}`
  beforeEach(() => {
    content = bytes
    etag = '"one"'
    context.hub.hook = serve
  })

  test('is downloaded once, and again when its ETag changes', async () => {
    const path = await download(url())
    expect(readFileSync(path).equals(bytes)).toBe(true)
    expect(path.startsWith(join(context.cacheDir, 'urls', 'localhost-'))).toBe(true)
    content = randomBytes(1000)
    expect(await download(url())).toBe(path)
    expect(readFileSync(path).equals(bytes)).toBe(true)
    etag = '"two"'
    expect(readFileSync(await download(url())).equals(content)).toBe(true)
    expect(readdirSync(join(path, '..')).sort()).toEqual(['m.gguf', 'm.gguf.json'])
    expect(context.hub.seen.every(({ authorization }) => authorization === undefined)).toBe(true)
  })

  const urlPath = (address: string) =>
    join(urlFolder(join(context.cacheDir, 'urls'), new URL(address)), urlFileName(new URL(address)))

  /** Stops the next download after `count` bytes. */
  async function interrupt(count: number): Promise<void> {
    context.hub.hook = (seen, response) => {
      response.writeHead(200, { ...(etag ? { ETag: etag } : {}), 'Content-Length': content.length })
      response.write(content.subarray(0, count))
      return seen.server === 'storage'
    }
    const stop = new AbortController()
    const running = failure(download(url(), { signal: stop.signal }))
    await untilSize(`${urlPath(url())}.incomplete`, count)
    stop.abort()
    expect((await running).code).toBe('ERR_ABORTED')
    context.hub.hook = serve
  }

  test('continues if the ETag is the same', async () => {
    await interrupt(100_000)
    expect(await listModels({ cacheDir: context.cacheDir })).toMatchObject([
      { name: url(), complete: false, bytes: 100_000 },
    ])
    expect(readFileSync(await download(url())).equals(bytes)).toBe(true)
    expect(context.hub.seen.at(-1)).toMatchObject({ range: 'bytes=100000-', ifRange: '"one"' })
    expect(context.hub.served).toBe(200_000)
  })

  test('starts anew if the content has changed', async () => {
    await interrupt(100_000)
    content = randomBytes(200_000)
    etag = '"two"'
    expect(readFileSync(await download(url())).equals(content)).toBe(true)
  })

  test.each([[undefined], ['W/"weak"']])('starts anew if its ETag is %p', async (given) => {
    etag = given
    await interrupt(100_000)
    content = randomBytes(300_000)
    expect(readFileSync(await download(url())).equals(content)).toBe(true)
    expect(context.hub.downloads.every(({ range }) => range === undefined)).toBe(true)
  })

  test('a hash in its fragment is checked', async () => {
    const path = await download(`${url()}#sha256=${sha256(bytes)}`)
    expect(readFileSync(path).equals(bytes)).toBe(true)
    const asked = context.hub.seen.length
    await download(`${url()}#sha256=${sha256(bytes)}`)
    expect(context.hub.seen).toHaveLength(asked)
    const wrong = await failure(download(`${url('n.gguf')}#sha256=${'0'.repeat(64)}`))
    expect(wrong).toMatchObject({
      code: 'ERR_DOWNLOAD',
      details: { expected: '0'.repeat(64), found: sha256(bytes) },
    })
    expect(existsSync(join(path, '..', 'n.gguf'))).toBe(false)
  })

  test('all parts of a split file', async () => {
    const path = await download(url('m-00001-of-00003.gguf'))
    expect(readdirSync(join(path, '..')).filter((name) => name.endsWith('.gguf'))).toHaveLength(3)
    expect(await listModels({ cacheDir: context.cacheDir })).toMatchObject([
      { complete: true, bytes: 900_000 },
    ])
    expect(await removeModel(url('m-00001-of-00003.gguf'), { cacheDir: context.cacheDir })).toMatchObject({
      files: [1, 2, 3].map((i) => `m-0000${i}-of-00003.gguf`),
    })
    expect(await listModels({ cacheDir: context.cacheDir })).toEqual([])
  })

  test('refusals, offline, and a server that is gone', async () => {
    expect(await failure(download(url(), { offline: true }))).toMatchObject({ code: 'ERR_OFFLINE' })
    const path = await download(url())
    expect(await download(url(), { offline: true })).toBe(path)
    for (const [status, code] of [
      [401, 'ERR_UNAUTHORIZED'],
      [404, 'ERR_FILE_NOT_FOUND'],
      [451, 'ERR_DOWNLOAD'],
    ] as const) {
      context.hub.hook = (_seen, response) => {
        refuse(response, status)
        return true
      }
      expect(await failure(download(url('other.gguf')))).toMatchObject({ code, details: { status } })
    }
    context.hub.hook = (_seen, response) => {
      refuse(response, 500)
      return true
    }
    expect(await download(url())).toBe(path)
  })
})

test('HTTP_PROXY and NO_PROXY', async () => {
  const { hub } = context
  hub.add('m.gguf', bytes)
  const tunnels: string[] = []
  const proxy = createServer()
  proxy.on('connect', (request, socket, head) => {
    tunnels.push(request.url!)
    const [host, port] = request.url!.split(':')
    const upstream = connect(Number(port), host, () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n')
      upstream.write(head)
      upstream.pipe(socket).pipe(upstream)
    })
    for (const one of [upstream, socket]) one.on('error', () => {})
  })
  proxy.listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  try {
    process.env.HTTP_PROXY = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`
    const path = await download('hf:owner/model/m.gguf')
    expect(readFileSync(path).equals(bytes)).toBe(true)
    expect(new Set(tunnels)).toEqual(new Set([hub.endpoint, hub.storage].map((one) => new URL(one).host)))
    tunnels.length = 0
    process.env.NO_PROXY = '127.0.0.1,localhost'
    hub.commit = 'b'.repeat(40)
    await download('hf:owner/model/m.gguf')
    expect(tunnels).toEqual([])
    process.env.HTTP_PROXY = 'nonsense'
    expect(await failure(download('hf:owner/model/m.gguf'))).toMatchObject({ code: 'ERR_DOWNLOAD' })
  } finally {
    proxy.close()
    proxy.closeAllConnections()
  }
})

describe('locks', () => {
  const { signal } = new AbortController()
  const path = () => join(context.cacheDir, 'lock')
  const wait = async () => {}

  test('one holder at a time, in order of release', async () => {
    const first = await acquireLock(path(), signal, wait)
    let waits = 0
    const second = acquireLock(path(), signal, async () => {
      waits++
    })
    await sleep(250)
    expect(waits).toBeGreaterThan(0)
    await first.release()
    await (await second).release()
    expect(existsSync(path())).toBe(false)
  })

  test('fifteen takers, never two holders', async () => {
    let holders = 0
    let most = 0
    const place = JSON.parse(await lockText()).place
    // Left behind by a process that has died: all find it stale at once.
    writeFileSync(path(), JSON.stringify({ pid: 2 ** 22 + 1, place, token: 'dead' }))
    await Promise.all(
      Array.from({ length: 15 }, async () => {
        const lock = await acquireLock(path(), new AbortController().signal, wait)
        most = Math.max(most, ++holders)
        await sleep(1)
        holders--
        await lock.release()
      }),
    )
    expect(most).toBe(1)
  })

  async function lockText(): Promise<string> {
    const lock = await acquireLock(path(), signal, wait)
    const text = readFileSync(path(), 'utf8')
    await lock.release()
    return text
  }

  test('a lock of another machine counts until nobody touches it', async () => {
    writeFileSync(path(), JSON.stringify({ pid: 1, place: 'elsewhere', token: 'theirs' }))
    const stop = new AbortController()
    const waiting = acquireLock(path(), stop.signal, wait)
    await sleep(200)
    expect(JSON.parse(readFileSync(path(), 'utf8')).token).toBe('theirs')
    const { now } = performance
    jest.spyOn(performance, 'now').mockImplementation(() => now.call(performance) + 40_000)
    await (await waiting).release()
    jest.restoreAllMocks()
  })

  test('a guard that a crash has left behind does not lock for ever', async () => {
    const place = JSON.parse(await lockText()).place
    writeFileSync(path(), JSON.stringify({ pid: 2 ** 22 + 1, place, token: 'dead' }))
    writeFileSync(`${path()}.break`, '')
    utimesSync(`${path()}.break`, 0, 0)
    await (await acquireLock(path(), signal, wait)).release()
  })

  test('waiting can be aborted', async () => {
    const lock = await acquireLock(path(), signal, wait)
    await expect(acquireLock(path(), AbortSignal.timeout(50), wait)).rejects.toThrow()
    await lock.release()
  })
})

describe('processes', () => {
  const script = `
    const { downloadModel } = require(process.argv[1])
    downloadModel('hf:owner/model/m.gguf').then((path) => console.log(path))`
  const running: ChildProcess[] = []
  afterEach(() => {
    for (const child of running.splice(0)) child.kill('SIGKILL')
  })

  function start(): { child: ChildProcess; path: Promise<string> } {
    const env = { ...process.env, HF_ENDPOINT: context.hub.endpoint, HF_HUB_CACHE: context.cacheDir }
    const child = spawn(process.execPath, ['-e', script, join(root, 'dist', 'index.js')], { env })
    running.push(child)
    let text = ''
    child.stdout!.on('data', (data) => {
      text += data
    })
    child.stderr!.on('data', (data) => {
      text += data
    })
    return { child, path: once(child, 'close').then(() => text.trim()) }
  }

  test('three at once download once', async () => {
    const { hub } = context
    hub.add('m.gguf', bytes)
    hub.hook = (seen, response, file) => {
      if (seen.server !== 'storage' || !file) return false
      setTimeout(() => hub.send(file.bytes, seen, response), 500)
      return true
    }
    const paths = await Promise.all([start(), start(), start()].map(({ path }) => path))
    expect(new Set(paths).size).toBe(1)
    expect(readFileSync(paths[0]!).equals(bytes)).toBe(true)
    expect(hub.served).toBe(bytes.length)
    expect(readdirSync(join(context.cacheDir, '.locks', 'models--owner--model'))).toEqual([])
  })

  test('one that is killed leaves its part to the next', async () => {
    const { hub } = context
    hub.add('m.gguf', bytes)
    hub.hook = (seen, response) => {
      if (seen.server !== 'storage') return false
      response.writeHead(200, { 'Content-Length': bytes.length })
      response.write(bytes.subarray(0, 120_000))
      hub.served += 120_000
      return true
    }
    const { child, path } = start()
    const partial = join(context.cacheDir, 'models--owner--model', 'blobs', `${sha256(bytes)}.incomplete`)
    await untilSize(partial, 120_000)
    child.kill('SIGKILL')
    await path
    expect(readdirSync(join(context.cacheDir, '.locks', 'models--owner--model'))).toHaveLength(1)
    hub.hook = () => false
    const begin = performance.now()
    expect(readFileSync(await download('hf:owner/model/m.gguf')).equals(bytes)).toBe(true)
    expect(performance.now() - begin).toBeLessThan(10_000)
    expect(hub.served).toBe(bytes.length)
  })
})

describe('a model of the hub', () => {
  const short = { maxTokens: 5, temperature: 0 }
  beforeEach(() => {
    context.hub.add('demo-Q8_0.gguf', readFileSync(demo))
    Object.assign(process.env, { HF_ENDPOINT: context.hub.endpoint, HF_HUB_CACHE: context.cacheDir })
  })

  test('loads by name, and says what it downloads', async () => {
    const seen: (string | undefined)[] = []
    const options = { cacheDir: context.cacheDir, endpoint: context.hub.endpoint }
    const model = await loadModel('hf:owner/model:Q8_0', {
      download: options,
      onProgress: ({ download }) => seen.push(download),
    })
    const local = await loadModel(demo)
    expect(await model.generate('Once', short)).toMatchObject({
      text: (await local.generate('Once', short)).text,
    })
    await Promise.all([model.dispose(), local.dispose()])
    expect(seen[0]).toBe('demo-Q8_0.gguf')
    expect(seen.at(-1)).toBeUndefined()
    expect(await inspect('hf:owner/model')).toMatchObject({ format: 'gguf' })
    expect((await loadTokenizer(new URL('hf:owner/model'))).kind).toBe(local.tokenizer.kind)
  })

  test('the command: pull, ls, generate, rm', async () => {
    const cria = async (...args: string[]) => {
      const child = spawn(process.execPath, [join(root, 'dist', 'cli', 'main.js'), ...args], {
        env: process.env,
      })
      const output = { stdout: '', stderr: '' }
      child.stdout.on('data', (data) => {
        output.stdout += data
      })
      child.stderr.on('data', (data) => {
        output.stderr += data
      })
      const [status] = await once(child, 'close')
      return { status, ...output }
    }
    const path = await download('hf:owner/model')
    await removeModel('hf:owner/model', { cacheDir: context.cacheDir })
    expect(await cria('pull', 'hf:owner/model')).toEqual({ status: 0, stdout: `${path}\n`, stderr: '' })
    const list = await cria('ls')
    expect(list).toMatchObject({ status: 0, stderr: '' })
    expect(list.stdout).toMatch(/^hf:owner\/model\/demo-Q8_0\.gguf {2,}\d+\.\d MB {2}\d{4}-\d\d-\d\d\n$/)
    expect(JSON.parse((await cria('ls', '--json')).stdout)).toMatchObject([{ path, complete: true }])
    const options = ['-n', '5', '-t', '0']
    const story = await cria('generate', '-m', 'hf:owner/model', 'Once', ...options)
    expect(story).toEqual({ status: 0, stdout: expect.stringMatching(/\w/), stderr: '' })
    expect(await cria('rm', 'hf:owner/model/demo-Q8_0.gguf')).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/^hf:owner\/model\/demo-Q8_0\.gguf: 1 file, \d+\.\d MB\n$/),
    })
    expect(await listModels()).toEqual([])
    expect(await cria('pull')).toMatchObject({
      status: 2,
      stderr: 'cria: pull needs a model, such as hf:owner/repo:Q4_K_M\n',
    })
    expect(await cria('rm', 'hf:owner/model')).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^cria: ERR_FILE_NOT_FOUND: /),
    })
    expect(await cria('pull', 'nonsense')).toMatchObject({
      status: 2,
      stderr: "cria: pull takes names such as hf:owner/repo:Q4_K_M, got 'nonsense'\n",
    })
    const inspected = await cria('inspect', 'hf:owner/model')
    expect(inspected).toMatchObject({ status: 0, stdout: expect.stringContaining('general.architecture') })
  })

  test('a folder is handed to the loader', async () => {
    mkdirSync(join(context.cacheDir, 'x'))
    context.hub.files.clear()
    context.hub.add('config.json', '{}')
    context.hub.add('model.safetensors', 'x')
    const error = await failure(loadModel('hf:owner/model'))
    expect(error.code).not.toBe('ERR_DOWNLOAD')
    expect(error.message).toContain(join('snapshots', 'a'.repeat(40)))
  })
})
