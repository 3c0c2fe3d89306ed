/** Names of models, and which files of a repository they stand for. Nothing is downloaded here. */

import { homedir } from 'node:os'
import { join } from 'node:path'
import { chooseGguf, folderFiles, quantization, shardsOf, splitParts } from '../../lib/hub/select'
import { hubSettings } from '../../lib/hub/settings'
import { type HubSpec, isSafeName, parseSpec, specName } from '../../lib/hub/spec'
import { urlFileName, urlFolder } from '../../lib/hub/url'
import { loadModel } from '../../lib/index'

const hub = 'https://huggingface.co'
const parse = (name: string, endpoint = hub) => parseSpec('t', name, endpoint)
const repo = { kind: 'hub', repo: 'o/r', revision: 'main' }
const commit = 'c'.repeat(40)

test.each<[string, object]>([
  ['hf:o/r', repo],
  ['HF://o/r', repo],
  ['hf:o/r/', repo],
  ['hf:o/r/m.gguf', { ...repo, file: 'm.gguf' }],
  ['hf:o/r/a b/m+1.gguf', { ...repo, file: 'a b/m+1.gguf' }],
  ['hf:o/r/original/', { ...repo, folder: 'original' }],
  ['hf:o/r:Q4_K_M', { ...repo, tag: 'Q4_K_M' }],
  ['hf:o/r@v1.0', { ...repo, revision: 'v1.0' }],
  [`hf:o/r@${commit}/m.gguf`, { ...repo, revision: commit, file: 'm.gguf' }],
  ['hf:o/r@v1:Q8_0', { ...repo, revision: 'v1', tag: 'Q8_0' }],
  ['hf:o/r@refs/pr/7/m.gguf', { ...repo, revision: 'refs/pr/7', file: 'm.gguf' }],
  ['hf:o/r@feature%2Fx/m.gguf', { ...repo, revision: 'feature/x', file: 'm.gguf' }],
  ['https://huggingface.co/o/r', repo],
  ['https://hf.co/o/r/blob/main/d/m.gguf', { ...repo, file: 'd/m.gguf' }],
  ['https://huggingface.co/o/r/resolve/v1/m.gguf?download=true', { ...repo, revision: 'v1', file: 'm.gguf' }],
  ['https://huggingface.co/o/r/tree/main', repo],
  ['https://huggingface.co/o/r/tree/main/original', { ...repo, folder: 'original' }],
])('%s', (name, spec) => {
  expect(parse(name)).toEqual(spec)
  expect(parse(specName(spec as HubSpec))).toEqual(spec)
})

test('addresses of another endpoint, and of no repository', () => {
  expect(parse('http://mirror:8080/hub/o/r/resolve/main/m.gguf', 'http://mirror:8080/hub')).toEqual({
    ...repo,
    file: 'm.gguf',
  })
  for (const url of [
    'https://example.com/o/r/resolve/main/m.gguf',
    'https://huggingface.co/datasets/o/r/resolve/main/m.gguf',
  ]) {
    expect(parse(url)).toEqual({ kind: 'url', url: new URL(url) })
  }
})

test('a URL with a hash', () => {
  const digits = 'A'.repeat(64)
  expect(parse(`https://e.org/m.gguf#sha256=${digits}`)).toEqual({
    kind: 'url',
    url: new URL('https://e.org/m.gguf'),
    sha256: 'a'.repeat(64),
  })
  expect(() => parse('https://e.org/m.gguf#sha256=12')).toThrow(/sha256=<64/)
})

test.each([
  'hf:',
  'hf:o',
  'hf:/r',
  'hf:../r/m.gguf',
  'hf:o/..',
  'hf:o/r--s',
  'hf:o--x/r',
  'hf:o/.hidden',
  'hf:o/r.git',
  'hf:o/r/../../x.gguf',
  'hf:o/r/a/../x.gguf',
  'hf:o/r/a//x.gguf',
  'hf:o/r/a\\..\\x.gguf',
  'hf:o/r/C:x.gguf',
  'hf:o/r/a\u0000.gguf',
  'hf:o/r@../../x/m.gguf',
  'hf:o/r@..%2F..%2Fx/m.gguf',
  'hf:o/r@/m.gguf',
  'hf:o/r@-x',
  'hf:o/r@a%2F%2Fb',
  'hf:o/r@.x',
  'hf:o/r@a%00b',
  'hf:o/r:',
  'hf:o/r:Q4_K_M/m.gguf',
  'hf:o/r:../x',
  'https://huggingface.co/o/r/resolve/main/..%2F..%2Fx',
])('%j is refused', async (name) => {
  expect(() => parse(name)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }))
  await expect(loadModel(name)).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
})

