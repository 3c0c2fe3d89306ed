// A Llama built from single kernels. It gives the tokens that `generate` gives.
import { demoModelPath, inspect, loadModel, loadTokenizer } from 'cria'
import { devices, kernels, type Tensor } from 'cria/kernels'

type Find = (name: string) => Tensor
type Config = Awaited<ReturnType<typeof readConfig>>

/**
 * Reads a model. The returned function takes the next ids of one text and gives the most likely token after
 * them.
 */
export async function loadLlama(path: string, kvDtype: 'F16' | 'F32' = 'F16') {
  const config = await readConfig(path)
  const { eps, rope } = config
  const tensors = await kernels.loadTensors(path)
  const find = (name: string): Tensor => {
    const tensor = tensors.get(`${name}.weight`)
    if (!tensor) throw new Error(`${path} has no ${name}`)
    return tensor
  }
  // Pages for the whole context, in ascending order.
  const { pageTokens } = (await devices())[0]!
  const pages = Array.from({ length: Math.ceil(config.context / pageTokens) }, (_, i) => i)
  const layers = await Promise.all(
    Array.from({ length: config.layers }, (_, i) => loadLayer(find, i, config, pages.length, kvDtype)),
  )
  const embedding = find('token_embd')
  const output = tensors.get('output.weight') ?? embedding

  let position = 0
  return async function next(ids: Uint32Array | number[]): Promise<number> {
    const sequences = [{ position, tokens: ids.length, pages }]
    position += ids.length
    using x = await kernels.embed(embedding, ids)
    for (const { attention, ffn, output, down, kv } of layers) {
      using q = await kernels.attentionInput(x, attention, kv, { sequences, eps, rope })
      using attended = await kernels.pagedAttention(q, kv, { sequences })
      await kernels.matmul(attended, output, { addTo: x })
      using h = await kernels.swiglu(x, ffn, { eps })
      await kernels.matmul(h, down, { addTo: x })
    }
    using normed = await kernels.rmsNorm(x, find('output_norm'), { eps })
    using logits = await kernels.matmul(normed, output)
    return (await kernels.sample(logits)).tokens.at(-1)!
  }
}

/** The hyperparameters in the file's metadata. */
async function readConfig(path: string) {
  const { metadata } = await inspect(path)
  const values = new Map(metadata.map(({ key, value }) => [key.replace('llama.', ''), Number(value)]))
  const read = (key: string, fallback?: number): number => {
    const value = values.get(key) ?? fallback
    if (value === undefined) throw new Error(`${path} has no ${key}`)
    return value
  }
  const headDim = read('embedding_length') / read('attention.head_count')
  return {
    layers: read('block_count'),
    context: read('context_length'),
    kvHeads: read('attention.head_count_kv'),
    headDim,
    eps: read('attention.layer_norm_rms_epsilon'),
    rope: { base: read('rope.freq_base', 10000), ropeDim: read('rope.dimension_count', headDim) },
  }
}

/** Weights and KV cache of layer `i`. */
async function loadLayer(find: Find, i: number, config: Config, pages: number, dtype: 'F16' | 'F32') {
  const weight = (name: string) => find(`blk.${i}.${name}`)
  const { kvHeads, headDim } = config
  return {
    attention: {
      norm: weight('attn_norm'),
      query: weight('attn_q'),
      key: weight('attn_k'),
      value: weight('attn_v'),
    },
    output: weight('attn_output'),
    ffn: { norm: weight('ffn_norm'), gate: weight('ffn_gate'), up: weight('ffn_up') },
    down: weight('ffn_down'),
    kv: await kernels.kvCache({ pages, kvHeads, headDim, dtype }),
  }
}

if (import.meta.filename === process.argv[1]) {
  const path = process.argv[2] ?? demoModelPath()
  const [prompt, maxTokens] = ['Once upon a time', 40]
  const tokenizer = await loadTokenizer(path)
  const next = await loadLlama(path)
  const tokens = [await next(await tokenizer.encode(prompt))]
  while (tokens.length < maxTokens) tokens.push(await next([tokens.at(-1)!]))
  console.log(prompt + (await tokenizer.decode(tokens)))

  await using model = await loadModel(path)
  const expected = await model.generate(prompt, { maxTokens, temperature: 0, ignoreEos: true })
  const same = tokens.every((token, i) => token === expected.tokens[i])
  console.log(`\n${tokens.length} tokens, ${same ? 'the same as' : 'different from'} generate's`)
}
