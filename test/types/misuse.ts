// Misuse of the public API must not compile.
import { type Generation, loadModel, type Tokenizer } from 'cria'

export async function main(): Promise<void> {
  // @ts-expect-error a path is a string or a URL
  await loadModel(5)
  // @ts-expect-error an unknown option
  await loadModel('a', { gpuLayer: 5 })
  // @ts-expect-error an unknown device
  await loadModel('a', { device: 'gpu' })
  // @ts-expect-error an unknown KV type
  await loadModel('a', { kvDtype: 'q8' })
  const model = await loadModel('a')
  // @ts-expect-error misspelt
  model.generate('x', { temprature: 1 })
  // @ts-expect-error expects a number
  model.generate('x', { temperature: '1' })
  // @ts-expect-error the prompt is missing
  model.generate()
  // @ts-expect-error a role is missing
  model.chat([{ content: 'x' }])
  // @ts-expect-error messages are an array
  model.chat('x')
  // @ts-expect-error generate has no option tools
  model.generate('x', { tools: [] })
  // @ts-expect-error chat has no option bos
  model.chat([{ role: 'user', content: 'x' }], { bos: true })
  // @ts-expect-error expects a string
  await model.tokenizer.encode(5)
  // @ts-expect-error expects token ids
  await model.tokenizer.decode('x')
  // @ts-expect-error info is read-only
  model.info.threads = 5
  // @ts-expect-error an aborted generation has no result
  if ((await model.generate('x')).finishReason === 'abort') return
}

declare const generation: Generation
// @ts-expect-error the result needs an await
export const text: string = generation.text
declare const tokenizer: Tokenizer
// @ts-expect-error internal
tokenizer.chatVocabulary()