test('names that a repository may give its files', () => {
  for (const name of ['a', 'a/b', 'ü/ß.gguf', '...', 'a..b']) expect(isSafeName(name)).toBe(true)
  for (const name of ['', '/a', 'a/', '..', 'a/../b', '.', 'a\\b', 'c:d', 'a\nb', 'x'.repeat(300)]) {
    expect(isSafeName(name)).toBe(false)
  }
})

test('files of URLs stay in their folder', () => {
  const name = (url: string) => urlFileName(new URL(url))
  expect(name('https://e.org/a/m%20x.gguf?x=1')).toBe('m x.gguf')
  expect(name('https://e.org/')).toBe('file_')
  expect(name('https://e.org/a/..%2F..%2Fpasswd')).toBe('file__.._passwd')
  expect(name('https://e.org/.hidden')).toBe('file_hidden')
  const folder = (url: string) => urlFolder('/c', new URL(url))
  expect(folder('https://e.org/a/m-1.gguf')).toBe(folder('https://e.org/a/m-2.gguf'))
  expect(folder('https://e.org/a/m.gguf')).not.toBe(folder('https://e.org/b/m.gguf'))
})

test('quantizations and parts', () => {
  expect(quantization('Llama-3.2-1B-Q4_K_M.gguf')).toBe('Q4_K_M')
  expect(quantization('d/llama.q8_0.gguf')).toBe('Q8_0')
  expect(quantization('Q4_K_M/x-UD-IQ2_XXS-00001-of-00002.gguf')).toBe('UD-IQ2_XXS')
  expect(quantization('m-BF16.gguf')).toBe('BF16')
  expect(quantization('model.gguf')).toBeUndefined()
  expect(splitParts('d/m-00002-of-00003.gguf')).toEqual([1, 2, 3].map((i) => `d/m-0000${i}-of-00003.gguf`))
  expect(splitParts('m.gguf')).toBeUndefined()
  expect(splitParts('m-00001-of-00000.gguf')).toBeUndefined()
  expect(splitParts('m-00001-of-99999.gguf')).toBeUndefined()
})

describe('the GGUF file of a repository', () => {
  const choose = (names: string[], tag?: string) =>
    chooseGguf('t', { ...repo, ...(tag ? { tag } : {}) } as HubSpec, names)
  const names = [
    'README.md',
    'm-Q8_0.gguf',
    'm-Q4_K_M.gguf',
    'm-UD-Q4_K_M.gguf',
    'mmproj-Q4_K_M.gguf',
    'm-imatrix.gguf',
  ]

  test.each([
    [names, 'q8_0', 'm-Q8_0.gguf'],
    [names, 'Q4_K_M', 'm-Q4_K_M.gguf'],
    [names, 'UD-Q4_K_M', 'm-UD-Q4_K_M.gguf'],
    [names, undefined, 'm-Q4_K_M.gguf'],
    [['m-Q8_0.gguf', 'm-Q5_K_M.gguf'], undefined, 'm-Q5_K_M.gguf'],
    [['any.gguf'], undefined, 'any.gguf'],
    [
      ['m-Q4_K_M-00002-of-00002.gguf', 'm-Q4_K_M-00001-of-00002.gguf'],
      undefined,
      'm-Q4_K_M-00001-of-00002.gguf',
    ],
    [['m-Q4_K_M-imat.gguf', 'm-Q4_K_MX.gguf'], 'Q4_K_M', 'm-Q4_K_M-imat.gguf'],
  ])('%j, tag %s: %s', (files, tag, chosen) => expect(choose(files, tag)).toBe(chosen))

  test.each([
    [names, 'Q2_K', 'ERR_FILE_NOT_FOUND', /hf:o\/r has no GGUF file Q2_K; it has Q4_K_M, Q8_0, UD-Q4_K_M$/],
    [['README.md'], undefined, 'ERR_FILE_NOT_FOUND', /neither safetensors nor GGUF/],
    [
      ['a-Q4_K_M.gguf', 'b-Q4_K_M.gguf'],
      undefined,
      'ERR_INVALID_ARGUMENT',
      /several files: a-Q4_K_M.gguf, b-Q4_K_M/,
    ],
    [
      ['a.gguf', 'b.gguf'],
      undefined,
      'ERR_INVALID_ARGUMENT',
      /several files: a.gguf, b.gguf; name one, as in hf:o\/r\/a.gguf/,
    ],
  ])('%j, tag %s: %s', (files, tag, code, message) => {
    expect(() => choose(files, tag)).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) }),
    )
  })
})

