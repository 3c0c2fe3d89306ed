/**
 * Token ids against Google's SentencePiece, OpenAI's tiktoken, Hugging Face's tokenizers and Mistral's
 * mistral-common, on real vocabularies in all the forms in which they are published.
 */

import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { loadTokenizer, type Tokenizer } from '../../lib/index'
import { available, dataPath, describeConformance, readJson } from './data'

let scratch = ''
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'cria-tokenizer-'))
})
afterAll(() => rmSync(scratch, { recursive: true }))

/** The path of a file of the data, unpacked if it is a .gz. */
function unpacked(...parts: string[]): string {
  const path = dataPath('tokenizer', ...parts)
  if (!path.endsWith('.gz')) return path
  const file = join(scratch, parts.at(-1)!.slice(0, -3))
  writeFileSync(file, gunzipSync(readFileSync(path)))
  return file
}

async function wrongIds(tokenizer: Tokenizer, cases: { text: string; ids: number[] }[]): Promise<unknown[]> {
  const wrong: unknown[] = []
  for (const { text, ids: expected } of cases) {
    const ids = [...(await tokenizer.encode(text, { bos: false }))]
    if (JSON.stringify(ids) !== JSON.stringify(expected)) wrong.push({ text, ids, expected })
  }
  return wrong
}

interface Case {
  category: string
  text: string
  llama2: number[]
  llama3: number[]
}

