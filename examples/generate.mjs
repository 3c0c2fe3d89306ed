// Streams a story. Run: node examples/generate.mjs [model.gguf]
import { demoModelPath, loadModel } from 'cria'

const model = await loadModel(process.argv[2] ?? demoModelPath())
const story = model.generate('Once upon a time', { maxTokens: 200, temperature: 0.7 })

process.stdout.write('Once upon a time')
for await (const { text } of story) process.stdout.write(text)

const { usage, finishReason } = await story
console.log(
  `\n\n${usage.generatedTokens} tokens in ${Math.round(usage.decodeMs)} ms, ended by: ${finishReason}`,
)
await model.dispose()
