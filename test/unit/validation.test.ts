import { homedir } from 'node:os'
import { join } from 'node:path'
import { replaceAddon } from '../../lib/binding'
import { generateOptions } from '../../lib/generation_options'
import { CriaError, inspect, loadModel, loadTokenizer, type Model } from '../../lib/index'
import { loadOptions } from '../../lib/load_options'
import { FakeAddon } from './fake_addon'

const load = loadModel as (path: unknown, options?: unknown) => Promise<Model>

let model: Model
let addon: FakeAddon
let generate: (prompt: unknown, options?: unknown) => unknown

beforeEach(async () => {
  addon = new FakeAddon()
  replaceAddon(addon)
  model = await loadModel('model.gguf')
  generate = (prompt, options) =>
    (model.generate as (prompt: unknown, options: unknown) => unknown)(prompt, options)
})
afterEach(() => replaceAddon(undefined))

function thrown(call: () => unknown): CriaError {
  try {
    call()
  } catch (error) {
    expect(error).toBeInstanceOf(CriaError)
    expect((error as CriaError).code).toBe('ERR_INVALID_ARGUMENT')
    return error as CriaError
  }
  throw new Error('it did not throw')
}

const wrongAdapters = [
  'a.gguf',
  {},
  [5],
  ['a.gguf'],
  [{}],
  [{ path: '' }],
  [{ path: 5 }],
  [{ path: 'a.gguf', scale: '1' }],
  [{ path: 'a.gguf', scale: Number.NaN }],
  [{ path: 'a.gguf', scale: Infinity }],
  [{ path: 'a.gguf', scale: 1e39 }],
  [{ path: 'a.gguf', strength: 1 }],
  [{ path: 'a.gguf' }, { path: './a.gguf', scale: 2 }],
]

const wrong = {
  temperature: [-0.1, 101, Number.NaN, '0.8', null],
  topK: [-1, 1.5, '40', null],
  topP: [-0.1, 1.1, true],
  minP: [-0.1, 1.1, {}],
  typicalP: [-0.1, 1.1, []],
  repetitionPenalty: [0, -1, 11, '1'],
  frequencyPenalty: [-11, 11, Number.NaN],
  presencePenalty: [-11, 11, '0'],
  penaltyWindow: [-1, 0.5, '64', -Infinity],
  logitBias: [
    5,
    'x',
    [1, 2],
    [[1]],
    { x: 1 },
    { 300: 1 },
    { 1: Number.NaN },
    { 1: Infinity },
    { 1: '1' },
    [[1.5, 1]],
  ],
  seed: [-1, 1.5, 2 ** 53, -1n, 2n ** 64n, '1', Infinity],
  logprobs: [-1, 101, 0.5, true],
  maxTokens: [0, -1, 1.5, '10', -Infinity, Number.NaN],
  stop: ['', [''], ['a', ''], 5, [5], {}],
  stopTokens: [5, '1', [300], [-1], [1.5], ['1'], {}],
  ignoreEos: [0, 1, 'true', null],
  showSpecial: [0, 'yes'],
  special: [0, 'yes'],
  bos: [0, 'yes', null],
  priority: [1001, -1001, 0.5, 'high'],
  timeout: [0, -1, 1.5, Infinity, '1s'],
  onContextFull: ['throw', true, ''],
  keepTokens: [-1, 0.5, '1'],
  adapters: wrongAdapters,
  signal: [{}, null, new EventTarget(), 'x'],
}

test('every option has wrong values here', () => {
  expect(Object.keys(wrong).sort()).toEqual(Object.keys(generateOptions).sort())
  expect(Object.keys(wrongLoads).sort()).toEqual(Object.keys(loadOptions).sort())
})

describe.each(Object.entries(wrong))('generate option %s', (name, values) => {
  test.each(values.map((value) => [value]))('refuses %p', (value) => {
    const error = thrown(() => generate('x', { [name]: value }))
    expect(error.message).toContain(name)
    expect(error.message).toMatch(/^model\.generate: .*must be .*got /)
    expect(error.details).toMatchObject({ call: 'model.generate' })
    expect(addon.requests.length).toBe(0)
  })

  test('takes undefined for absent', () => {
    generate('x', { [name]: undefined })
    expect(addon.requests.length).toBe(1)
  })
})

