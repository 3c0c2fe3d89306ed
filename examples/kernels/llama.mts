// A Llama in sixty lines, from kernels alone. It gives the tokens that `generate` gives.
import { demoModelPath, inspect, loadModel, loadTokenizer } from 'cria'
import { devices, kernels, type Tensor } from 'cria/kernels'

/** Reads a model; what it returns tells the likeliest next token after more ids of one text. */
export async function loadLlama(path: string, kvDtype: 'F16' | 'F32' = 'F16') {
  const { metadata } = await inspect(path)
  const values = new Map(metadata.map(({ key, value }) => [key.replace('llama.', ''), Number(value)]))
  const config = (key: string, otherwise?: number): number => {
    const value = values.get(key) ?? otherwise
    if (value === undefined) throw new Error(`${path} does not say its ${key}`)
    return value
  }
  const tensors = await kernels.loadTensors(path)
  const find = (name: string): Tensor => {
    const tensor = tensors.get(`${name}.weight`)
    if (!tensor) throw new Error(`${path} has no ${name}`)
    return tensor
  }
  const kvHeads = config('attention.head_count_kv')
  const headDim = config('embedding_length') / config('attention.head_count')
  const eps = config('attention.layer_norm_rms_epsilon')
  const rope = { base: config('rope.freq_base', 10000), ropeDim: config('rope.dimension_count', headDim) }

  // Pages for the whole context, in order.
  const { pageTokens } = (await devices())[0]!
  const pages = Array.from({ length: Math.ceil(config('context_length') / pageTokens) }, (_, i) => i)
  const layers = await Promise.all(
    Array.from({ length: config('block_count') }, async (_, i) => ({
      ...{
        attention: {
          norm: find(`blk.${i}.attn_norm`),
          query: find(`blk.${i}.attn_q`),
          key: find(`blk.${i}.attn_k`),
          value: find(`blk.${i}.attn_v`),
        },
      },
      ...{
        ffn: {
          norm: find(`blk.${i}.ffn_norm`),
          gate: find(`blk.${i}.ffn_gate`),
          up: find(`blk.${i}.ffn_up`),
        },
      },
      ...{ output: find(`blk.${i}.attn_output`), down: find(`blk.${i}.ffn_down`) },
      kv: await kernels.kvCache({ pages: pages.length, kvHeads, headDim, dtype: kvDtype }),
    })),
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

if (import.meta.filename === process.argv[1]) {
  const path = process.argv[2] ?? demoModelPath()
  const [prompt, maxTokens] = ['Once upon a time', 40]
  const tokenizer = await loadTokenizer(path)
  const next = await loadLlama(path)
  const tokens = [await next(await tokenizer.encode(prompt))]
  while (tokens.length < maxTokens) tokens.push(await next([tokens.at(-1)!]))
  console.log(prompt + (await tokenizer.decode(tokens)))

  await using model = await loadModel(path)
  const told = await model.generate(prompt, { maxTokens, temperature: 0, ignoreEos: true })
  const same = tokens.every((token, i) => token === told.tokens[i])
  console.log(`\n${tokens.length} tokens, ${same ? 'the same as' : 'other than'} generate's`)
}
