/** The cache: its layout, what it finds, what it lists and removes. */

import { randomBytes } from 'node:crypto'
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import fs from 'node:fs/promises'
import { join, relative } from 'node:path'
import { listModels, removeModel } from '../../lib/index'
import { gitSha1, refuse, sha256 } from '../fixtures/fake_hub'
import { failure, hubForTests } from './hub'

const context = hubForTests()
const { download } = context
const first = 'a'.repeat(40)
const second = 'b'.repeat(40)
const root = () => join(context.cacheDir, 'models--owner--model')

/** Every file and link below the cache, with the target of links. */
function tree(folder = context.cacheDir): Record<string, string> {
  const found: Record<string, string> = {}
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    if (entry.isSymbolicLink()) found[relative(folder, path)] = `-> ${readlinkSync(path)}`
    else if (entry.isFile()) found[relative(folder, path)] = `${statSync(path).size} bytes`
  }
  return found
}

test("the layout is huggingface_hub's", async () => {
  const { hub } = context
  const model = hub.add('sub/m.gguf', randomBytes(5000))
  const config = hub.add('config.json', '{}')
  const path = await download('hf:owner/model/sub/m.gguf')
  await download('hf:owner/model@refs/pr/1/config.json')
  expect(path).toBe(join(root(), 'snapshots', first, 'sub', 'm.gguf'))
  expect(tree()).toEqual({
    'CACHEDIR.TAG': expect.stringMatching(/bytes/),
    'models--owner--model/refs/main': '40 bytes',
    'models--owner--model/refs/refs/pr/1': '40 bytes',
    [`models--owner--model/blobs/${sha256(model)}`]: '5000 bytes',
    [`models--owner--model/blobs/${gitSha1(config)}`]: '2 bytes',
    [`models--owner--model/snapshots/${first}/sub/m.gguf`]: `-> ../../../blobs/${sha256(model)}`,
    [`models--owner--model/snapshots/${first}/config.json`]: `-> ../../blobs/${gitSha1(config)}`,
  })
  expect(readFileSync(join(root(), 'refs', 'main'), 'utf8')).toBe(first)
})

test('what is there is not fetched again, and a new commit brings only what changed', async () => {
  const { hub } = context
  hub.add('config.json', '{}')
  hub.add('model.safetensors', randomBytes(5000))
  const folder = await download('hf:owner/model')
  expect(readdirSync(folder).sort()).toEqual(['config.json', 'model.safetensors'])
  const { served } = hub
  expect(await download('hf:owner/model')).toBe(folder)
  expect(hub.served).toBe(served)
  hub.commit = second
  hub.add('config.json', '{"changed": true}')
  const next = await download('hf:owner/model')
  expect(next).toBe(join(root(), 'snapshots', second))
  expect(hub.served).toBe(served + 17)
  expect(readFileSync(join(root(), 'refs', 'main'), 'utf8')).toBe(second)
})

test('what Python has downloaded is found, also where it shares content between repositories', async () => {
  const { hub } = context
  const bytes = hub.add('m.gguf', randomBytes(5000))
  const shared = join(context.cacheDir, 'blobs', 'ab', 'ab'.repeat(32))
  for (const folder of [
    'blobs/ab',
    'models--owner--model/blobs',
    `models--owner--model/snapshots/${first}`,
  ]) {
    mkdirSync(join(context.cacheDir, folder), { recursive: true })
  }
  writeFileSync(shared, bytes)
  symlinkSync(`../../blobs/ab/${'ab'.repeat(32)}`, join(root(), 'blobs', sha256(bytes)))
  symlinkSync(`../../blobs/${sha256(bytes)}`, join(root(), 'snapshots', first, 'm.gguf'))
  expect(readFileSync(await download('hf:owner/model/m.gguf')).equals(bytes)).toBe(true)
  expect(hub.seen).toHaveLength(1)
  expect(await removeModel('hf:owner/model', { cacheDir: context.cacheDir })).toMatchObject({
    files: ['m.gguf'],
  })
  expect(existsSync(shared)).toBe(true)
})