describeConformance('tokenizer vectors', () => {
  const cases = available ? readJson<{ cases: Case[] }>('tokenizer', 'vectors.json').cases : []

  test('there are 2,234', () => expect(cases.length).toBe(2234))

  describe.each([
    ['llama2', 'llama2-vocab.gguf'],
    ['llama2', 'llama2-tokenizer.model'],
    ['llama2', 'llama2-tokenizer.json.gz'],
    ['llama3', 'llama3-vocab.gguf'],
    ['llama3', 'llama3-tokenizer.model'],
    ['llama3', 'llama3-tokenizer.json.gz'],
  ] as const)('%s, %s', (name, file) => {
    let tokenizer: Tokenizer
    beforeAll(async () => {
      tokenizer = await loadTokenizer(unpacked(file))
    })

    test('is of its kind', () => {
      expect(tokenizer.kind).toBe(name === 'llama2' ? 'sentencepiece' : 'bpe')
      expect(tokenizer.vocabSize).toBe(name === 'llama2' ? 32000 : 128256)
      expect(tokenizer.bos).toBe(name === 'llama2' ? 1 : 128000)
      expect(tokenizer.addsBos).toBe(true)
      expect(tokenizer.warnings).toEqual([])
      const ends = name === 'llama2' ? [2] : [128001, 128008, 128009]
      expect(tokenizer.endOfGeneration).toEqual(ends)
    })

    test('encodes every string to the exact ids', async () => {
      expect(
        await wrongIds(
          tokenizer,
          cases.map((one) => ({ text: one.text, ids: one[name] })),
        ),
      ).toEqual([])
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

describeConformance('pre-tokenizers', () => {
  interface PreCase extends Record<string, number[] | string> {
    text: string
  }
  const cases = available ? readJson<{ cases: PreCase[] }>('tokenizer', 'pre', 'vectors.json').cases : []
  const column = (name: string) => cases.map((one) => ({ text: one.text, ids: one[name] as number[] }))

  test('there are 2,267', () => expect(cases.length).toBe(2267))

  test.each(['gpt-2', 'smollm', 'starcoder', 'refact', 'deepseek-llm', 'deepseek-coder', 'falcon', 'qwen2'])(
    '%s: every id',
    async (name) => {
      const tokenizer = await loadTokenizer(unpacked('pre', `${name}-vocab.gguf`))
      expect(tokenizer.warnings).toEqual([])
      expect(await wrongIds(tokenizer, column(name))).toEqual([])
    },
  )

  test('qwen35: every id, with the vocabulary of qwen2', async () => {
    const file = join(scratch, 'qwen35.gguf')
    const bytes = readFileSync(unpacked('pre', 'qwen2-vocab.gguf'))
    writeFileSync(file, withPreTokenizer(bytes, 'qwen35'))
    expect(await wrongIds(await loadTokenizer(file), column('qwen35'))).toEqual([])
  })

  test('tekken.json: every id', async () => {
    const tokenizer = await loadTokenizer(unpacked('pre', 'tekken.json.gz'))
    expect(tokenizer.vocabSize).toBe(131072)
    expect([tokenizer.bos, tokenizer.eos, tokenizer.addsBos]).toEqual([1, 2, true])
    expect(await wrongIds(tokenizer, column('tekken'))).toEqual([])
  })

  test('the real model: every id', async () => {
    interface Golden {
      cases: { prompt: string; ids: number[] }[]
    }
    const { cases: golden } = readJson<Golden>('real', 'golden.json')
    const tokenizer = await loadTokenizer(dataPath('real', 'SmolLM2-135M-Instruct.Q4_1.gguf'))
    expect(tokenizer.addsBos).toBe(false)
    expect(golden.length).toBeGreaterThan(2)
    for (const { prompt, ids } of golden) {
      expect([...(await tokenizer.encode(prompt, { special: true }))]).toEqual(ids)
    }
  })
})

describeConformance('pieces of pre-tokenizers', () => {
  interface Pieces {
    expressions: Record<string, string[]>
    cases: ({ text: string } & Record<string, string[] | string>)[]
  }
  const { expressions, cases } = available
    ? (JSON.parse(
        gunzipSync(readFileSync(dataPath('tokenizer', 'pre', 'pieces.json.gz'))).toString(),
      ) as Pieces)
    : { expressions: {}, cases: [] }

  test('there are 2,267 for each of 10', () => {
    expect([cases.length, Object.keys(expressions).length]).toEqual([2267, 10])
  })

  test.each(Object.keys(expressions))('%s', async (name) => {
    // A vocabulary in which every piece is a token: the ids tell the pieces.
    const tokens = new Map<string, number>()
    const id = (spelling: string) => {
      if (!tokens.has(spelling)) tokens.set(spelling, tokens.size)
      return tokens.get(spelling)!
    }
    for (let byte = 0; byte < 256; byte++) id(byteAlphabet(Uint8Array.of(byte)))
    const expected = cases.map((one) => ({
      text: one.text,
      ids: (one[name] as string[]).map((piece) => id(byteAlphabet(new TextEncoder().encode(piece)))),
    }))
    id('ab')
    const file = join(scratch, 'pieces.json')
    const split = (Regex: string) => ({
      type: 'Split',
      pattern: { Regex },
      behavior: 'Isolated',
      invert: false,
    })
    writeFileSync(
      file,
      JSON.stringify({
        added_tokens: [],
        normalizer: null,
        pre_tokenizer: {
          type: 'Sequence',
          pretokenizers: [
            ...expressions[name]!.map(split),
            { type: 'ByteLevel', add_prefix_space: false, use_regex: false },
          ],
        },
        post_processor: null,
        decoder: { type: 'ByteLevel' },
        model: { type: 'BPE', ignore_merges: true, vocab: Object.fromEntries(tokens), merges: ['a b'] },
      }),
    )
    expect(await wrongIds(await loadTokenizer(file), expected)).toEqual([])
  })
})

/** GPT-2's bytes_to_unicode. */
function byteAlphabet(bytes: Uint8Array): string {
  const printable = (b: number) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174
  let shifted = 256
  const characters = Array.from({ length: 256 }, (_, b) => String.fromCodePoint(printable(b) ? b : shifted++))
  return Array.from(bytes, (b) => characters[b]).join('')
}

/** A GGUF with another value of tokenizer.ggml.pre. */
function withPreTokenizer(file: Buffer, name: string): Buffer {
  const key = Buffer.from('tokenizer.ggml.pre')
  const at = file.indexOf(key) + key.length
  expect(file.readUInt32LE(at)).toBe(8) // a string
  const size = Number(file.readBigUInt64LE(at + 4))
  const value = Buffer.alloc(8 + name.length)
  value.writeBigUInt64LE(BigInt(name.length))
  value.write(name, 8)
  return Buffer.concat([file.subarray(0, at + 4), value, file.subarray(at + 12 + size)])
}

describeConformance('tokenizer folders', () => {
  test('the four forms of one model give the same ids', async () => {
    const texts = ['Once upon a time', ' two  spaces', 'new\nlines\n\n', 'caf\u00e9 \u{1f642}', '']
    const gguf = await loadTokenizer(dataPath('tinystories-260k', 'gguf', 'tinystories-260k-f32.gguf'))
    for (const form of ['hf', 'meta', 'meta-2shards']) {
      const tokenizer = await loadTokenizer(dataPath('tinystories-260k', form))
      expect(tokenizer.vocabSize).toBe(gguf.vocabSize)
      expect([tokenizer.bos, tokenizer.eos, tokenizer.addsBos]).toEqual([gguf.bos, gguf.eos, gguf.addsBos])
      for (const text of texts) expect(await tokenizer.encode(text)).toEqual(await gguf.encode(text))
    }
  })

  test('tokenizer_config.json beside a tokenizer adds its tokens and its chat template', async () => {
    const folder = mkdtempSync(join(scratch, 'folder-'))
    symlinkSync(dataPath('tokenizer', 'llama2-tokenizer.model'), join(folder, 'tokenizer.model'))
    writeFileSync(
      join(folder, 'tokenizer_config.json'),
      JSON.stringify({
        add_bos_token: false,
        eos_token: { content: '</s>' },
        bos_token: '<s>',
        chat_template: [
          { name: 'tool_use', template: 'tools' },
          { name: 'default', template: '{{ bos_token }}' },
        ],
        tokenizer_class: 'LlamaTokenizer',
      }),
    )
    const tokenizer = await loadTokenizer(folder)
    expect(tokenizer.addsBos).toBe(false)
    expect(tokenizer.chatTemplate).toBe('{{ bos_token }}')
    writeFileSync(join(folder, 'chat_template.jinja'), 'its own file')
    expect((await loadTokenizer(join(folder, 'tokenizer.model'))).chatTemplate).toBe('its own file')
  })
})
