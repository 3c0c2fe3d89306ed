// A conversation of two turns. The second refers to the first. Run: node examples/chat.mjs [model.gguf]
import { demoModelPath, loadModel } from 'cria'

const model = await loadModel(process.argv[2] ?? demoModelPath())
const messages = []

for (const question of ['Tell me a story about a fox called Pip.', 'What was the fox called?']) {
  messages.push({ role: 'user', content: question })
  console.log(`\n> ${question}`)
  const answer = model.chat(messages, { temperature: 0.5, maxTokens: 200 })
  for await (const { text } of answer) process.stdout.write(text)
  messages.push((await answer).message)
  console.log()
}
await model.dispose()
