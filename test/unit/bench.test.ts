/** `cria bench` and its parts. Speeds are not checked: the machine that runs tests is busy. */

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type BenchOptions, bench, checkBenchOptions } from '../../lib/bench/bench'
import { figure } from '../../lib/bench/figures'
import { FILE_TYPES, SHAPE_NAMES, shapeOf, tensorBytes, tensorPlan } from '../../lib/bench/shapes'
import { parseSynthetic, syntheticFile } from '../../lib/bench/synthetic'
import { benchTable } from '../../lib/bench/table'
import { limits, workloadOf } from '../../lib/bench/workload'
import { CriaError, inspect, loadModel } from '../../lib/index'
import { DTYPES, elementsOf } from '../../lib/kernels/dtypes'
import { demo, scratchFolder } from './real_models'

const { folder } = scratchFolder()
const root = join(__dirname, '..', '..')
const tiny = (type: string, shape = 'test-tiny') =>
  syntheticFile(parseSynthetic(`${shape}:${type}`), { folder })
const hash = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex')

describe('shapes', () => {
  test.each([
    ['llama-3.2-1b', 1_235_814_400],
    ['llama-3.2-3b', 3_212_749_824],
    ['llama-3.1-8b', 8_030_261_248],
    ['llama-2-7b', 6_738_415_616],
  ])('%s has its number of weights', (name, parameters) => {
    const plan = tensorPlan(shapeOf(name)!, 'F32')
    expect(plan.reduce((sum, { dims }) => sum + elementsOf(dims), 0)).toBe(parameters)
  })

  test('every type fits every shape', () => {
    for (const name of SHAPE_NAMES)
      for (const type of FILE_TYPES)
        for (const tensor of tensorPlan(shapeOf(name)!, type)) {
          expect(tensor.dims[0]! % DTYPES[tensor.type].block).toBe(0)
          expect(Number.isInteger(tensorBytes(tensor))).toBe(true)
        }
  })

  test.each([
    // Of 16 layers: the first and last two, and every third in between.
    ['Q4_K_M', 'Q4_K', [0, 1, 4, 7, 10, 13, 14, 15]],
    ['Q5_K_M', 'Q5_K', [0, 1, 4, 7, 10, 13, 14, 15]],
  ])('%s keeps half of two matrices in Q6_K', (type, base, layers) => {
    const plan = tensorPlan(shapeOf('llama-3.2-1b')!, type)
    const types = new Map(plan.map((tensor) => [tensor.name, tensor.type]))
    for (let layer = 0; layer < 16; layer++) {
      const type = layers.includes(layer) ? 'Q6_K' : base
      expect(types.get(`blk.${layer}.attn_v.weight`)).toBe(type)
      expect(types.get(`blk.${layer}.ffn_down.weight`)).toBe(type)
      expect(types.get(`blk.${layer}.attn_q.weight`)).toBe(base)
    }
    expect(types.get('token_embd.weight')).toBe('Q6_K')
    const untied = new Map(
      tensorPlan(shapeOf('llama-3.1-8b')!, type).map((tensor) => [tensor.name, tensor.type]),
    )
    expect(untied.get('token_embd.weight')).toBe(base)
    expect(untied.get('output.weight')).toBe('Q6_K')
  })
})

