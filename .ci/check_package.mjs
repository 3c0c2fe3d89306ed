// Checks the package as npm would publish it: its files, and that it runs where only Node is installed.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))

const REQUIRED = [
  'CHANGELOG.md',
  'LICENSE',
  'README.md',
  'dist/cli/main.js',
  'dist/index.d.mts',
  'dist/index.d.ts',
  'dist/index.js',
  'dist/index.mjs',
  'dist/kernels.d.mts',
  'dist/kernels.d.ts',
  'dist/kernels.js',
  'dist/kernels.mjs',
  'models/demo.gguf',
  'package.json',
  `prebuilds/${process.platform}-${process.arch}/cria.node`,
]
const ALLOWED = new RegExp(
  [
    '^dist/.+\\.(js|mjs|d\\.ts|d\\.mts)$',
    '^prebuilds/[a-z0-9+-]+/cria\\.node$',
    '^models/demo\\.gguf$',
    '^[A-Z]+(\\.md)?$',
    '^package\\.json$',
  ].join('|'),
)

/** With the CUDA kernels of every architecture. */
const MAX_ADDON_BYTES = 25e6

function run(command, args, cwd) {
  const { status, stdout, error } = spawnSync(command, args, {
    cwd,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  if (error) throw error
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: exit code ${status}\n${stdout}`)
  return stdout
}

function check(condition, problem) {
  if (!condition) throw new Error(problem)
}

const scratch = mkdtempSync(join(tmpdir(), 'cria-package-'))

/** Runs a script as an ES module and as CommonJS. */
function runScripts(name, imports, from, body) {
  const scripts = {
    [`${name}.mjs`]: `import { ${imports} } from '${from}'\n${body}`,
    [`${name}.cjs`]: `const { ${imports} } = require('${from}')\n;(async () => {${body}})()`,
  }
  for (const [file, script] of Object.entries(scripts)) {
    writeFileSync(join(scratch, file), script)
    run(process.execPath, [file], scratch)
  }
}

try {
  const [pack] = JSON.parse(run('npm', ['pack', '--json', '--pack-destination', scratch], root))
  const files = pack.files.map(({ path }) => path)
  const missing = REQUIRED.filter((path) => !files.includes(path))
  const foreign = files.filter((path) => !ALLOWED.test(path))
  const addon = readFileSync(join(root, REQUIRED.at(-1)))
  check(
    addon.length <= MAX_ADDON_BYTES,
    `the addon has ${addon.length} bytes; the limit is ${MAX_ADDON_BYTES}`,
  )
  check(!addon.includes('cuda-emulated'), 'the addon contains the emulated device, which is for tests')
  check(missing.length === 0, `the package lacks ${missing.join(', ')}`)
  check(foreign.length === 0, `the package holds ${foreign.join(', ')}`)
  const sizes = `${pack.size} bytes packed, ${pack.unpackedSize} unpacked`
  console.log(`${pack.filename}: ${files.length} files, ${sizes}`)

  // Installs it into an empty project, without install scripts.
  writeFileSync(join(scratch, 'package.json'), '{ "private": true }')
  run(
    'npm',
    ['install', '--ignore-scripts', '--no-audit', '--no-fund', join(scratch, pack.filename)],
    scratch,
  )
  const story = `
    const model = await loadModel(demoModelPath())
    const { tokens, text } = await model.generate('Once upon a time', { maxTokens: 5, ignoreEos: true })
    await model.dispose()
    if (tokens.length !== 5 || text === '') throw new Error('no text')`
  const norm = `
    const [y] = await kernels.rmsNorm(Float32Array.of(2), Float32Array.of(3), { eps: 0 })
    if (y !== 3) throw new Error('a wrong norm')`
  runScripts('norm', 'kernels', 'cria/kernels', norm)
  runScripts('story', 'loadModel, demoModelPath', 'cria', story)
  const generate = ['cria', 'generate', '--max-tokens', '5', 'Once upon a time']
  const output = run('npx', ['--no-install', ...generate], scratch)
  check(output.trim() !== '', 'the command line wrote nothing')
  console.log('installed without scripts: import, require and the command line work')
} finally {
  rmSync(scratch, { recursive: true, force: true })
}