test('a folder: index and shards, templates, and nothing else', async () => {
  const { hub } = context
  for (const name of [
    'config.json',
    'tokenizer.json',
    'generation_config.json',
    'README.md',
    'chat_template.jinja',
  ])
    hub.add(name, name)
  hub.add('pytorch_model.bin', 'no', true)
  hub.add('consolidated.safetensors', 'no')
  hub.add('additional_chat_templates/rag.jinja', 'rag')
  hub.add(
    'model.safetensors.index.json',
    JSON.stringify({ weight_map: { a: 'model-1.safetensors', b: 'model-2.safetensors' } }),
  )
  for (const i of [1, 2, 3]) hub.add(`model-${i}.safetensors`, randomBytes(100 * i))
  const folder = await download('hf:owner/model')
  expect(Object.keys(tree(folder)).sort()).toEqual([
    'additional_chat_templates/rag.jinja',
    'chat_template.jinja',
    'config.json',
    'generation_config.json',
    'model-1.safetensors',
    'model-2.safetensors',
    'model.safetensors.index.json',
    'tokenizer.json',
  ])
  expect(
    (await listModels({ cacheDir: context.cacheDir })).map(({ name, complete, bytes }) => [
      name,
      complete,
      bytes,
    ]),
  ).toEqual([['hf:owner/model', true, expect.any(Number)]])
  await fs.unlink(join(folder, 'model-2.safetensors'))
  expect(await listModels({ cacheDir: context.cacheDir })).toMatchObject([{ complete: false }])
  expect(await failure(download('hf:owner/model', { offline: true }))).toMatchObject({ code: 'ERR_OFFLINE' })
})

test('a repository of GGUF files: by quantization, and all parts of a split file', async () => {
  const { hub } = context
  for (const name of ['m-Q8_0.gguf', 'm-Q4_K_M-00001-of-00002.gguf', 'm-Q4_K_M-00002-of-00002.gguf'])
    hub.add(name, name)
  const path = await download('hf:owner/model')
  expect(path).toMatch(/m-Q4_K_M-00001-of-00002\.gguf$/)
  expect(existsSync(path.replace('00001', '00002'))).toBe(true)
  expect(await download('hf:owner/model:q8_0')).toMatch(/m-Q8_0\.gguf$/)
  expect(await download('hf:owner/model/m-Q4_K_M-00002-of-00002.gguf')).toBe(path)
  expect(await failure(download('hf:owner/model:Q6_K'))).toMatchObject({ code: 'ERR_FILE_NOT_FOUND' })
})

test('where links are not possible, files are moved or copied', async () => {
  const { hub } = context
  const bytes = hub.add('m.gguf', randomBytes(5000))
  process.env.HF_HUB_DISABLE_SYMLINKS = '1'
  const path = await download('hf:owner/model/m.gguf')
  expect(lstatSync(path).isFile()).toBe(true)
  delete process.env.HF_HUB_DISABLE_SYMLINKS
  jest
    .spyOn(fs, 'symlink')
    .mockRejectedValue(Object.assign(new Error('EPERM'), { code: 'EPERM', syscall: 'symlink' }))
  try {
    writeFileSync(join(root(), 'blobs', sha256(bytes)), bytes)
    hub.commit = second
    const copied = await download('hf:owner/model/m.gguf')
    expect(lstatSync(copied).isFile() && readFileSync(copied).equals(bytes)).toBe(true)
    hub.add('n.gguf', randomBytes(10))
    expect(lstatSync(await download('hf:owner/model/n.gguf')).isFile()).toBe(true)
  } finally {
    jest.restoreAllMocks()
  }
  expect(await listModels({ cacheDir: context.cacheDir })).toHaveLength(3)
  expect(await removeModel('hf:owner/model', { cacheDir: context.cacheDir })).toMatchObject({
    freedBytes: 15_010,
  })
})

describe('without the hub', () => {
  test('HF_HUB_OFFLINE and the option use the cache alone', async () => {
    const { hub } = context
    hub.add('m.gguf', randomBytes(10))
    process.env.HF_HUB_OFFLINE = '1'
    expect(await failure(download('hf:owner/model/m.gguf'))).toMatchObject({
      code: 'ERR_OFFLINE',
      message: expect.stringContaining('HF_HUB_OFFLINE'),
    })
    expect(hub.seen).toEqual([])
    const path = await download('hf:owner/model/m.gguf', { offline: false })
    const asked = hub.seen.length
    expect(await download('hf:owner/model/m.gguf')).toBe(path)
    expect(await download('hf:owner/model')).toBe(path)
    expect(await failure(download('hf:owner/model@v2/m.gguf'))).toMatchObject({ code: 'ERR_OFFLINE' })
    expect(await failure(download('hf:owner/model/other.gguf'))).toMatchObject({ code: 'ERR_OFFLINE' })
    expect(hub.seen).toHaveLength(asked)
  })

  test('a hub that cannot be reached: the cache serves what it has', async () => {
    const { hub } = context
    hub.add('m.gguf', randomBytes(10))
    const path = await download('hf:owner/model/m.gguf')
    hub.hook = (_seen, response) => {
      refuse(response, 502)
      return true
    }
    expect(await download('hf:owner/model/m.gguf')).toBe(path)
    expect(await download('hf:owner/model')).toBe(path)
    const gone = { endpoint: 'http://127.0.0.1:1' }
    expect(await download('hf:owner/model/m.gguf', gone)).toBe(path)
    expect(await failure(download('hf:owner/other/m.gguf', gone))).toMatchObject({
      code: 'ERR_DOWNLOAD',
      message: expect.stringContaining('refused'),
    })
  })

  test('a file of a commit needs no question', async () => {
    const { hub } = context
    hub.add('m.gguf', randomBytes(10))
    const path = await download(`hf:owner/model@${first}/m.gguf`)
    hub.seen.length = 0
    expect(await download(`hf:owner/model@${first}/m.gguf`)).toBe(path)
    expect(hub.seen).toEqual([])
    expect(existsSync(join(root(), 'refs'))).toBe(false)
  })
})

