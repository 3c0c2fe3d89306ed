/** Processes and threads that end during work: their exit codes, no signal, no output. */

import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { demo } from './real_models'

const root = join(__dirname, '..', '..')
const entry = join(root, 'dist', 'index.js')

interface Outcome {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

function node(script: string, flags: string[] = [], ms = 20_000): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [...flags, '-e', script], { cwd: root, timeout: ms })
    let stdout = ''
    let stderr = ''
    child.stdout.on('data', (data) => {
      stdout += data
    })
    child.stderr.on('data', (data) => {
      stderr += data
    })
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }))
  })
}

const start = `const { loadModel, loadTokenizer } = require(${JSON.stringify(entry)}); const demo = ${JSON.stringify(demo)};
const long = { maxTokens: 400, ignoreEos: true };`
const clean = { code: 0, signal: null, stderr: '' }

test('a process ends by itself after dispose', async () => {
  const script = `${start} (async () => { const m = await loadModel(demo); await m.generate('x', { maxTokens: 3 }); await m.dispose(); console.log('done') })()`
  expect(await node(script)).toEqual({ ...clean, stdout: 'done\n' })
})

test('a process ends by itself with an idle model that was not disposed', async () => {
  const script = `${start} (async () => { const m = await loadModel(demo); await m.generate('x', { maxTokens: 3 }); console.log('done') })()`
  expect(await node(script)).toEqual({ ...clean, stdout: 'done\n' })
})

test('a process waits for a generation that is awaited', async () => {
  const script = `${start} loadModel(demo).then((m) => m.generate('x', { maxTokens: 20, ignoreEos: true })).then((r) => console.log(r.tokens.length))`
  expect(await node(script)).toEqual({ ...clean, stdout: '20\n' })
})

test.each([
  [
    'generation',
    `loadModel(demo).then(async (m) => { for await (const c of m.generate('x', long)) process.exit(3) })`,
  ],
  [
    'generation, from its own callback',
    `loadModel(demo).then((m) => { m.generate('x', long); setTimeout(() => process.exit(3), 5) })`,
  ],
  ['load', `loadModel(demo); setImmediate(() => process.exit(3))`],
  ['load, in its first tick', `loadModel(demo); process.exit(3)`],
  [
    'load, from the progress callback',
    `loadModel(demo, { onProgress: () => process.exit(3) }).then(() => process.exit(3))`,
  ],
  [
    'encode',
    `loadTokenizer(demo).then((t) => { t.encode('hello '.repeat(500000)); setTimeout(() => process.exit(3), 5) })`,
  ],
  ['dispose', `loadModel(demo).then((m) => { m.generate('x', long); m.dispose(); process.exit(3) })`],
  [
    'prefill',
    `loadModel(demo).then((m) => { m.logits(new Array(500).fill(7)); setTimeout(() => process.exit(3), 2) })`,
  ],
])('process.exit in the middle of a %s', async (_name, script) => {
  for (let i = 0; i < 3; i++) {
    expect(await node(`${start} ${script}`)).toEqual({ code: 3, signal: null, stdout: '', stderr: '' })
  }
})

test('an uncaught exception in the middle of a generation', async () => {
  const script = `${start} loadModel(demo).then((m) => { m.generate('x', long); setTimeout(() => { throw new Error('mine') }, 5) })`
  const { code, signal, stderr } = await node(script)
  expect({ code, signal }).toEqual({ code: 1, signal: null })
  expect(stderr).toContain('Error: mine')
})

test('a failed generation that nobody awaits does not end the process', async () => {
  const script = `${start} loadModel(demo).then(async (m) => { m.generate('x', { ...long, signal: AbortSignal.timeout(3) });
    m.generate(new Array(5000).fill(5)); m.chat([{ role: 'user', content: 'x' }], { chatTemplate: '{{ x.y }}' });
    await new Promise((resolve) => setTimeout(resolve, 100)); await m.dispose(); console.log('alive') })`
  expect(await node(script)).toEqual({ ...clean, stdout: 'alive\n' })
})

test('a failure that is awaited without a catch is an unhandled rejection', async () => {
  const script = `${start} loadModel(demo).then(async (m) => { await m.generate(new Array(5000).fill(5)) })`
  const { code, stderr } = await node(script)
  expect(code).toBe(1)
  expect(stderr).toContain('ERR_PROMPT_TOO_LONG')
})

