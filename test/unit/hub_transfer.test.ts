/** Downloads over connections and from servers that misbehave. */

import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import fs, { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { type Hook, sha256 } from '../fixtures/fake_hub'
import { failure, hubForTests, untilSize } from './hub'

const context = hubForTests()
const { download } = context
const name = 'hf:owner/model/m.gguf'
const blobs = () => join(context.cacheDir, 'models--owner--model', 'blobs')
const partials = () =>
  existsSync(blobs()) ? readdirSync(blobs()).filter((file) => file.endsWith('.incomplete')) : []

/** Applies a hook to the first `count` GETs of the storage server. */
function firstGets(count: number, hook: Hook): () => number {
  let calls = 0
  context.hub.hook = (seen, response, file) => {
    if (seen.server !== 'storage' || calls >= count) return false
    calls++
    return hook(seen, response, file)
  }
  return () => calls
}

test('64 MB survive 20 cuts, and no byte is fetched twice', async () => {
  const { hub } = context
  const bytes = hub.add('m.gguf', randomBytes(64_000_000))
  const cuts = firstGets(20, (seen, response) => {
    hub.cut(bytes, seen, response, 3_000_000 + Math.floor(Math.random() * 100_000))
    return true
  })
  const fractions: number[] = []
  const path = await download(name, { onProgress: ({ fraction }) => fractions.push(fraction) })
  expect(readFileSync(path).equals(bytes)).toBe(true)
  expect(cuts()).toBe(20)
  expect(hub.served).toBe(bytes.length)
  expect(hub.downloads.filter(({ server }) => server === 'storage')).toHaveLength(21)
  expect(fractions).toEqual([...fractions].sort((a, b) => a - b))
  expect(fractions.at(-1)).toBe(1)
})

test('a connection that is reset loses no byte that arrived', async () => {
  const { hub } = context
  const bytes = hub.add('m.gguf', randomBytes(3_000_000))
  firstGets(3, (_seen, response) => {
    response.writeHead(200, { 'Content-Length': bytes.length })
    response.write(bytes.subarray(0, 500_000), () => response.socket?.resetAndDestroy())
    return true
  })
  expect(readFileSync(await download(name)).equals(bytes)).toBe(true)
})

test('a flipped bit is found, and the file is fetched again', async () => {
  const { hub } = context
  const bytes = hub.add('m.gguf', randomBytes(300_000))
  const wrong = Buffer.from(bytes)
  wrong[123_456]! ^= 4
  firstGets(1, (seen, response) => {
    hub.send(wrong, seen, response)
    return true
  })
  expect(readFileSync(await download(name)).equals(bytes)).toBe(true)
  expect(hub.served).toBe(2 * bytes.length)
})

test.each(['m.gguf', 'config.json'])('a bit of %s that is always flipped is never accepted', async (file) => {
  const { hub } = context
  const bytes = hub.add(file, randomBytes(5000))
  const wrong = Buffer.from(bytes)
  wrong[4999]! ^= 128
  hub.hook = (seen, response, found) => {
    if (seen.method !== 'GET' || (found?.lfs && seen.server === 'hub')) return false
    hub.send(wrong, seen, response)
    return true
  }
  const error = await failure(download(`hf:owner/model/${file}`))
  expect(error).toMatchObject({
    code: 'ERR_DOWNLOAD',
    message: expect.stringMatching(/other bytes than announced/),
  })
  expect(readdirSync(blobs()).filter((one) => !one.endsWith('.incomplete'))).toEqual([])
  expect(existsSync(join(context.cacheDir, 'models--owner--model', 'refs'))).toBe(false)
  hub.hook = () => false
  expect(readFileSync(await download(`hf:owner/model/${file}`)).equals(bytes)).toBe(true)
})

test('a partial file of other content is found out and replaced', async () => {
  const { hub } = context
  const bytes = hub.add('m.gguf', randomBytes(300_000))
  await mkdir(blobs(), { recursive: true })
  writeFileSync(join(blobs(), `${sha256(bytes)}.incomplete`), randomBytes(100_000))
  expect(readFileSync(await download(name)).equals(bytes)).toBe(true)
  expect(partials()).toEqual([])
})

test('a partial file that is too long is replaced', async () => {
  const { hub } = context
  const bytes = hub.add('m.gguf', randomBytes(1000))
  await mkdir(blobs(), { recursive: true })
  writeFileSync(join(blobs(), `${sha256(bytes)}.incomplete`), randomBytes(2000))
  expect(readFileSync(await download(name)).equals(bytes)).toBe(true)
  expect(hub.served).toBe(1000)
})

const bytes = randomBytes(200_000)

const lies: Record<string, Hook> = {
  'a length that is too large': (_seen, response) => {
    response
      .writeHead(200, { 'Content-Length': bytes.length + 1 })
      .end(Buffer.concat([bytes, Buffer.from('x')]))
    return true
  },
  'a length that is too small': (_seen, response) => {
    response.writeHead(200, { 'Content-Length': 100 }).end(bytes.subarray(0, 100))
    return true
  },
  'no length, and too many bytes': (_seen, response) => {
    response.writeHead(200)
    response.write(bytes)
    response.end(Buffer.alloc(100_000))
    return true
  },
  'no length, and too few bytes': (seen, response) => {
    if (seen.range) return false
    response.writeHead(200)
    response.end(bytes.subarray(0, 100))
    return true
  },
  'a range that was not asked for': (_seen, response) => {
    response
      .writeHead(206, { 'Content-Range': `bytes 5-${bytes.length - 1}/${bytes.length}` })
      .end(bytes.subarray(5))
    return true
  },
  'a range of another file': (_seen, response) => {
    response.writeHead(206, { 'Content-Range': `bytes 0-${bytes.length - 1}/999999` }).end(bytes)
    return true
  },
  'no Content-Range': (_seen, response) => {
    response.writeHead(206).end(bytes)
    return true
  },
  'status 416': (_seen, response) => {
    response.writeHead(416).end()
    return true
  },
  'status 500': (_seen, response) => {
    response.writeHead(500).end()
    return true
  },
  'status 503 and Retry-After': (_seen, response) => {
    response.writeHead(503, { 'Retry-After': '0' }).end()
    return true
  },
  'status 429 and a date': (_seen, response) => {
    response.writeHead(429, { 'Retry-After': new Date().toUTCString() }).end()
    return true
  },
  'status 403 of a link that has expired': (_seen, response) => {
    response.writeHead(403).end()
    return true
  },
  nothing: (_seen, response) => {
    response.socket?.destroy()
    return true
  },
}

test.each(Object.entries(lies))('%s: repeated, and right at last', async (_what, hook) => {
  context.hub.add('m.gguf', bytes)
  const calls = firstGets(3, hook)
  expect(readFileSync(await download(name)).equals(bytes)).toBe(true)
  expect(calls()).toBeGreaterThan(0)
})

test.each(Object.entries(lies))('%s for ever: given up with a typed error', async (what, hook) => {
  context.hub.add('m.gguf', bytes)
  firstGets(Number.POSITIVE_INFINITY, hook)
  if (what === 'no length, and too few bytes') return // It continues by ranges, which are honest here.
  const error = await failure(download(name))
  expect(error.code).toBe('ERR_DOWNLOAD')
  expect(error.message).not.toContain('secret')
  expect(readdirSync(blobs()).filter((one) => !one.endsWith('.incomplete'))).toEqual([])
})

test('a server that asks for hours of patience is given up at once', async () => {
  context.hub.add('m.gguf', bytes)
  const calls = firstGets(9, (_seen, response) => {
    response.writeHead(429, { 'Retry-After': '7200' }).end()
    return true
  })
  const error = await failure(download(name))
  expect(error).toMatchObject({ code: 'ERR_DOWNLOAD', details: { status: 429, retryAfterSeconds: 7200 } })
  expect(calls()).toBe(1)
})

test.each([
  ['an HTML page', { 'Content-Type': 'text/html; charset=utf-8' }, /HTML page/],
  ['a compressed body', { 'Content-Encoding': 'gzip' }, /compressed by gzip/],
])('%s instead of the file is refused; what was there stays', async (_what, headers, message) => {
  const { hub } = context
  hub.add('m.gguf', bytes)
  await mkdir(blobs(), { recursive: true })
  const partial = join(blobs(), `${sha256(bytes)}.incomplete`)
  writeFileSync(partial, bytes.subarray(0, 50_000))
  firstGets(9, (_seen, response) => {
    response.writeHead(200, headers).end('<html>')
    return true
  })
  expect(await failure(download(name))).toMatchObject({
    code: 'ERR_DOWNLOAD',
    message: expect.stringMatching(message),
  })
  expect(readFileSync(partial).length).toBe(50_000)
  hub.hook = () => false
  await download(name)
  expect(hub.served).toBe(bytes.length - 50_000)
})

test('a connection that stalls is replaced', async () => {
  const { hub } = context
  process.env.HF_HUB_DOWNLOAD_TIMEOUT = '1'
  hub.add('m.gguf', bytes)
  firstGets(1, (_seen, response) => {
    response.writeHead(200, { 'Content-Length': bytes.length })
    response.write(bytes.subarray(0, 1000))
    return true
  })
  expect(readFileSync(await download(name)).equals(bytes)).toBe(true)
  expect(hub.downloads.at(-1)?.range).toBe('bytes=1000-')
}, 15_000)

test('redirects that do not end, or leave HTTP, are refused', async () => {
  const { hub } = context
  hub.add('m.gguf', bytes)
  for (const [location, message] of [
    [`${hub.storage}/round`, /redirects more than 10 times/],
    ['file:///etc/passwd', /redirects to file:/],
    ['http://[', /redirects to no address/],
  ] as const) {
    hub.hook = ({ server }, response) => {
      if (server === 'storage') response.writeHead(302, { Location: location }).end()
      return server === 'storage'
    }
    expect(await failure(download(name))).toMatchObject({
      code: 'ERR_DOWNLOAD',
      message: expect.stringMatching(message),
    })
  }
})

test('an abort keeps what has arrived, and the next call continues', async () => {
  const { hub } = context
  hub.add('m.gguf', bytes)
  firstGets(1, (_seen, response) => {
    response.writeHead(200, { 'Content-Length': bytes.length })
    response.write(bytes.subarray(0, 70_000))
    return true
  })
  const stop = new AbortController()
  const running = failure(download(name, { signal: stop.signal }))
  await untilSize(join(blobs(), `${sha256(bytes)}.incomplete`), 70_000)
  stop.abort(new Error('enough'))
  expect(await running).toMatchObject({
    code: 'ERR_ABORTED',
    name: 'AbortError',
    cause: { message: 'enough' },
  })
  expect(partials()).toHaveLength(1)
  await download(name)
  expect(hub.downloads.at(-1)?.range).toBe('bytes=70000-')
  await expect(download(name, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ERR_ABORTED' })
})

test('an exception of onProgress stops the download and reaches the caller', async () => {
  context.hub.add('m.gguf', bytes)
  const thrown = new Error('from the callback')
  const running = download(name, {
    onProgress: () => {
      throw thrown
    },
  })
  await expect(running).rejects.toBe(thrown)
})

describe('a full disk', () => {
  afterEach(() => jest.restoreAllMocks())

  test('is found before the download', async () => {
    const { hub } = context
    hub.add('m.gguf', bytes)
    jest.spyOn(fs, 'statfs').mockResolvedValue({ bavail: 10, bsize: 4096, blocks: 1000 } as never)
    expect(await failure(download(name))).toMatchObject({
      code: 'ERR_DISK_FULL',
      details: { neededBytes: bytes.length, freeBytes: 40_960 },
    })
    expect(hub.served).toBe(0)
  })

  test('is found while writing, and what was written stays', async () => {
    const { hub } = context
    hub.add('m.gguf', bytes)
    const { open } = fs
    jest.spyOn(fs, 'open').mockImplementation(async (...args) => {
      const file = await open(...args)
      const writev = file.writev.bind(file)
      let left = 100_000
      Object.assign(file, {
        writev: (chunks: Buffer[], position: number) => {
          const part = Buffer.concat(chunks).subarray(0, left)
          left -= part.length
          if (part.length > 0) return writev([part], position)
          const error = Object.assign(new Error('ENOSPC: no space'), { code: 'ENOSPC', syscall: 'writev' })
          return Promise.reject(error)
        },
      })
      return file
    })
    expect(await failure(download(name))).toMatchObject({ code: 'ERR_DISK_FULL' })
    jest.restoreAllMocks()
    expect(readFileSync(join(blobs(), partials()[0]!)).length).toBe(100_000)
    expect(readFileSync(await download(name)).equals(bytes)).toBe(true)
  })
})

test('a blob that was truncated later is fetched again', async () => {
  const { hub } = context
  hub.add('m.gguf', bytes)
  const path = await download(name)
  truncateSync(path, 10)
  hub.commit = 'b'.repeat(40)
  expect(readFileSync(await download(name)).equals(bytes)).toBe(true)
})