describe('access', () => {
  test('the token goes to the hub, and to no other server', async () => {
    const { hub } = context
    hub.token = 'hf_secret'
    hub.add('m.gguf', randomBytes(10))
    process.env.HF_TOKEN = 'hf_secret\n'
    await download('hf:owner/model')
    const sent = (server: string) =>
      new Set(hub.seen.filter((one) => one.server === server).map((one) => one.authorization))
    expect(sent('hub')).toEqual(new Set(['Bearer hf_secret']))
    expect(sent('storage')).toEqual(new Set([undefined]))
    await download(`${hub.storage}/o/r/resolve/main/${'x'}/m.gguf`).catch(() => {})
    expect(sent('storage')).toEqual(new Set([undefined]))
  })

  test('a repository that was renamed', async () => {
    const { hub } = context
    hub.token = 'hf_secret'
    hub.add('m.gguf', randomBytes(10))
    hub.hook = ({ path, server }, response) => {
      if (server === 'storage' || !path.includes('owner/old')) return false
      response.writeHead(307, { Location: path.replace('owner/old', 'owner/model') }).end()
      return true
    }
    const options = { token: 'hf_secret' }
    const path = await download('hf:owner/old', options)
    expect(path).toContain('models--owner--old')
    expect(await download('hf:owner/old/m.gguf', options)).toBe(path)
  })

  test('the stored token, and the option', async () => {
    const { hub } = context
    hub.token = 'hf_secret'
    hub.add('m.gguf', randomBytes(10))
    writeFileSync(join(context.cacheDir, 'token'), 'hf_secret\n')
    const path = await download('hf:owner/model/m.gguf')
    expect(await download('hf:owner/model/m.gguf', { token: false })).toBe(path)
    await removeModel('hf:owner/model', { cacheDir: context.cacheDir })
    expect(await failure(download('hf:owner/model/m.gguf', { token: false }))).toMatchObject({
      code: 'ERR_UNAUTHORIZED',
      message: expect.stringMatching(/set HF_TOKEN/),
    })
    expect(await failure(download('hf:owner/model/m.gguf', { token: 'other' }))).toMatchObject({
      code: 'ERR_UNAUTHORIZED',
      message: expect.stringMatching(/token is invalid/),
    })
  })

  test('a gated model says what to do', async () => {
    const { hub } = context
    hub.hook = (_seen, response) => {
      refuse(response, 403, 'GatedRepo')
      return true
    }
    const error = await failure(download('hf:owner/model'))
    expect(error).toMatchObject({ code: 'ERR_UNAUTHORIZED', details: { status: 403, reason: 'GatedRepo' } })
    expect(error.message).toMatch(/gated: accept its licence on its page/)
  })

  test('what is not there', async () => {
    context.hub.add('m.gguf', 'x')
    const notFound = { code: 'ERR_FILE_NOT_FOUND', details: { status: 404 } }
    expect(await failure(download('hf:owner/model/n.gguf'))).toMatchObject({
      ...notFound,
      message: expect.stringMatching(/no such file/),
    })
    expect(await failure(download('hf:owner/model@v9'))).toMatchObject({
      ...notFound,
      message: expect.stringMatching(/no such revision/),
    })
    expect(await failure(download('hf:owner/nothing'))).toMatchObject({
      ...notFound,
      message: expect.stringMatching(/no such repository/),
    })
  })

  test.each<[string, Record<string, string>, RegExp]>([
    ['no commit', { ETag: '"x"' }, /names no commit/],
    [
      'a commit that leaves the cache',
      { 'X-Repo-Commit': '../../../../x', ETag: `"${'a'.repeat(40)}"` },
      /names no commit/,
    ],
    ['no hash', { 'X-Repo-Commit': first }, /names no hash/],
    ['a hash that leaves the cache', { 'X-Repo-Commit': first, ETag: '"../../../x"' }, /names no hash/],
  ])('a hub that names %s is refused', async (_what, headers, message) => {
    context.hub.hook = (_seen, response) => {
      response.writeHead(200, headers).end()
      return true
    }
    expect(await failure(download('hf:owner/model/m.gguf'))).toMatchObject({
      code: 'ERR_DOWNLOAD',
      message: expect.stringMatching(message),
    })
    expect(tree()).toEqual({})
  })

  test('a list that is no list, and names in it that leave the cache', async () => {
    const answers: [string, RegExp][] = [
      ['<html>', /instead of JSON/],
      ['{}', /names no commit/],
      [JSON.stringify({ sha: first }), /no list of files/],
      [
        JSON.stringify({ sha: first, siblings: [{ rfilename: '../../x.gguf' }, null, { rfilename: 5 }] }),
        /neither safetensors nor/,
      ],
    ]
    for (const [answer, message] of answers) {
      context.hub.hook = (_seen, response) => {
        response.end(answer)
        return true
      }
      expect((await failure(download('hf:owner/model'))).message).toMatch(message)
    }
    expect(tree()).toEqual({})
  })
})

