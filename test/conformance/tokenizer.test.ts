/** Token ids against Google's SentencePiece and OpenAI's tiktoken, on Meta's real vocabularies. */

import { loadTokenizer, type Tokenizer } from '../../lib/index'
import { available, dataPath, describeConformance, readJson } from './data'

interface Case {
  category: string
  text: string
  llama2: number[]
  llama3: number[]
}

describeConformance('tokenizer vectors', () => {
  const cases = available ? readJson<{ cases: Case[] }>('tokenizer', 'vectors.json').cases : []

  test('there are 2,234', () => expect(cases.length).toBe(2234))

  describe.each(['llama2', 'llama3'] as const)('%s', (name) => {
    let tokenizer: Tokenizer
    beforeAll(async () => {
      tokenizer = await loadTokenizer(dataPath('tokenizer', `${name}-vocab.gguf`))
    })

    test('is of its kind', () => {
      expect(tokenizer.kind).toBe(name === 'llama2' ? 'sentencepiece' : 'bpe')
    })

    test('encodes every string to the exact ids', async () => {
      const wrong: unknown[] = []
      for (const one of cases) {
        const ids = [...(await tokenizer.encode(one.text, { bos: false }))]
        if (JSON.stringify(ids) !== JSON.stringify(one[name]))
          wrong.push({ text: one.text, ids, expected: one[name] })
      }
      expect(wrong).toEqual([])
    })

    test('decode(encode(x)) is x', async () => {
      const wrong: unknown[] = []
      for (const { text } of cases) {
        // SentencePiece spells a space U+2581, so that character itself cannot come back.
        const expected = tokenizer.kind === 'sentencepiece' ? text.replaceAll('\u2581', ' ') : text
        const decoded = await tokenizer.decode(await tokenizer.encode(text, { bos: false }))
        if (decoded !== expected) wrong.push({ text, decoded })
      }
      expect(wrong).toEqual([])
    })

    test('decode(encode(x)) is x with BOS and EOS too', async () => {
      for (const { text } of cases.slice(0, 100)) {
        const ids = await tokenizer.encode(text, { bos: true, eos: true })
        expect([ids[0], ids.at(-1)]).toEqual([tokenizer.bos, tokenizer.eos])
        const expected = tokenizer.kind === 'sentencepiece' ? text.replaceAll('\u2581', ' ') : text
        expect(await tokenizer.decode(ids)).toBe(expected)
      }
    })
  })

  test('special tokens are text unless asked for', async () => {
    const tokenizer = await loadTokenizer(dataPath('tokenizer', 'llama3-vocab.gguf'))
    const text = '<|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>'
    const special = [...(await tokenizer.encode(text, { bos: false, special: true }))]
    expect(
      special.map((id) => tokenizer.spelling(id)).filter((spelling) => spelling.startsWith('<|')),
    ).toEqual(['<|start_header_id|>', '<|end_header_id|>', '<|eot_id|>'])
    expect(await tokenizer.decode(special, { special: true })).toBe(text)
    expect(await tokenizer.decode(special)).toBe('user\n\nhi')
  })
})