describe('synthetic models', () => {
  test.each(FILE_TYPES)('%s loads, and its numbers are finite', async (type) => {
    const model = await loadModel(await tiny(type), { contextLength: 64 })
    try {
      expect(model.info.name).toBe(`synthetic test-tiny:${type}`)
      const logits = await model.logits([1, 300, 400])
      expect(logits.every(Number.isFinite)).toBe(true)
      // Neither all equal nor huge.
      const spread = Math.max(...logits) - Math.min(...logits)
      expect(spread).toBeGreaterThan(1e-3)
      expect(spread).toBeLessThan(1e3)
      const { tokens } = await model.generate('hello there', {
        maxTokens: 8,
        ignoreEos: true,
        temperature: 0,
      })
      expect(tokens).toHaveLength(8)
    } finally {
      await model.dispose()
    }
  })

  test('an untied model has an output matrix', async () => {
    const { tensors } = await inspect(await tiny('Q4_K_M', 'test-tiny-untied'))
    expect(tensors.find(({ name }) => name === 'output.weight')?.type).toBe('Q6_K')
  })

  test('the vocabulary can encode any text', async () => {
    const model = await loadModel(await tiny('Q8_0'), { contextLength: 64 })
    for (const text of ['hello', 'Žluťoučký kůň', '🦙'])
      expect(await model.tokenizer.decode(await model.tokenizer.encode(text))).toContain(text)
    await model.dispose()
  })

  test('the file has the same bytes every time and is written once', async () => {
    const path = await tiny('Q4_0')
    const first = hash(path)
    const { ino, mtimeMs } = statSync(path)
    expect(await tiny('Q4_0')).toBe(path)
    expect(statSync(path)).toMatchObject({ ino, mtimeMs })
    await syntheticFile(parseSynthetic('test-tiny:Q4_0'), { folder, anew: true })
    expect(statSync(path).ino).not.toBe(ino)
    expect(hash(path)).toBe(first)
  })

  test('a broken file in the cache is replaced', async () => {
    const path = await tiny('Q4_1')
    const whole = hash(path)
    writeFileSync(path, 'GGUF')
    await tiny('Q4_1')
    expect(hash(path)).toBe(whole)
  })

  test('aborting leaves no file behind', async () => {
    const stop = new AbortController()
    const before = readdirSync(folder).sort()
    const seen: number[] = []
    const writing = syntheticFile(parseSynthetic('test-tiny-untied:F32'), {
      folder,
      signal: stop.signal,
      onProgress: ({ fraction }) => {
        seen.push(fraction)
        if (fraction > 0.3) stop.abort()
      },
    })
    await expect(writing).rejects.toMatchObject({ code: 'ERR_ABORTED' })
    expect(seen.at(-1)).toBeLessThan(0.9)
    expect(readdirSync(folder).sort()).toEqual(before)
  })

  test('a folder that cannot be written is an error', async () => {
    const writing = syntheticFile(parseSynthetic('test-tiny:F16'), { folder: join(__filename, 'below') })
    await expect(writing).rejects.toMatchObject({
      code: 'ERR_IO',
      message: expect.stringContaining('cannot write'),
    })
  })

  test.each([
    ['lama-3.2-1b:Q4_K_M', "did you mean 'llama-3.2-1b'?"],
    ['llama-3.2-1b:Q4_KM', "did you mean 'Q4_K_M'?"],
    ['llama-3.2-1b', 'one of the types F32'],
    ['', 'one of the shapes llama-3.2-1b'],
    ['llama-3.2-1b:Q4_0:x', 'got "llama-3.2-1b:Q4_0:x"'],
  ])('refuses %j', (spec, message) => {
    expect(() => parseSynthetic(spec)).toThrow(CriaError)
    expect(() => parseSynthetic(spec)).toThrow(message)
  })

  test('names are case-insensitive', () => {
    expect(parseSynthetic('Llama-3.2-1B:q4_k_m').fileName).toBe(
      parseSynthetic('llama-3.2-1b:Q4_K_M').fileName,
    )
  })
})

test('figures', () => {
  expect(figure('x', [3, 1, 2])).toEqual({ unit: 'x', median: 2, min: 1, max: 3, samples: [3, 1, 2] })
  expect(figure('x', [4, 1, 2, 3]).median).toBe(2.5)
})

describe('workload and limits', () => {
  const ceilings = { threads: 1, readGBs: 10, int8GMacs: 100, f32GMacs: 20, bf16GMacs: 0 }

  test('a tied model reads every weight, an untied one all but the embedding', async () => {
    const tied = await inspect(await tiny('Q4_0'))
    const all = tied.tensors.reduce((sum, { bytes }) => sum + bytes, 0)
    expect((await workloadOf(tied.path)).weightBytesPerToken).toBe(all)

    const untied = await inspect(await tiny('Q4_K_M', 'test-tiny-untied'))
    const rest = untied.tensors.reduce(
      (sum, { name, bytes }) => sum + (name === 'token_embd.weight' ? 0 : bytes),
      0,
    )
    expect((await workloadOf(untied.path)).weightBytesPerToken).toBe(rest)
  })

  test('limits', async () => {
    const work = await workloadOf(await tiny('Q4_0'))
    // Two layers of 256: q, k, v, output; gate, up, down of 512. Two KV heads of 64, f16.
    expect(work).toMatchObject({
      promptMacsPerToken: 2 * (256 * 256 * 2 + 256 * 128 * 2 + 3 * 256 * 512),
      kvBytesPerToken: 2 * 2 * 2 * 64 * 2,
      arithmetic: 'int8',
    })
    expect((await workloadOf(await tiny('Q4_0'), 'f32')).kvBytesPerToken).toBe(2 * work.kvBytesPerToken)
    const { prompt, decode } = limits(work, ceilings, 10)
    expect(prompt).toBeCloseTo(100e9 / work.promptMacsPerToken)
    expect(decode).toBeCloseTo(10e9 / (work.weightBytesPerToken + 10 * work.kvBytesPerToken))
    expect(limits(work, { ...ceilings, int8GMacs: 0, readGBs: 0 }, 0)).toEqual({})
  })

  test.each([
    ['F16', 'f32', 20],
    ['BF16', 'bf16', 20],
    ['Q6_K', 'int8', 100],
  ])('%s runs on %s', async (type, arithmetic, gmacs) => {
    const work = await workloadOf(await tiny(type))
    expect(work.arithmetic).toBe(arithmetic)
    expect(limits(work, ceilings, 0).prompt).toBeCloseTo((gmacs * 1e9) / work.promptMacsPerToken)
  })
})

