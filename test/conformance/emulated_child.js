/**
 * The golden cases on the emulated CUDA device, in a process of its own: CRIA_BINARY names the addon that has it. The public
 * API knows no such device, so the model is loaded through the addon. Arguments: the data folder, tokens to generate, the
 * inputs of the cases of arch/ (JSON).
 * Prints one JSON object.
 */
const { readFileSync } = require('node:fs')
const { join } = require('node:path')
const { addon } = require('../../dist/binding.js')
const { Model } = require('../../dist/model.js')

async function load(path, kvDtype, { gpuLayers = -1, contextLength = 0 } = {}) {
  const options = {
    path,
    device: 'cuda-emulated',
    gpuLayers,
    threads: 1,
    contextLength,
    kvMemory: 0,
    kvDtype,
  }
  return Model.create(
    await addon().loadModel(
      { ...options, prefillChunk: 0, maxQueue: 16, mmap: false, adapters: [], quantize: '', imatrix: '' },
      null,
    ).promise,
  )
}

const quantizedCases = (read) =>
  ['golden.json', 'golden-more.json'].flatMap((name) => read('quantized', name).cases)

async function main(folder, maxTokens, archCases) {
  const read = (...parts) => JSON.parse(readFileSync(join(folder, ...parts), 'utf8'))
  const result = { stories: [], quantized: [], arch: [] }
  const file = join(folder, 'tinystories-260k', 'gguf', 'tinystories-260k-f32.gguf')
  const exact = await load(file, 'f32')
  const half = await load(file, 'f16')
  result.device = exact.info.device
  result.deviceReason = exact.info.deviceReason
  const { cases } = read('tinystories-260k', 'golden.json')
  // At once: the sequences share each emulated product.
  result.stories = await Promise.all(
    cases.map(async ({ promptIds, greedyIds }) => {
      const options = { temperature: 0, maxTokens: Math.min(maxTokens, greedyIds.length), ignoreEos: true }
      const [a, b] = await Promise.all([exact, half].map((model) => model.generate(promptIds, options)))
      return {
        logits: [...(await exact.logits(promptIds))],
        halfLogits: [...(await half.logits(promptIds))],
        ids: [...a.tokens],
        halfIds: [...b.tokens],
      }
    }),
  )
  result.divided = []
  for (let gpuLayers = 0; gpuLayers <= exact.info.layers; gpuLayers++) {
    const model = await load(file, 'f16', { gpuLayers })
    const [{ promptIds }] = cases
    const { tokens } = await model.generate(promptIds, { temperature: 0, maxTokens: 16, ignoreEos: true })
    const logits = [...(await model.logits(promptIds))]
    result.divided.push({ info: model.info, ids: [...tokens], logits })
    await model.dispose()
  }
  await Promise.all([exact.dispose(), half.dispose()])
  for (const { file: name, ids } of quantizedCases(read)) {
    const model = await load(join(folder, 'quantized', name), 'f32')
    result.quantized.push({ file: name, logits: [...(await model.logits(ids))] })
    await model.dispose()
  }
  for (const { file: name, ids, mid, contextLength } of archCases) {
    // Half of the layers on the CPU: a layer's scales and biases are on its own side.
    for (const gpuLayers of [-1, 1]) {
      const model = await load(join(folder, 'arch', name), 'f32', { gpuLayers, contextLength })
      const logitsAtMid = [...(await model.logits(ids.slice(0, mid)))]
      const logits = gpuLayers < 0 ? [...(await model.logits(ids))] : undefined
      result.arch.push({ file: name, logitsAtMid, logits })
      await model.dispose()
    }
  }
  process.stdout.write(JSON.stringify(result))
}

main(process.argv[2], Number(process.argv[3]), JSON.parse(process.argv[4]))
