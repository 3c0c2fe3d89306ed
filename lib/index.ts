/**
 * cria: Llama models inside Node.js.
 *
 * ```js
 * import { loadModel } from 'cria'
 * await using model = await loadModel('./model.gguf')
 * for await (const chunk of model.generate('Once upon a time')) process.stdout.write(chunk.text)
 * ```
 *
 * @module
 */

export type { AdapterInfo, AdapterOptions } from './adapters'
export { version } from './binding'
export type { ChatMessage, ChatTemplateOptions, ChatTextPart, RenderChatOptions } from './chat'
export { type ConvertedModel, type ConvertOptions, convertModel } from './convert'
export { CriaError, type CriaErrorCode, type CriaErrorDetails, type PartialResult } from './errors'
export type { FileType } from './file_types'
export type {
  FinishReason,
  Generation,
  GenerationChunk,
  GenerationResult,
  TokenLogprob,
  Usage,
} from './generation'
export type { CommonGenerationOptions, GenerateOptions } from './generation_options'
export { downloadModel } from './hub/download'
export { type CachedModel, listModels, type RemovedModel, removeModel } from './hub/models'
export type { DownloadModelOptions, DownloadOptions, DownloadProgress } from './hub/options'
export { computeImatrix, type ImatrixFile, type ImatrixOptions } from './imatrix'
export {
  type CpuInfo,
  cpuInfo,
  demoModelPath,
  type FileInfo,
  inspect,
  type MetadataValue,
  type TensorInfo,
} from './info'
export type { Device, LoadModelOptions, LoadProgress } from './load_options'
export {
  type ChatOptions,
  type ChatResult,
  type ComputeOptions,
  loadModel,
  type Model,
  type ModelInfo,
  type SaveStateOptions,
  type StateFile,
} from './model'
export {
  type ModelComparison,
  type PerplexityChunk,
  type PerplexityOptions,
  type PerplexityResult,
  perplexity,
} from './perplexity'
export type { Progress } from './progress'
export type { LogitBias, SamplingOptions } from './sampling'
export { type DecodeOptions, type EncodeOptions, loadTokenizer, type Tokenizer } from './tokenizer'
export type { ModelStats, RequestEvent, RequestListener } from './watch'