describe('bench', () => {
  test.each<[Partial<BenchOptions>, string]>([
    [{ batch: 65 }, "option 'batch' must be an integer from 1 to 64, got 65"],
    [{ repeat: 0 }, "option 'repeat' must be an integer from 1 to 1000, got 0"],
    [{ prompt: 0, decode: 0 }, "option 'decode' must be more than 0 when option 'prompt' is 0"],
    [{ path: undefined as unknown as string }, "option 'path' must be a string"],
    [{ promt: 1 } as Partial<BenchOptions>, "unknown option 'promt'; did you mean 'prompt'?"],
  ])('refuses %j', (options, message) => {
    expect(() => checkBenchOptions({ path: demo, ...options })).toThrow(message)
  })

  test('measures several requests that decode at the same time', async () => {
    const result = await bench({
      path: await tiny('Q8_0'),
      prompt: 0,
      decode: 6,
      context: 3,
      batch: 5,
      repeat: 1,
      threads: 1,
    })
    expect(result.figures.decode?.median).toBeGreaterThan(0)
    expect(result.limits.decode).toBeGreaterThan(0)
    expect(benchTable(result)).toMatch(/^decode of 6 after 3, 5 at once, tokens\/s .* % of the limit/m)
  })

  test('measures a model, and prints it as a table', async () => {
    const phases: string[] = []
    const result = await bench({
      path: await tiny('Q4_K_M'),
      prompt: 40,
      decode: 5,
      context: 30,
      repeat: 2,
      threads: 1,
      onPhase: (phase) => phases.push(phase),
    })
    expect(phases).toEqual(
      expect.arrayContaining(['loading', 'warming up', 'round 2 of 2', 'measuring the machine']),
    )
    expect(result.settings).toEqual({ prompt: 40, decode: 5, context: 30, batch: 1, repeat: 2, threads: 1 })
    for (const [name, { samples, median }] of Object.entries(result.figures)) {
      expect([name, samples.length]).toEqual([name, 2])
      expect(median).toBeGreaterThan(0)
    }
    expect(result.machine.ceilings.threads).toBe(1)
    expect(result.machine.ceilings.readGBs).toBeGreaterThan(0.1)
    expect(result.memory.peak).toBe(result.memory.weights + result.memory.kv + result.memory.rest)
    expect(JSON.parse(JSON.stringify(result))).toEqual(result)

    const table = benchTable(result)
    expect(table).toMatch(/^synthetic test-tiny:Q4_K_M: /)
    expect(table).toMatch(/^prompt of 40, tokens\/s .* G multiply-adds\/s/m)
    expect(table).toMatch(/^decode of 5 after 30, tokens\/s .* GB\/s, \d+ % of the memory's /m)
    expect(table).toMatch(/^peak memory /m)
    for (const line of table.split('\n')) expect(line).toBe(line.trimEnd())
  })

  test('measures decoding alone', async () => {
    const { figures } = await bench({ path: await tiny('Q4_0'), prompt: 0, decode: 3, repeat: 1 })
    expect(Object.keys(figures).sort()).toEqual(['decode', 'firstToken', 'load'])
  })

  test('stops when aborted', async () => {
    const stop = new AbortController()
    const path = await tiny('Q4_0')
    const onPhase = (phase: string) => phase === 'warming up' && stop.abort()
    await expect(bench({ path, prompt: 20, onPhase, signal: stop.signal })).rejects.toMatchObject({
      code: 'ERR_ABORTED',
    })
  })
})

describe('the command', () => {
  const cria = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [join(root, 'dist', 'cli', 'main.js'), 'bench', ...args],
      { encoding: 'utf8', env: { ...process.env, XDG_CACHE_HOME: join(folder, 'cache') } },
    )
    return { status, stdout, stderr }
  }
  const quick = ['--prompt', '20', '--decode', '3', '--repeat', '1']

  test('prints a table, writes the result to a file, and keeps the model in the cache', () => {
    const json = join(folder, 'result.json')
    const { status, stdout, stderr } = cria('--synthetic', 'test-tiny:Q4_0', ...quick, '--json', json)
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(stdout).toMatch(/^decode of 3, tokens\/s/m)
    const result = JSON.parse(readFileSync(json, 'utf8'))
    expect(result.command).toBe(`cria bench --synthetic test-tiny:Q4_0 ${quick.join(' ')} --json ${json}`)
    expect(result.figures.prompt.samples).toHaveLength(1)
    expect(readdirSync(join(folder, 'cache', 'cria', 'bench'))).toEqual(['test-tiny.Q4_0.v1.gguf'])
  })

  test('--json - and --no-cache', () => {
    const { status, stdout } = cria('--synthetic', 'test-tiny:Q8_0', ...quick, '--json', '-', '--no-cache')
    expect(status).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({ model: { name: 'synthetic test-tiny:Q8_0' } })
    expect(readdirSync(join(folder, 'cache', 'cria', 'bench'))).not.toContain('test-tiny.Q8_0.v1.gguf')
  })

  test.each([
    [[], expect.stringMatching(/^cria: bench needs one model: --model <file> or --synthetic .*\n$/)],
    [['--model', demo, '--synthetic', 'test-tiny:Q4_0'], expect.stringContaining('bench needs one model')],
    [['--model', demo, '--no-cache'], 'cria: --no-cache needs --synthetic\n'],
    [['file.gguf'], "cria: bench takes options only, got 'file.gguf'; name the file with --model\n"],
    [
      ['--synthetic', 'test-tiny:Q4_0', '--batch', '0'],
      expect.stringContaining("option 'batch' must be an integer"),
    ],
    [['--synthetic', 'x:Q4_0'], expect.stringContaining('one of the shapes')],
    [['--synthetic', 'test-tiny:Q4_0', '--threads', '0'], expect.stringContaining("option 'threads'")],
    [['--prompt', 'many'], "cria: --prompt needs an integer, got 'many'\n"],
  ])('%j is a usage error', (args, stderr) => {
    expect(cria(...args)).toEqual({ status: 2, stdout: '', stderr })
  })

  test('help', () => {
    const { status, stdout } = cria('--help')
    expect(status).toBe(0)
    for (const name of [...SHAPE_NAMES, ...FILE_TYPES, '--context']) expect(stdout).toContain(name)
    expect(stdout).not.toContain('test-tiny')
    for (const line of stdout.split('\n')) expect(line.length).toBeLessThanOrEqual(100)
  })
})