describe('listModels and removeModel', () => {
  const list = async () =>
    (await listModels({ cacheDir: context.cacheDir })).map(({ name, bytes }) => [name, bytes])
  const remove = (name: string) => removeModel(name, { cacheDir: context.cacheDir })

  test('an empty cache', async () => {
    expect(await listModels({ cacheDir: join(context.cacheDir, 'nothing') })).toEqual([])
    expect(await failure(remove('hf:owner/model'))).toMatchObject({ code: 'ERR_FILE_NOT_FOUND' })
    expect(await failure(remove('https://e.org/m.gguf'))).toMatchObject({ code: 'ERR_FILE_NOT_FOUND' })
    expect(await failure(remove('/etc/passwd'))).toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
  })

  test('files, revisions, and content that they share', async () => {
    const { hub } = context
    const bytes = hub.add('m-Q8_0.gguf', randomBytes(100))
    hub.add('m-Q4_0.gguf', randomBytes(50))
    await download('hf:owner/model/m-Q8_0.gguf')
    await download('hf:owner/model/m-Q4_0.gguf')
    hub.commit = second
    const path = await download('hf:owner/model/m-Q8_0.gguf')
    expect(await list()).toEqual([
      ['hf:owner/model/m-Q8_0.gguf', 100],
      [`hf:owner/model@${first}/m-Q4_0.gguf`, 50],
      [`hf:owner/model@${first}/m-Q8_0.gguf`, 100],
    ])
    expect(await remove(`hf:owner/model@${first}/m-Q8_0.gguf`)).toEqual({
      freedBytes: 0,
      files: ['m-Q8_0.gguf'],
    })
    expect(readFileSync(path).equals(bytes)).toBe(true)
    expect(await remove('hf:owner/model:Q8_0').then(({ freedBytes }) => freedBytes)).toBe(100)
    expect(await list()).toEqual([[`hf:owner/model@${first}/m-Q4_0.gguf`, 50]])
    expect(existsSync(join(root(), 'refs', 'main'))).toBe(false)
    expect(await remove(`hf:owner/model@${first}`)).toEqual({ freedBytes: 50, files: ['m-Q4_0.gguf'] })
    expect(tree()).toEqual({ 'CACHEDIR.TAG': expect.any(String) })
  })

  test('what is left of an interrupted download', async () => {
    mkdirSync(join(root(), 'blobs'), { recursive: true })
    writeFileSync(join(root(), 'blobs', `${first}.incomplete`), 'half')
    expect(await listModels({ cacheDir: context.cacheDir })).toMatchObject([
      { name: 'hf:owner/model', complete: false, bytes: 4 },
    ])
    expect(await remove('hf:owner/model')).toEqual({ freedBytes: 4, files: [] })
    expect(existsSync(root())).toBe(false)
  })

  test('links that lead out of the cache are removed, not followed', async () => {
    const outside = join(context.cacheDir, 'precious')
    writeFileSync(outside, 'x')
    mkdirSync(join(root(), 'snapshots', first), { recursive: true })
    symlinkSync(outside, join(root(), 'snapshots', first, 'm.gguf'))
    await remove('hf:owner/model/m.gguf')
    expect(readFileSync(outside, 'utf8')).toBe('x')
    expect(existsSync(join(root(), 'snapshots', first, 'm.gguf'))).toBe(false)
  })
})
