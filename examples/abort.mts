// TypeScript: a time limit and typed errors. Compile with tsc, or run with a Node.js that strips types.
import { CriaError, demoModelPath, type GenerationResult, loadModel, type PartialResult } from 'cria'

async function tellWithin(milliseconds: number): Promise<GenerationResult | PartialResult> {
  await using model = await loadModel(process.argv[2] ?? demoModelPath())
  try {
    return await model.generate('Once upon a time', {
      maxTokens: Infinity,
      ignoreEos: true,
      signal: AbortSignal.timeout(milliseconds),
    })
  } catch (error) {
    if (error instanceof CriaError && error.code === 'ERR_ABORTED' && error.partial) return error.partial
    throw error
  }
}

const { text, finishReason, usage } = await tellWithin(50)
console.log(`Once upon a time${text}`)
console.log(`\n${usage.generatedTokens} tokens, ended by: ${finishReason}`)
