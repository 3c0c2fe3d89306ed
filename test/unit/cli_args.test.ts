import { parseCommandLine, UsageError } from '../../lib/cli/args'
import { helpText } from '../../lib/cli/help'

const usage = (argv: string[]): string => {
  try {
    parseCommandLine(argv)
  } catch (error) {
    expect(error).toBeInstanceOf(UsageError)
    const { message } = error as UsageError
    expect(message).not.toContain('\n')
    return message
  }
  throw new Error('it did not throw')
}

test('every flag of generate reaches its option', () => {
  const argv =
    'generate -m a.gguf --device cuda --gpu-layers 3 --threads 2 --ctx 128 --kv-memory 1GB --kv-dtype f32 --mmap --lora /a/b.gguf --lora /a/c:0.5 -n 5 -t 0.5 --top-k 3 ' +
    '--top-p 0.9 --min-p 0 --typical-p 1 --repetition-penalty 1.1 --frequency-penalty=-1 --presence-penalty 1 -s 7 ' +
    '--stop a --stop b --ignore-eos --json prompt'
  expect(parseCommandLine(argv.split(' '))).toEqual({
    command: 'generate',
    model: 'a.gguf',
    json: true,
    prompt: 'prompt',
    load: {
      device: 'cuda',
      gpuLayers: 3,
      threads: 2,
      contextLength: 128,
      kvMemory: '1GB',
      kvDtype: 'f32',
      mmap: true,
      adapters: [
        { path: '/a/b.gguf', scale: 1 },
        { path: '/a/c', scale: 0.5 },
      ],
    },
    generation: {
      maxTokens: 5,
      temperature: 0.5,
      topK: 3,
      topP: 0.9,
      minP: 0,
      typicalP: 1,
      repetitionPenalty: 1.1,
      frequencyPenalty: -1,
      presencePenalty: 1,
      seed: 7,
      stop: ['a', 'b'],
      ignoreEos: true,
    },
  })
})

test('chat', () => {
  expect(parseCommandLine(['chat', '--system', 's', '--template', 't.jinja', 'hi'])).toMatchObject({
    command: 'chat',
    system: 's',
    templateFile: 't.jinja',
    prompt: 'hi',
  })
  expect(parseCommandLine(['chat']).prompt).toBeUndefined()
})

test('inspect takes its file as an argument or by --model', () => {
  expect(parseCommandLine(['inspect', 'a.gguf', '--json'])).toMatchObject({ model: 'a.gguf', json: true })
  expect(parseCommandLine(['inspect', '-m', 'a.gguf'])).toMatchObject({ model: 'a.gguf' })
  expect(usage(['inspect', '-m', 'a.gguf', 'b.gguf'])).toBe(
    "inspect takes one file, got 'a.gguf' and 'b.gguf'",
  )
})

test('pull, ls and rm', () => {
  expect(parseCommandLine(['pull', 'hf:a/b', 'hf:c/d', '--cache-dir', '/c', '--offline'])).toMatchObject({
    command: 'pull',
    models: ['hf:a/b', 'hf:c/d'],
    hub: { cacheDir: '/c', offline: true },
  })
  expect(parseCommandLine(['ls', '--json'])).toMatchObject({ command: 'ls', json: true, hub: {} })
  expect(parseCommandLine(['rm', 'hf:a/b'])).toMatchObject({ command: 'rm', models: ['hf:a/b'] })
  expect(usage(['ls', 'hf:a/b'])).toBe("ls takes options only, got 'hf:a/b'")
})

test('convert, perplexity and imatrix take files', () => {
  expect(
    parseCommandLine('convert a.gguf b.gguf -t Q8_0 --imatrix i.gguf --requantize'.split(' ')),
  ).toMatchObject({
    command: 'convert',
    files: ['a.gguf', 'b.gguf'],
    convert: { type: 'Q8_0', imatrix: 'i.gguf', requantize: true },
  })
  const line =
    'perplexity -m a.gguf text --compare b.gguf --state s.json --chunk 128 --chunks 3 --quantize Q4_0'
  expect(parseCommandLine(line.split(' '))).toMatchObject({
    command: 'perplexity',
    model: 'a.gguf',
    files: ['text'],
    measure: { compare: 'b.gguf', state: 's.json', chunkTokens: 128, maxChunks: 3, quantize: 'Q4_0' },
  })
  expect(parseCommandLine('imatrix -m a.gguf text out.gguf --chunks 2'.split(' '))).toMatchObject({
    command: 'imatrix',
    files: ['text', 'out.gguf'],
    measure: { maxChunks: 2 },
  })
})

test('the prompt - is standard input, and -- ends the options', () => {
  expect(parseCommandLine(['generate', '-']).prompt).toBe('-')
  expect(parseCommandLine(['generate', '--', '--json']).prompt).toBe('--json')
})

test('limits and large seeds', () => {
  expect(parseCommandLine(['generate', '-n', 'inf']).generation.maxTokens).toBe(Infinity)
  expect(parseCommandLine(['generate', '-s', '18446744073709551615']).generation.seed).toBe(2n ** 64n - 1n)
})

test.each([
  [['genrate'], "unknown command 'genrate'; did you mean 'generate'?"],
  [['zzz'], "unknown command 'zzz'; see cria --help"],
  [['generate', '--temprature', '1'], "unknown option '--temprature'; did you mean '--temperature'?"],
  [['generate', '--max_tokens', '1'], "unknown option '--max_tokens'; did you mean '--max-tokens'?"],
  [['generate', '--zzzzzzz'], "unknown option '--zzzzzzz'; see cria generate --help"],
  [['generate', '--threads', '1.5'], "--threads needs an integer, got '1.5'"],
  [['generate', '--temperature', 'hot'], "--temperature needs a number, got 'hot'"],
  [['generate', '--temperature', ''], "--temperature needs a number, got ''"],
  [['generate', '--seed', '-'], "--seed needs an integer, got '-'"],
  [['generate', 'a', 'b'], 'generate takes one prompt, got 2; put it in quotes'],
  [['inspect', '--seed', '1'], "unknown option '--seed'; see cria inspect --help"],
])('%j: %s', (argv, message) => expect(usage(argv)).toBe(message))

test('an option without its value', () => {
  expect(usage(['generate', '--model'])).toMatch(/--model/)
  expect(usage(['generate', '--json=yes'])).toMatch(/--json/)
})

test('help and version', () => {
  expect(parseCommandLine([])).toMatchObject({ command: 'help' })
  expect(parseCommandLine(['--help'])).toMatchObject({ command: 'help' })
  expect(parseCommandLine(['help', 'chat'])).toMatchObject({ command: 'help', topic: 'chat' })
  expect(parseCommandLine(['generate', '--help'])).toMatchObject({ command: 'help', topic: 'generate' })
  expect(parseCommandLine(['--version'])).toMatchObject({ command: 'version' })
  for (const topic of [
    'generate',
    'chat',
    'inspect',
    'pull',
    'ls',
    'rm',
    'bench',
    'bench kernels',
  ] as const) {
    expect(helpText(topic)).toContain(`cria ${topic}`)
    for (const line of helpText(topic).split('\n')) expect(line.length).toBeLessThanOrEqual(100)
  }
})
