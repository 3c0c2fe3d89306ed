/** LoRA adapters, from the options to the addon; the arithmetic is tested natively. */

import { resolve } from 'node:path'
import { parseAdapter } from '../../lib/adapters'
import { replaceAddon } from '../../lib/binding'
import { CriaError, loadModel } from '../../lib/index'
import { FakeAddon } from './fake_addon'

const pirate = resolve('pirate.gguf')
const haiku = resolve('haiku')

async function start() {
  const addon = new FakeAddon({
    adapters: [
      { path: pirate, scale: 1 },
      { path: haiku, scale: 0.5 },
    ],
  })
  replaceAddon(addon)
  return { addon, model: await loadModel('m.gguf') }
}

afterEach(() => replaceAddon(undefined))

test('loadModel passes absolute paths, with scale 1 by default', async () => {
  const { addon } = await start()
  await loadModel('m.gguf', {
    adapters: [{ path: 'pirate.gguf' }, { path: new URL(`file://${haiku}`), scale: -2 }],
  })
  expect(addon.loads.at(-1)!.adapters).toEqual([
    { path: pirate, scale: 1 },
    { path: haiku, scale: -2 },
  ])
})

test('info.adapters lists them, frozen', async () => {
  const { model } = await start()
  expect(model.info.adapters).toEqual([
    { path: pirate, scale: 1 },
    { path: haiku, scale: 0.5 },
  ])
  expect(Object.isFrozen(model.info.adapters) && Object.isFrozen(model.info.adapters[0])).toBe(true)
})

describe('a request', () => {
  test('without the option has those of the load, with their scales', async () => {
    const { addon, model } = await start()
    model.generate('x')
    expect(addon.last.request.adapters).toEqual([
      [0, 1],
      [1, 0.5],
    ])
  })

  test('with [] has none', async () => {
    const { addon, model } = await start()
    model.generate('x', { adapters: [] })
    expect(addon.last.request.adapters).toEqual([])
  })

  test('names some, by any spelling of the path, with scales of its own', async () => {
    const { addon, model } = await start()
    model.chat([{ role: 'user', content: 'x' }], {
      adapters: [{ path: './haiku/../haiku', scale: 3 }],
      chatTemplate: 'x',
    })
    await new Promise(setImmediate)
    expect(addon.last.request.adapters).toEqual([[1, 3]])
    model.generateSamples('x', 2, { adapters: [{ path: pirate }] })
    expect(addon.requests.slice(-2).map(({ request }) => request.adapters)).toEqual([[[0, 1]], [[0, 1]]])
  })

  test('for one that was not loaded throws at the call, and names those that were', async () => {
    const { addon, model } = await start()
    const before = addon.requests.length
    const call = () => model.generate('x', { adapters: [{ path: 'other.gguf' }] })
    expect(call).toThrow(CriaError)
    expect(call).toThrow(
      `model.generate: option 'adapters' must be adapters of loadModel (${pirate}, ${haiku}), got "${resolve('other.gguf')}" (string)`,
    )
    expect(addon.requests.length).toBe(before)
  })

  test('for one of a model without adapters says so', async () => {
    replaceAddon(new FakeAddon())
    const model = await loadModel('m.gguf')
    expect(() => model.generate('x', { adapters: [{ path: 'a.gguf' }] })).toThrow(
      "option 'adapters' must be none, as in loadModel",
    )
  })
})

test('logits, saveState and restoreState take adapters', async () => {
  const { addon, model } = await start()
  const adapters = [{ path: haiku, scale: 2 }]
  await model.logits([1], { adapters })
  await model.saveState('s', [1], { adapters })
  await model.restoreState('s', { adapters })
  expect(addon.computed).toEqual([[[1, 2]], [[1, 2]], [[1, 2]]])
  addon.computed.length = 0
  await model.logits([1])
  await model.saveState('s', [1])
  await model.restoreState('s')
  expect(addon.computed.every((set) => JSON.stringify(set) === '[[0,1],[1,0.5]]')).toBe(true)
  await expect(model.logits([1], { adapters: [{ path: 'other' }] })).rejects.toMatchObject({
    code: 'ERR_INVALID_ARGUMENT',
    message: expect.stringContaining("model.logits: option 'adapters' must be adapters of loadModel"),
  })
})

test.each([
  ['/a.gguf', '/a.gguf', 1],
  ['/a.gguf:0.5', '/a.gguf', 0.5],
  ['/a:b.gguf', '/a:b.gguf', 1],
  ['/a:b:-2e-1', '/a:b', -0.2],
  ['/a:1', '/a', 1],
])('--lora %s', (text, path, scale) => {
  expect(parseAdapter(text)).toEqual({ path, scale })
})

test.each(['', '/a:1.2.3', '/a:1e99'])('--lora refuses %p', (text) => {
  expect(parseAdapter(text)).toBeUndefined()
})
