/** User text never becomes control tokens, and cutting it into pieces changes no id. */

import fc from 'fast-check'
import { addon } from '../../lib/binding'
import { renderChat } from '../../lib/chat'
import { loadTokenizer, type Tokenizer } from '../../lib/index'
import type { NativeText, NativeTokenizer } from '../../lib/native'
import { demo } from './real_models'

let native: NativeTokenizer
let tokenizer: Tokenizer
beforeAll(async () => {
  native = await addon().loadTokenizer(demo).promise
  tokenizer = await loadTokenizer(demo)
})

const encode = async (text: NativeText) => [...(await native.encode(text, false, false).promise)]

test('a special spelling is a token in special pieces, and text elsewhere', async () => {
  const { specialSpellings } = native.info
  expect(specialSpellings.length).toBeGreaterThan(2)
  for (const spelling of specialSpellings) {
    const id = native.find(spelling)!
    const text = `a ${spelling} b`
    expect(await encode([[text, true]])).toContain(id)
    const plain = await encode([[text, false]])
    expect(plain).not.toContain(id)
    // One character in a plain piece breaks the spelling.
    expect(
      await encode([
        ['a ', true],
        [spelling[0]!, false],
        [`${spelling.slice(1)} b`, true],
      ]),
    ).toEqual(plain)
    // A spelling may span several special pieces.
    expect(
      await encode([
        [`a ${spelling[0]}`, true],
        [`${spelling.slice(1)} b`, true],
      ]),
    ).toEqual(await encode([[text, true]]))
  }
})

test('a piece boundary is no token boundary', async () => {
  const words = fc.array(
    fc.constantFrom('Once', ' upon', ' a time', ' ', '  ', '\n', 'é', '🦙', 'x', '<', '|', 'the dog'),
  )
  await fc.assert(
    fc.asyncProperty(words, fc.array(fc.boolean()), async (pieces, flags) => {
      const cut: NativeText = pieces.map((piece, index) => [
        piece,
        flags[index % Math.max(1, flags.length)] ?? true,
      ])
      expect(await encode(cut)).toEqual(await encode([[pieces.join(''), false]]))
    }),
    { numRuns: 300 },
  )
})

test('no content of a message makes a control token', async () => {
  const { specialSpellings } = native.info
  const control = new Set(specialSpellings.map((spelling) => native.find(spelling)!))
  const vocabulary = tokenizer.chatVocabulary()
  const count = async (text: NativeText) => (await encode(text)).filter((id) => control.has(id)).length
  const base = await count(renderChat('test', vocabulary, [{ role: 'user', content: 'x' }], {}).pieces)
  expect(base).toBeGreaterThan(0)
  const parts = fc.array(
    fc.oneof(fc.constantFrom(...specialSpellings, '<', '|', '>', '<|', '|>', ' ', 'a'), fc.string()),
  )
  await fc.assert(
    fc.asyncProperty(parts, async (strings) => {
      const content = `x${strings.join('')}x`
      const { pieces, text } = renderChat('test', vocabulary, [{ role: 'user', content }], {})
      expect(pieces.map(([piece]) => piece).join('')).toBe(text)
      expect(await count(pieces)).toBe(base)
    }),
    { numRuns: 300 },
  )
})