describe('unknown options', () => {
  test.each([
    ['temprature', 'temperature'],
    ['max_tokens', 'maxTokens'],
    ['maxtokens', 'maxTokens'],
    ['maxNewTokens', 'maxTokens'],
    ['max_new_tokens', 'maxTokens'],
    ['top_k', 'topK'],
    ['repeat_penalty', 'repetitionPenalty'],
    ['stopSequences', 'stop'],
    ['abortSignal', 'signal'],
    ['Seed', 'seed'],
  ])('%s: did you mean %s?', (name, suggestion) => {
    const error = thrown(() => generate('x', { [name]: 1 }))
    expect(error.message).toContain(`unknown option '${name}'`)
    expect(error.message).toContain(`did you mean '${suggestion}'?`)
    expect(error.details).toMatchObject({ option: name, suggestion })
  })

  test('without a resemblance the known ones are listed', () => {
    expect(thrown(() => generate('x', { foo: 1 })).message).toContain('known options: temperature, topK')
  })

  test('names of Object.prototype are unknown too', () => {
    for (const name of ['constructor', 'toString', '__proto__']) {
      const options = Object.create(null)
      Object.defineProperty(options, name, { value: 1, enumerable: true })
      thrown(() => generate('x', options))
    }
  })

  test.each([[null], [5], ['x'], [[]], [true]])('options of %p', (options) => {
    expect(thrown(() => generate('x', options)).message).toContain('options must be an object')
  })
})

describe('prompts', () => {
  test.each([[undefined], [null], [5], [{}], [true], [() => {}], [new DataView(new ArrayBuffer(4))]])(
    'refuses %p',
    (prompt) => {
      expect(thrown(() => generate(prompt)).message).toContain('prompt must be')
    },
  )

  test.each([
    [[1, 300], 1],
    [[-1], 0],
    [[1, 2, 1.5], 2],
    [[Number.NaN], 0],
    [['1'], 0],
    [[1n], 0],
    [[undefined], 0],
    [Uint32Array.of(1, 4_000_000_000), 1],
    [new BigInt64Array(1), 0],
    [new Float32Array([0.5]), 0],
  ])('ids %p: names index %d', (ids, index) => {
    const error = thrown(() => generate(ids))
    expect(error.message).toContain(`prompt[${index}] must be a token id from 0 to 299`)
    expect(error.details).toMatchObject({ index })
  })

  test('an array with holes', () => {
    expect(thrown(() => generate(new Array(3))).details).toMatchObject({ index: 0 })
  })

  test('no ids', () => {
    expect(thrown(() => generate([])).message).toContain('at least one token id')
  })

  test.each(['bos', 'special'])('%s with ids', (name) => {
    expect(thrown(() => generate([1], { [name]: true })).message).toContain(
      `option '${name}' needs a text prompt`,
    )
  })
})

const wrongLoads = {
  device: ['gpu', 'cuda:', 'cuda:x', 5, ''],
  gpuLayers: [-1, 1.5, '2', Infinity],
  threads: [0, -1, 1.5, 1025, '2'],
  contextLength: [0, -1, 1.5, '4096'],
  kvMemory: [0, -1, 1.5, '2', '2XB', 'GB', '-1GB', '0B', {}, Infinity],
  kvDtype: ['f8', 'F16', 16],
  prefillChunk: [0, -1, 65537, '512'],
  maxQueue: [0, -1, 1.5, 2 ** 20 + 1],
  mmap: [0, 'true'],
  download: ['hf', { cacheDir: '' }, { token: 'a b' }, { endpoint: 'hub' }, { offline: 1 }, { other: 1 }],
  adapters: wrongAdapters,
  quantize: ['Q4', 'Q4_K_X', 4, ''],
  imatrix: ['', 5, {}],
  onProgress: [true, {}],
  signal: [{}, true],
}

describe.each(Object.entries(wrongLoads))('loadModel option %s', (name, values) => {
  test.each(values.map((value) => [value]))('refuses %p', async (value) => {
    const before = addon.loads.length
    await expect(load('m.gguf', { [name]: value })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(new RegExp(`^loadModel: option '${name}' must be `)),
      details: { option: name },
    })
    expect(addon.loads.length).toBe(before)
  })
})

