// The most likely alternatives to each token. Run: node examples/logprobs.mjs [model.gguf]
import { demoModelPath, loadModel } from 'cria'

const model = await loadModel(process.argv[2] ?? demoModelPath())
const { logprobs } = await model.generate('Once upon a time', { maxTokens: 10, temperature: 0, logprobs: 4 })

for (const { token, top } of logprobs) {
  const spell = (id) => JSON.stringify(model.tokenizer.spelling(id).replaceAll('▁', ' '))
  const others = top.filter((one) => one.token !== token)
  const share = ({ token, logprob }) => `${spell(token)} ${(100 * Math.exp(logprob)).toFixed(1)} %`
  console.log(spell(token).padEnd(12), 'or', others.map(share).join(', '))
}
await model.dispose()