test('unreachable models are collected', async () => {
  const script = `${start} (async () => {
    for (let i = 0; i < 20; i++) { let m = await loadModel(demo, { contextLength: 64 }); await m.generate('x', { maxTokens: 2 }); m = null;
      global.gc(); await new Promise((resolve) => setImmediate(resolve)) }
    console.log('done') })()`
  expect(await node(script, ['--expose-gc'])).toEqual({ ...clean, stdout: 'done\n' })
})

test('a generation continues if its model is unreachable', async () => {
  const script = `${start} (async () => {
    const g = (await loadModel(demo)).generate('x', { maxTokens: 100, ignoreEos: true });
    const collect = setInterval(() => global.gc(), 1); const r = await g; clearInterval(collect);
    console.log(r.tokens.length) })()`
  expect(await node(script, ['--expose-gc'])).toEqual({ ...clean, stdout: '100\n' })
})

test('it works as an ES module, with using', async () => {
  const script = `import { loadModel } from 'cria'; const m = await loadModel(${JSON.stringify(demo)});
    let n = 0; for await (const { tokens } of m.generate('x', { maxTokens: 5, ignoreEos: true })) n += tokens.length;
    await m[Symbol.asyncDispose](); console.log(n)`
  expect(await node(script, ['--input-type=module'])).toEqual({ ...clean, stdout: '5\n' })
})

describe('worker threads', () => {
  /** In another process: a crash in a worker's native code ends the whole process. */
  const inProcess = (script: string): Promise<Outcome> =>
    node(
      `const { Worker } = require('node:worker_threads');
      const once = (worker, event) => new Promise((resolve) => worker.once(event, resolve));
      const start = (script) => {
        const worker = new Worker(${JSON.stringify(`${start} const { parentPort } = require('node:worker_threads');`)} + script, { eval: true });
        worker.on('error', (error) => { console.log(error); process.exit(4) });
        return { worker, message: once(worker, 'message'), exit: once(worker, 'exit') };
      };
      (async () => { ${script} })()`,
      [],
      60_000,
    )

  test('several run at once and give the same text', async () => {
    const script = `(async () => { const m = await loadModel(demo);
      const { text } = await m.generate('Once upon a time', { temperature: 0, maxTokens: 20 });
      await m.dispose(); parentPort.postMessage(text) })()`
    const { stdout, ...rest } = await inProcess(`
      const all = [1, 2, 3].map(() => start(${JSON.stringify(script)}));
      const texts = await Promise.all(all.map(({ message }) => message));
      const codes = await Promise.all(all.map(({ exit }) => exit));
      console.log(new Set(texts).size, codes.join(' '))`)
    expect({ ...rest, stdout }).toEqual({ ...clean, stdout: '1 0 0 0\n' })
  })

  test.each([
    [
      'a generation',
      `loadModel(demo).then(async (m) => { for await (const c of m.generate('x', long)) parentPort.postMessage('running') })`,
    ],
    ['a load', `parentPort.postMessage('running'); loadModel(demo, { onProgress() {} })`],
    [
      'an encode',
      `loadTokenizer(demo).then((t) => { parentPort.postMessage('running'); t.encode('hello '.repeat(100000)) })`,
    ],
    [
      'logits',
      `loadModel(demo).then((m) => { parentPort.postMessage('running'); m.logits(new Array(500).fill(5)) })`,
    ],
    [
      'a dispose',
      `loadModel(demo).then((m) => { parentPort.postMessage('running'); m.generate('x', long); m.dispose() })`,
    ],
  ])('terminate in the middle of %s', async (_name, script) => {
    // At another moment each time.
    expect(
      await inProcess(`for (let i = 0; i < 20; i++) {
        const { worker, message } = start(${JSON.stringify(script)});
        await message;
        await new Promise((resolve) => setTimeout(resolve, i));
        await worker.terminate();
      }
      console.log('done')`),
    ).toEqual({ ...clean, stdout: 'done\n' })
  })

  test('process.exit in a worker ends the worker', async () => {
    const script = `loadModel(demo).then((m) => { m.generate('x', long); setTimeout(() => process.exit(3), 5) })`
    expect(await inProcess(`console.log(await start(${JSON.stringify(script)}).exit)`)).toEqual({
      ...clean,
      stdout: '3\n',
    })
  })
})
