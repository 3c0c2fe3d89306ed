import { replaceAddon } from '../../lib/binding'
import { CriaError, cpuInfo, loadModel, loadTokenizer, version } from '../../lib/index'
import type { NativeModel } from '../../lib/native'
import { FakeAddon, FakeTask, nativeError } from './fake_addon'

let addon: FakeAddon
beforeEach(() => {
  addon = new FakeAddon()
  replaceAddon(addon)
})
afterEach(() => replaceAddon(undefined))

describe('loading', () => {
  test('an abort stops the load and rejects with the reason', async () => {
    const task = new FakeTask<NativeModel>()
    addon.nextLoad = task
    const abort = new AbortController()
    const loading = loadModel('m.gguf', { signal: abort.signal })
    abort.abort('stop it')
    await expect(loading).rejects.toMatchObject({ code: 'ERR_ABORTED', name: 'AbortError', cause: 'stop it' })
    expect(task.cancelled).toBe(true)
  })

  test('an aborted signal loads nothing', async () => {
    await expect(loadModel('m.gguf', { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'ERR_ABORTED',
    })
    expect(addon.loads.length).toBe(0)
  })

  test('progress', async () => {
    addon.nextLoad = new FakeTask<NativeModel>()
    const seen: unknown[] = []
    const loading = loadModel('m.gguf', { onProgress: (progress) => seen.push(progress) })
    addon.progress!(0, 0)
    addon.progress!(50, 200)
    addon.nextLoad.resolve(addon.model())
    await loading
    expect(seen).toEqual([
      { loadedBytes: 0, totalBytes: 0, fraction: 0 },
      { loadedBytes: 50, totalBytes: 200, fraction: 0.25 },
    ])
  })

  test('a throwing progress callback stops the load with its error', async () => {
    const task = new FakeTask<NativeModel>()
    addon.nextLoad = task
    const mine = new Error('mine')
    let calls = 0
    const loading = loadModel('m.gguf', {
      onProgress: () => {
        calls++
        throw mine
      },
    })
    addon.progress!(1, 2)
    addon.progress!(2, 2)
    await expect(loading).rejects.toBe(mine)
    expect(calls).toBe(1)
    expect(task.cancelled).toBe(true)
  })

  test('native errors become CriaErrors', async () => {
    const task = new FakeTask<NativeModel>()
    addon.nextLoad = task
    task.reject(nativeError('ERR_INVALID_FILE', 'bad magic', { offset: 0 }))
    const error = await loadModel('m.gguf').catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(CriaError)
    expect(error).toMatchObject({
      name: 'CriaError',
      code: 'ERR_INVALID_FILE',
      message: 'bad magic',
      details: { offset: 0 },
    })
    expect(Object.isFrozen((error as CriaError).details)).toBe(true)
  })
})

describe('a disposed model', () => {
  test('refuses every call except dispose', async () => {
    const model = await loadModel('m.gguf')
    const { tokenizer } = model
    expect(model.disposed).toBe(false)
    await Promise.all([model.dispose(), model.dispose()])
    await model.dispose()
    expect(model.disposed).toBe(true)
    expect(addon.disposals).toBe(1)
    const disposed = { code: 'ERR_DISPOSED' }
    await expect(model.generate('x')).rejects.toMatchObject(disposed)
    await expect(model.generate('x')[Symbol.asyncIterator]().next()).rejects.toMatchObject(disposed)
    await expect(model.chat([{ role: 'user', content: 'x' }])).rejects.toMatchObject(disposed)
    await expect(model.logits([1])).rejects.toMatchObject(disposed)
    await expect(tokenizer.encode('x')).rejects.toMatchObject(disposed)
    await expect(tokenizer.decode([1])).rejects.toMatchObject(disposed)
    expect(() => tokenizer.find('x')).toThrow(expect.objectContaining(disposed))
    expect(() => tokenizer.spelling(1)).toThrow(expect.objectContaining(disposed))
    expect(() => model.renderChat([{ role: 'user', content: 'x' }])).toThrow(
      expect.objectContaining(disposed),
    )
    expect(model.info.name).toBe('fake')
    expect(addon.requests.length).toBe(0)
  })

  test('by using and await using', async () => {
    const model = await loadModel('m.gguf')
    await model[Symbol.asyncDispose]()
    expect(model.disposed).toBe(true)
    const other = await loadModel('m.gguf')
    other[Symbol.dispose]()
    expect(other.disposed).toBe(true)
    expect(addon.disposals).toBe(2)
  })
})

test('info is frozen', async () => {
  const { info } = await loadModel('m.gguf')
  expect(Object.isFrozen(info)).toBe(true)
  expect(Object.isFrozen(info.tensorTypes)).toBe(true)
  expect(Object.isFrozen(info.warnings)).toBe(true)
})

test('an abort of encode stops it', async () => {
  const tokenizer = await loadTokenizer('v.gguf')
  addon.nextEncode = new FakeTask<Uint32Array>()
  const abort = new AbortController()
  const encoding = tokenizer.encode('x', { signal: abort.signal })
  abort.abort(5)
  await expect(encoding).rejects.toMatchObject({ code: 'ERR_ABORTED', cause: 5 })
})

test('cpuInfo and version', () => {
  expect(cpuInfo().isaLevels).toEqual(['fake'])
  expect(version).toMatch(/^\d+\.\d+\.\d+/)
})