describe('loadModel', () => {
  test.each([[undefined], [null], [''], [5], [{}], ['a\0b'], [['a']]])(
    'refuses the path %p',
    async (path) => {
      await expect(load(path)).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
    },
  )

  test('takes file: URLs, ~, and no URLs that it cannot download', async () => {
    await load(new URL('file:///tmp/a%20b.gguf'))
    expect(addon.loads.at(-1)!.path).toBe('/tmp/a b.gguf')
    await load('file:///tmp/a%20b.gguf')
    expect(addon.loads.at(-1)!.path).toBe('/tmp/a b.gguf')
    await load('~/b.gguf')
    expect(addon.loads.at(-1)!.path).toBe(join(homedir(), 'b.gguf'))
    await expect(load(new URL('ftp://example.com/a.gguf'))).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringContaining('file: URL'),
    })
  })

  test('an unknown option', async () => {
    await expect(load('m.gguf', { n_ctx: 5 })).rejects.toMatchObject({
      message: "loadModel: unknown option 'n_ctx'; did you mean 'contextLength'?",
    })
    await expect(load('m.gguf', { n_gpu_layers: 5 })).rejects.toMatchObject({
      message: "loadModel: unknown option 'n_gpu_layers'; did you mean 'gpuLayers'?",
    })
  })

  test('gpuLayers arrive, and contradict the CPU', async () => {
    await load('m.gguf', { gpuLayers: 5 })
    expect(addon.loads.at(-1)!.gpuLayers).toBe(5)
    await load('m.gguf', { device: 'cpu', gpuLayers: 0 })
    await expect(load('m.gguf', { device: 'cpu', gpuLayers: 5 })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: "loadModel: option 'gpuLayers' must be 0 with the device 'cpu', got 5",
      details: { option: 'gpuLayers' },
    })
  })

  test.each([
    ['512MB', 512e6],
    ['2GB', 2e9],
    ['2GiB', 2 ** 31],
    ['1.5 gib', 1.5 * 2 ** 30],
    ['4096B', 4096],
    [123, 123],
  ])('kvMemory %p is %d bytes', async (kvMemory, bytes) => {
    await load('m.gguf', { kvMemory })
    expect(addon.loads.at(-1)!.kvMemory).toBe(bytes)
  })

  test('defaults', async () => {
    await load('m.gguf')
    expect(addon.loads.at(-1)).toEqual({
      path: 'm.gguf',
      device: 'auto',
      gpuLayers: -1,
      threads: 0,
      contextLength: 0,
      kvMemory: 0,
      maxQueue: 1024,
      kvDtype: 'f16',
      prefillChunk: 0,
      mmap: false,
      adapters: [],
      quantize: '',
      imatrix: '',
    })
  })
})

describe('the tokenizer', () => {
  const call = (name: 'encode' | 'decode', ...args: unknown[]) =>
    (model.tokenizer[name] as (...args: unknown[]) => Promise<unknown>)(...args)

  test.each([[5], [null], [undefined], [[]], [{}]])('encode refuses %p', async (text) => {
    await expect(call('encode', text)).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
  })

  test.each([[{ bos: 1 }], [{ eos: 'x' }], [{ special: null }], [{ signal: 1 }], [{ addBos: true }], ['x']])(
    'encode refuses the options %p',
    async (options) => {
      await expect(call('encode', 'x', options)).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
    },
  )

  test.each([[5], ['x'], [null], [[300]], [[-1]], [[1.5]], [['1']]])('decode refuses %p', async (ids) => {
    await expect(call('decode', ids)).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
  })

  test('decode names the index', async () => {
    await expect(call('decode', [1, 2, 999])).rejects.toMatchObject({ details: { index: 2, vocabSize: 300 } })
  })

  test('find and spelling', () => {
    const { tokenizer } = model
    thrown(() => tokenizer.find(5 as unknown as string))
    for (const id of [-1, 300, 1.5, '1', null]) thrown(() => tokenizer.spelling(id as number))
    expect(tokenizer.find('<s>')).toBe(1)
    expect(tokenizer.find('nothing')).toBeNull()
    expect(tokenizer.spelling(2)).toBe('</s>')
  })

  test('encode passes its options on', async () => {
    await model.tokenizer.encode('a', { bos: false, eos: true, special: true })
    await model.tokenizer.encode('b')
    expect(addon.encodes).toEqual([
      { text: [['a', true]], bos: false, eos: true },
      { text: [['b', false]], bos: null, eos: false },
    ])
    expect(await model.tokenizer.decode([1, 2], { special: true })).toBe('1,2!')
  })

  test('what is known of the vocabulary', async () => {
    const tokenizer = await loadTokenizer('v.gguf')
    expect(tokenizer).toMatchObject({
      kind: 'bpe',
      vocabSize: 300,
      bos: 1,
      eos: 2,
      addsBos: true,
      chatTemplate: null,
    })
    expect(tokenizer.endOfGeneration).toEqual([2])
  })
})

describe('logits and inspect', () => {
  test.each([['x'], [null], [[]], [[300]], [5]])('logits refuses %p', async (ids) => {
    await expect(model.logits(ids as number[])).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
  })

  test('logits refuses unknown options', async () => {
    await expect(model.logits([1], { top: 1 } as object)).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    })
  })

  test('inspect', async () => {
    await expect(inspect('')).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
    await expect(inspect('x.gguf', { deep: true } as object)).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    })
    expect((await inspect('x.gguf')).format).toBe('gguf')
  })
})
