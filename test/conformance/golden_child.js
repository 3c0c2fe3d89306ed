/**
 * Runs the golden cases in a process of its own, since CRIA_CPU_ISA is read once per process. Arguments: the data folder
 * and the number of threads. Prints one JSON object.
 */
const { readFileSync } = require('node:fs')
const { join } = require('node:path')
const { cpuInfo, loadModel } = require('../../dist/index.js')

const quantizedCases = (read) =>
  ['golden.json', 'golden-more.json'].flatMap((name) => read('quantized', name).cases)

async function main(folder, threads) {
  const read = (...parts) => JSON.parse(readFileSync(join(folder, ...parts), 'utf8'))
  const stories = read('tinystories-260k', 'golden.json').cases
  const storiesFile = join(folder, 'tinystories-260k', 'gguf', 'tinystories-260k-f32.gguf')
  const result = { isa: cpuInfo().isa, stories: [], quantized: [] }

  const exact = await loadModel(storiesFile, { kvDtype: 'f32', threads })
  const half = await loadModel(storiesFile, { threads })
  result.modelIsa = exact.info.isa
  result.threads = exact.info.threads
  for (const { prompt, promptIds, greedyIds } of stories) {
    const generated = await exact.generate(promptIds, {
      temperature: 0,
      maxTokens: greedyIds.length,
      ignoreEos: true,
    })
    result.stories.push({
      promptIds: [...(await exact.tokenizer.encode(prompt))],
      logits: [...(await exact.logits(promptIds))],
      halfLogits: [...(await half.logits(promptIds))],
      greedyIds: [...generated.tokens],
      text: generated.text,
      decoded: await exact.tokenizer.decode([...promptIds, ...generated.tokens]),
    })
  }
  await Promise.all([exact.dispose(), half.dispose()])

  for (const { file, ids } of quantizedCases(read)) {
    const model = await loadModel(join(folder, 'quantized', file), { kvDtype: 'f32', threads })
    result.quantized.push({ file, logits: [...(await model.logits(ids))] })
    await model.dispose()
  }
  process.stdout.write(JSON.stringify(result))
}

main(process.argv[2], Number(process.argv[3]))
