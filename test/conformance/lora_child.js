/**
 * The golden cases of LoRA adapters in a process of its own: CRIA_CPU_ISA is read once per process, and CRIA_BINARY may
 * name the addon with the emulated CUDA device, which is then used. Argument: the data folder. Prints one JSON object.
 */
const { readFileSync } = require('node:fs')
const { join } = require('node:path')
const { addon } = require('../../dist/binding.js')
const { loadModel } = require('../../dist/index.js')
const { Model } = require('../../dist/model.js')

const emulated = process.env.CRIA_BINARY !== undefined

async function load(path, adapters) {
  if (!emulated) return loadModel(path, { kvDtype: 'f32', device: 'cpu', adapters })
  const options = { path, device: 'cuda-emulated', gpuLayers: -1, threads: 1, contextLength: 0, kvMemory: 0 }
  const others = { kvDtype: 'f32', prefillChunk: 0, maxQueue: 64, mmap: false, adapters }
  return Model.create(await addon().loadModel({ ...options, ...others }, null).promise)
}

async function main(folder) {
  const lora = (name) => join(folder, 'lora', name)
  const base = join(folder, 'tinystories-260k', 'gguf', 'tinystories-260k-f32.gguf')
  const { cases } = JSON.parse(readFileSync(lora('golden.json'), 'utf8'))
  const runs = cases.flatMap(({ adapter, ids, greedyIds, atScaleHalf }, index) => {
    const adapters = [adapter].flat().map((name) => ({ path: lora(name), scale: 1 }))
    const one = { index, adapters, ids, tokens: greedyIds.length }
    return atScaleHalf
      ? [one, { ...one, half: true, adapters: adapters.map((a) => ({ ...a, scale: 0.5 })) }]
      : [one]
  })
  const result = { cases: cases.map(() => ({})) }

  const paths = new Set(runs.flatMap(({ adapters }) => adapters.map(({ path }) => path)))
  const loadable = []
  for (const path of paths) {
    try {
      await (await load(base, [{ path, scale: 1 }])).dispose()
      loadable.push(path)
    } catch (error) {
      for (const { index, adapters } of runs) {
        if (adapters.some((a) => a.path === path))
          result.cases[index].error = `${error.code}: ${error.message}`
      }
    }
  }

  const model = await load(
    base,
    loadable.map((path) => ({ path, scale: 1 })),
  )
  result.device = model.info.device
  result.adapters = model.info.adapters
  const possible = runs.filter(({ index }) => result.cases[index].error === undefined)
  const tokens = emulated ? 4 : Infinity
  for (const run of possible) {
    if (run.half) result.cases[run.index].half = {}
    run.into = run.half ? result.cases[run.index].half : result.cases[run.index]
    run.into.alone = [...(await model.logits(run.ids, { adapters: run.adapters }))]
  }
  // Different sets of adapters share the steps.
  await Promise.all(
    possible.map(async ({ ids, adapters, tokens: n, into }) => {
      const options = { temperature: 0, maxTokens: Math.min(tokens, n), ignoreEos: true, adapters }
      const [logits, generated] = await Promise.all([
        model.logits(ids, { adapters }),
        model.generate(ids, options),
      ])
      into.together = [...logits]
      into.greedyIds = [...generated.tokens]
    }),
  )
  await model.dispose()
  process.stdout.write(JSON.stringify(result))
}

main(process.argv[2])