test('bench/plot.mjs draws a comparison', () => {
  const engines = (cria: number, peer: number) => ({
    cria: figure('tokens/s', [cria]),
    'node-llama-cpp': figure('tokens/s', [peer]),
    ratio: figure('', [cria / peer]),
  })
  const result = {
    date: '2030-01-02T03:04:05.000Z',
    settings: { prompt: 512, decode: 64, rounds: 5, threads: 2 },
    machine: { cpu: 'A <processor>', isa: 'avx2' },
    versions: { 'node-llama-cpp': '1.2.3' },
    results: [
      {
        type: 'Q4_0',
        model: { name: 'llama:Q4_0' },
        limits: { prompt: 500, decode: 80 },
        prompt: engines(400, 100),
        decode: engines(60, 20),
      },
      { type: 'F16', model: { name: 'x' }, limits: {}, prompt: engines(90, 30), decode: engines(24, 12) },
    ],
  }
  const [from, to] = [join(folder, 'peers.json'), join(folder, 'plot.svg')]
  writeFileSync(from, JSON.stringify(result))
  const { status, stderr } = spawnSync(process.execPath, [join(root, 'bench', 'plot.mjs'), from, to])
  expect({ status, stderr: String(stderr) }).toEqual({ status: 0, stderr: '' })
  const svg = readFileSync(to, 'utf8')
  expect(svg).toMatch(/^<svg [^>]*viewBox/)
  expect(svg).toContain('400 (4.0 x)')
  expect(svg).toContain('A &#60;processor&#62;')
  expect(svg).not.toMatch(/NaN|undefined|Infinity/)
  // Every element is closed.
  const open = [...svg.matchAll(/<(\/?)(\w+)[^>]*?(\/?)>/g)].reduce(
    (depth, [, end, , empty]) => depth + (end ? -1 : empty ? 0 : 1),
    0,
  )
  expect(open).toBe(0)
})
