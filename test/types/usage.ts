// The public API compiles, with these types.
import {
  type CachedModel,
  type ChatMessage,
  type ChatResult,
  CriaError,
  type CriaErrorCode,
  cpuInfo,
  demoModelPath,
  downloadModel,
  type FileInfo,
  type Generation,
  type GenerationChunk,
  type GenerationResult,
  inspect,
  type LoadModelOptions,
  listModels,
  loadModel,
  loadTokenizer,
  type Model,
  type ModelStats,
  type PartialResult,
  type RequestEvent,
  removeModel,
  type StateFile,
  type Tokenizer,
  version,
} from 'cria'

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
function same<A, B>(_equal: Equal<A, B>): void {}

export async function loading(signal: AbortSignal): Promise<void> {
  await using model = await loadModel('a.gguf', {
    device: 'cuda:1',
    gpuLayers: 20,
    kvMemory: '2GiB',
    onProgress: ({ fraction }) => fraction,
    signal,
  })
  using other = await loadModel(new URL('file:///a.gguf'), { threads: undefined })
  same<typeof model, Model>(true)
  same<typeof other, Model>(true)
  const saved = await model.saveState('a.kv', 'Once', { signal })
  same<typeof saved, StateFile>(true)
  same<Awaited<ReturnType<Model['restoreState']>>, StateFile>(true)
  const info: FileInfo = await inspect(demoModelPath())
  const levels: readonly string[] = cpuInfo().isaLevels
  await model.dispose()
  void [info, levels, version]
}

export async function downloading(signal: AbortSignal): Promise<void> {
  const path: string = await downloadModel('hf:owner/repo:Q4_K_M', {
    cacheDir: '/models',
    token: false,
    signal,
    onProgress: ({ file, fraction }) => [file, fraction],
  })
  await using model = await loadModel('hf:owner/repo', {
    download: { cacheDir: '/models' },
    onProgress: ({ download, fraction }) => [download ?? 'loading', fraction],
  })
  const models: CachedModel[] = await listModels({ cacheDir: '/models' })
  const { freedBytes } = await removeModel('hf:owner/repo')
  void [path, model, models, freedBytes]
}

export async function generating(model: Model, signal: AbortSignal): Promise<void> {
  const generation = model.generate('Once', {
    temperature: 0,
    stop: ['a'],
    logitBias: { 5: -Infinity },
    seed: 1n,
    signal,
  })
  same<typeof generation, Generation<GenerationResult>>(true)
  for await (const chunk of generation) {
    same<typeof chunk, GenerationChunk>(true)
    process.stdout.write(chunk.text)
  }
  const result = await generation
  same<typeof result, GenerationResult>(true)
  same<typeof result.tokens, Uint32Array>(true)
  same<typeof result.finishReason, 'stop' | 'stopString' | 'length' | 'context'>(true)
  const promise: Promise<GenerationResult> = generation
  const [one, two] = await Promise.all([
    model.generate([1, 2]),
    model.generate(Uint32Array.of(1), { logitBias: new Map([[1, 2]]) }),
  ])
  same<typeof one, typeof two>(true)
  generation.cancel()
  const samples = model.generateSamples('Once', 3, { priority: 1, timeout: 1000, onContextFull: 'shift' })
  same<typeof samples, Generation<GenerationResult>[]>(true)
  void promise
}

export function watching(model: Model): void {
  const stats = model.stats()
  same<typeof stats, ModelStats>(true)
  same<typeof stats.pages.shared, number>(true)
  model.on('request', (event) => {
    same<typeof event, RequestEvent>(true)
    if (event.type === 'finished') same<typeof event.finishReason, GenerationResult['finishReason']>(true)
    if (event.type === 'failed') same<typeof event.error, CriaError>(true)
  })
  // @ts-expect-error: no such event
  model.on('token', () => {})
}

export async function chatting(model: Model): Promise<void> {
  const messages: ChatMessage[] = [
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content: [{ type: 'text', text: 'Why?' }], name: 'me' },
    { role: 'assistant', tool_calls: [{ function: { name: 'f', arguments: {} } }] },
    { role: 'tool', content: { any: ['json'] } },
  ]
  const answer = await model.chat(messages, {
    tools: [{ type: 'function' }],
    now: new Date(),
    templateVariables: { a: 1 },
  })
  same<typeof answer, ChatResult>(true)
  messages.push(answer.message)
  const text: string = model.renderChat(messages, { addGenerationPrompt: false })
  void text
}

export async function tokenizing(model: Model): Promise<void> {
  const ids = await model.tokenizer.encode('text', { bos: true, special: true })
  same<typeof ids, Uint32Array>(true)
  const decoded: string = await model.tokenizer.decode([1, 2, 3])
  const logits: Float32Array = await model.logits(ids)
  const vocabulary: Tokenizer = await loadTokenizer('v.gguf')
  const kind: 'sentencepiece' | 'bpe' = vocabulary.kind
  const bos: number | null = vocabulary.bos
  void [decoded, logits, kind, bos]
}

export function handle(error: unknown): CriaErrorCode | undefined {
  if (!(error instanceof CriaError)) return undefined
  const partial: PartialResult | undefined = error.partial
  void partial?.text
  return error.code
}

export const options: LoadModelOptions = { device: 'auto', kvDtype: 'f16' }
