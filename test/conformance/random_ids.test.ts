/**
 * Token ids of 50,000 random strings against the reference implementations themselves: Google's SentencePiece
 * (Debian's python3-sentencepiece) and OpenAI's tiktoken (npm). tiktoken takes any expression, so it also checks
 * the hand-written splitters against a regular-expression engine.
 */

import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { Tiktoken } from 'tiktoken'
import { loadTokenizer, type Tokenizer } from '../../lib/index'
import { available, dataPath, describeConformance } from './data'

const STRINGS = 50_000

/** mulberry32: the same strings on every machine. */
function randomSource(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) % below
  }
}

/** Words, numbers, white space, symbols and characters of many scripts, side by side. */
function randomStrings(seed: number): string[] {
  const random = randomSource(seed)
  const words = ['the', 'Hello', 'world', 'iPhone', 'don', 'WORLD', 'caf\u00e9', 'na\u00efve', 'x', 'being']
  const marks = [
    "'s",
    "'LL",
    "'t",
    "'\u017f",
    '...',
    '!?',
    '(',
    ')',
    ' -> ',
    '==',
    '$',
    '`',
    '_',
    '|',
    '/',
    '"',
  ]
  const spaces = [
    ' ',
    ' ',
    ' ',
    '  ',
    '   ',
    '\n',
    '\n\n',
    '\r\n',
    '\t',
    '\u00a0',
    '\u3000',
    '\u0085',
    '\u2028',
  ]
  const ranges = [
    [0x20, 0x7e], [0xa0, 0x24f], [0x300, 0x36f], [0x370, 0x3ff], [0x400, 0x4ff], [0x5d0, 0x5ea], [0x620, 0x669],
    [0x900, 0x97f], [0xe01, 0xe5b], [0x1e00, 0x1eff], [0x2000, 0x206f], [0x2150, 0x218b], [0x2190, 0x22ff],
    [0x3041, 0x30ff], [0x4e00, 0x9fa5], [0xac00, 0xd7a3], [0xff01, 0xff5e], [0x1d400, 0x1d7ff], [0x1f300, 0x1f6ff],
  ] // biome-ignore format: pairs
  const one = <T>(from: readonly T[]): T => from[random(from.length)]!
  const part = (): string => {
    switch (random(8)) {
      case 0:
      case 1:
        return one(words)
      case 2:
        return one(spaces)
      case 3:
        return one(marks)
      case 4:
        return String(random(10 ** (1 + random(8))))
      case 5:
        return ' '
      default: {
        const [first, last] = one(ranges) as [number, number]
        const count = 1 + random(3)
        return Array.from({ length: count }, () =>
          String.fromCodePoint(first + random(last - first + 1)),
        ).join('')
      }
    }
  }
  return Array.from({ length: STRINGS }, () => Array.from({ length: 1 + random(9) }, part).join(''))
}

async function wrongIds(tokenizer: Tokenizer, texts: string[], oracle: (text: string) => ArrayLike<number>) {
  const wrong: unknown[] = []
  for (const text of texts) {
    const ids = await tokenizer.encode(text, { bos: false })
    const expected = oracle(text)
    if (ids.length !== expected.length || ids.some((id, i) => id !== expected[i]))
      wrong.push({ text, ids: [...ids], expected: [...(expected as number[])] })
    if (wrong.length === 5) break
  }
  return wrong
}

let scratch = ''
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'cria-random-ids-'))
})
afterAll(() => rmSync(scratch, { recursive: true }))

describeConformance('random strings', () => {
  const texts = available ? randomStrings(14) : []

  test('SentencePiece', async () => {
    const model = dataPath('tokenizer', 'llama2-tokenizer.model')
    const input = join(scratch, 'texts.json')
    writeFileSync(input, JSON.stringify(texts))
    const script = `
import json, sys, sentencepiece
processor = sentencepiece.SentencePieceProcessor(model_file=sys.argv[1])
print(json.dumps([processor.encode(text) for text in json.load(open(sys.argv[2]))]))`
    // Debian's own Python, which has Debian's module.
    const run = spawnSync('/usr/bin/python3', ['-c', script, model, input], {
      encoding: 'utf8',
      maxBuffer: 2 ** 28,
    })
    expect(run.stderr).toBe('')
    const expected = JSON.parse(run.stdout) as number[][]
    let next = 0
    expect(await wrongIds(await loadTokenizer(model), texts, () => expected[next++]!)).toEqual([])
  }, 600_000)

  /** tiktoken with Llama 3's ranks and an expression. */
  const tiktoken = (expression: string) =>
    new Tiktoken(readFileSync(dataPath('tokenizer', 'llama3-tokenizer.model'), 'utf8'), {}, expression)

  interface Pieces {
    expressions: Record<string, string[]>
  }
  const expressions = available
    ? (
        JSON.parse(
          gunzipSync(readFileSync(dataPath('tokenizer', 'pre', 'pieces.json.gz'))).toString(),
        ) as Pieces
      ).expressions
    : {}
  const single = Object.entries(expressions).filter(
    ([name, steps]) => steps.length === 1 && name !== 'superbpe',
  )

  test('there are single expressions to test', () => expect(single.length).toBeGreaterThan(5))

  test.each(single)(
    'tiktoken with the expression of %s',
    async (_name, [expression]) => {
      const file = join(scratch, 'tokenizer.json')
      writeFileSync(file, JSON.stringify(withExpression(expression!)))
      const oracle = tiktoken(expression!)
      expect(
        await wrongIds(await loadTokenizer(file), texts, (text) => oracle.encode_ordinary(text)),
      ).toEqual([])
      oracle.free()
    },
    600_000,
  )

  test('tiktoken with Llama 3, from its rank file', async () => {
    const [expression] = expressions[Object.keys(expressions)[0]!]!
    const oracle = tiktoken(expression!)
    const tokenizer = await loadTokenizer(dataPath('tokenizer', 'llama3-tokenizer.model'))
    const other = randomStrings(15)
    expect(await wrongIds(tokenizer, other, (text) => oracle.encode_ordinary(text))).toEqual([])
    oracle.free()
  }, 600_000)

  test('tiktoken with tekken', async () => {
    interface Tekken {
      config: { pattern: string; default_vocab_size: number; default_num_special_tokens: number }
      vocab: { rank: number; token_bytes: string }[]
    }
    const bytes = gunzipSync(readFileSync(dataPath('tokenizer', 'pre', 'tekken.json.gz')))
    const { config, vocab } = JSON.parse(bytes.toString()) as Tekken
    const specials = config.default_num_special_tokens
    const ranks = vocab
      .slice(0, config.default_vocab_size - specials)
      .map(({ rank, token_bytes }) => `${token_bytes} ${rank}`)
      .join('\n')
    const file = join(scratch, 'tekken.json')
    writeFileSync(file, bytes)
    const oracle = new Tiktoken(ranks, {}, config.pattern)
    const ids = (text: string) => oracle.encode_ordinary(text).map((id) => id + specials)
    expect(await wrongIds(await loadTokenizer(file), texts, ids)).toEqual([])
    oracle.free()
  }, 600_000)
})

/** Llama 3's tokenizer.json with another expression. */
function withExpression(expression: string): unknown {
  const json = JSON.parse(
    gunzipSync(readFileSync(dataPath('tokenizer', 'llama3-tokenizer.json.gz'))).toString(),
  ) as { pre_tokenizer: { pretokenizers: [{ pattern: { Regex: string } }] } }
  json.pre_tokenizer.pretokenizers[0].pattern.Regex = expression
  return json
}