test('the folder of a repository', () => {
  const hf = [
    'config.json',
    'model.safetensors',
    'tokenizer.json',
    'README.md',
    'consolidated.safetensors',
    'pytorch_model.bin',
  ]
  expect(folderFiles([...hf, 'additional_chat_templates/tool_use.jinja', '../evil.json'], undefined)).toEqual(
    {
      small: ['additional_chat_templates/tool_use.jinja', 'config.json', 'tokenizer.json'],
      weights: ['model.safetensors'],
    },
  )
  expect(folderFiles([...hf, 'model.safetensors.index.json'], undefined)).toMatchObject({
    index: 'model.safetensors.index.json',
    weights: [],
  })
  const meta = [
    'original/params.json',
    'original/consolidated.01.pth',
    'original/consolidated.00.pth',
    'original/tokenizer.model',
  ]
  expect(folderFiles([...hf, ...meta], 'original')).toEqual({
    small: ['original/tokenizer.model', 'original/params.json'],
    weights: ['original/consolidated.00.pth', 'original/consolidated.01.pth'],
  })
  expect(folderFiles(['adapter_config.json', 'adapter_model.safetensors'], undefined)?.weights).toEqual([
    'adapter_model.safetensors',
  ])
  expect(folderFiles(['config.json', 'm.gguf'], undefined)).toBeUndefined()
})

test('an index names shards of the repository only', () => {
  const read = (value: unknown) => shardsOf('t', 'd/model.safetensors.index.json', JSON.stringify(value))
  expect(read({ weight_map: { a: 'y.safetensors', b: 'x.safetensors', c: 'y.safetensors' } })).toEqual([
    'd/x.safetensors',
    'd/y.safetensors',
  ])
  for (const bad of [{}, [], { weight_map: [] }, { weight_map: {} }, { weight_map: { a: 5 } }]) {
    expect(() => read(bad)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_FILE' }))
  }
  for (const shard of ['../x.safetensors', '/x.safetensors', 'x.bin', 'a\\x.safetensors']) {
    expect(() => read({ weight_map: { a: shard } })).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_FILE' }),
    )
  }
  expect(() => shardsOf('t', 'i', '{')).toThrow(expect.objectContaining({ code: 'ERR_INVALID_FILE' }))
})

describe('settings', () => {
  const { env } = process
  const before = { ...env }
  beforeEach(() => {
    for (const name of Object.keys(env))
      if (/^(HF_|HUGGING|XDG_CACHE|TRANSFORMERS_)/.test(name)) delete env[name]
  })
  afterAll(() => {
    Object.assign(env, before)
  })

  test('folders, as huggingface_hub finds them', () => {
    const at = () => hubSettings().cacheDir
    expect(at()).toBe(join(homedir(), '.cache', 'huggingface', 'hub'))
    env.XDG_CACHE_HOME = '/x'
    expect(at()).toBe('/x/huggingface/hub')
    expect(hubSettings().urlDir).toBe('/x/cria/urls')
    env.HF_HOME = '~/h'
    expect(at()).toBe(join(homedir(), 'h', 'hub'))
    env.HUGGINGFACE_HUB_CACHE = '/old'
    expect(at()).toBe('/old')
    env.HF_HUB_CACHE = `$XDG_CACHE_HOME/\${HF_HOME_UNKNOWN}/c`
    expect(at()).toBe(`/x/\${HF_HOME_UNKNOWN}/c`)
    expect(hubSettings({ cacheDir: '/mine' })).toMatchObject({ cacheDir: '/mine', urlDir: '/mine/urls' })
  })

  test('the other variables', () => {
    expect(hubSettings()).toMatchObject({ endpoint: hub, offline: false, stallMs: 30_000, symlinks: true })
    Object.assign(env, { HF_ENDPOINT: 'https://m.org/', HF_HUB_OFFLINE: 'yes', HF_HUB_DOWNLOAD_TIMEOUT: '7' })
    Object.assign(env, { HF_TOKEN: ' secret\n', HF_HUB_DISABLE_SYMLINKS: '1' })
    expect(hubSettings()).toMatchObject({
      endpoint: 'https://m.org',
      offline: true,
      stallMs: 7000,
      symlinks: false,
      token: 'secret',
    })
    expect(hubSettings({ token: false, offline: false })).toMatchObject({ token: undefined, offline: false })
    env.HF_HUB_DISABLE_IMPLICIT_TOKEN = '1'
    expect(hubSettings().token).toBeUndefined()
  })
})
