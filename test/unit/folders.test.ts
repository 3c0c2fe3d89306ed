/** Folders of Hugging Face and of Meta, as `inspect` and the command show them. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inspect } from '../../lib/index'

const config = {
  model_type: 'llama',
  hidden_size: 4,
  intermediate_size: 6,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  vocab_size: 3,
  max_position_embeddings: 64,
  rope_parameters: { rope_type: 'linear', factor: 4, rope_theta: 5e5 },
}

const layer = 'model.layers.0.'
const shapes: Record<string, number[]> = {
  'model.embed_tokens.weight': [3, 4],
  [`${layer}input_layernorm.weight`]: [4],
  [`${layer}self_attn.q_proj.weight`]: [4, 4],
  [`${layer}self_attn.k_proj.weight`]: [2, 4],
  [`${layer}self_attn.v_proj.weight`]: [2, 4],
  [`${layer}self_attn.o_proj.weight`]: [4, 4],
  [`${layer}post_attention_layernorm.weight`]: [4],
  [`${layer}mlp.gate_proj.weight`]: [6, 4],
  [`${layer}mlp.up_proj.weight`]: [6, 4],
  [`${layer}mlp.down_proj.weight`]: [4, 6],
  'model.norm.weight': [4],
  'lm_head.weight': [3, 4],
}

/** A safetensors file of BF16 zeros. */
function safetensors(names: string[]): Buffer {
  const header: Record<string, unknown> = {}
  let end = 0
  for (const name of names) {
    const shape = shapes[name]!
    const begin = end
    end += 2 * shape.reduce((product, size) => product * size, 1)
    header[name] = { dtype: 'BF16', shape, data_offsets: [begin, end] }
  }
  const text = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(text.length))
  return Buffer.concat([length, text, Buffer.alloc(end)])
}

let root: string
let folder: string

beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'cria-folders-'))
  folder = join(root, 'tiny')
  mkdirSync(folder)
  const names = Object.keys(shapes)
  const shards = { 'a.safetensors': names.slice(0, 5), 'b.safetensors': names.slice(5) }
  const weight_map: Record<string, string> = {}
  for (const [shard, inShard] of Object.entries(shards)) {
    writeFileSync(join(folder, shard), safetensors(inShard))
    for (const name of inShard) weight_map[name] = shard
  }
  writeFileSync(join(folder, 'model.safetensors.index.json'), JSON.stringify({ weight_map }))
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config))
})

afterAll(() => {
  rmSync(root, { recursive: true, force: true })
})

test('inspect shows a Hugging Face folder in the terms of GGUF', async () => {
  const info = await inspect(folder)
  expect(info).toMatchObject({ path: folder, format: 'huggingface' })
  expect(info.version).toBeUndefined()
  expect(info.files).toEqual([join(folder, 'a.safetensors'), join(folder, 'b.safetensors')])
  const metadata = Object.fromEntries(info.metadata.map(({ key, value }) => [key, value]))
  expect(metadata).toMatchObject({
    'general.architecture': 'llama',
    'general.name': 'tiny',
    'llama.embedding_length': 4,
    'llama.rope.freq_base': 500000,
    'llama.rope.scaling.type': 'linear',
    'llama.rope.scaling.factor': 4,
  })
  expect(info.tensors).toHaveLength(12)
  expect(info.tensors.find(({ name }) => name === 'blk.0.ffn_down.weight')).toEqual({
    name: 'blk.0.ffn_down.weight',
    type: 'BF16',
    shape: [6, 4],
    bytes: 48,
    file: 1,
  })
  expect(info.tensors.find(({ name }) => name === 'blk.0.attn_norm.weight')).toMatchObject({ type: 'F32' })
  expect(await inspect(join(folder, 'config.json'))).toEqual(info)
  expect(await inspect(join(folder, 'b.safetensors'))).toEqual(info)
})

test('the command names the format', () => {
  const bin = join(__dirname, '..', '..', 'dist', 'cli', 'main.js')
  const { stdout } = spawnSync(process.execPath, [bin, 'inspect', folder], { encoding: 'utf8' })
  expect(stdout).toContain(`${folder}: Hugging Face folder, `)
  expect(stdout).toContain('blk.0.attn_q.weight')
})

test.each([
  ['ERR_FILE_NOT_FOUND', 'config.json', {}],
  ['ERR_INVALID_FILE', 'config.json', { 'config.json': '{' }],
  ['ERR_UNSUPPORTED_MODEL', '"gemma2"', { 'config.json': '{"model_type":"gemma2"}' }],
  ['ERR_FILE_NOT_FOUND', 'model.safetensors', { 'config.json': JSON.stringify(config) }],
  [
    'ERR_UNSUPPORTED_MODEL',
    '"gptq"',
    { 'config.json': JSON.stringify({ ...config, quantization_config: { quant_method: 'gptq' } }) },
  ],
  [
    'ERR_INVALID_MODEL',
    'no such tensor',
    { 'config.json': JSON.stringify(config), 'model.safetensors': safetensors(Object.keys(shapes).slice(1)) },
  ],
  ['ERR_FILE_NOT_FOUND', 'consolidated.00.pth', { 'params.json': '{"dim":4,"n_layers":1,"n_heads":2}' }],
  [
    'ERR_INVALID_FILE',
    'PyTorch checkpoint',
    { 'params.json': '{"dim":4,"n_layers":1,"n_heads":2}', 'consolidated.00.pth': 'nothing of the kind' },
  ],
])('a folder that is refused with %s names %s', async (code, mentions, files) => {
  const path = mkdtempSync(join(root, 'refused-'))
  for (const [name, content] of Object.entries(files)) writeFileSync(join(path, name), content as string)
  await expect(inspect(path)).rejects.toMatchObject({ code, message: expect.stringContaining(mentions) })
})
