import { relative } from 'node:path'
import { downloadModel } from '../hub/download'
import type { DownloadOptions } from '../hub/options'
import { demoModelPath } from '../info'
import type { LoadModelOptions } from '../load_options'
import { loadModel, type Model } from '../model'
import type { CommandLine } from './args'
import { ProgressBar, remark, warn } from './terminal'

/** Loads the model of the command line, or the demo model; shows a progress bar on a terminal, and warnings. */
export async function openModel(line: CommandLine, signal: AbortSignal): Promise<Model> {
  const path = line.model ?? demoModelPath()
  if (line.model === undefined) {
    const near = relative(process.cwd(), path)
    remark(`cria: using the demo model ${near.startsWith('..') ? path : near}; --model selects another`)
  }
  const bar = new ProgressBar('loading')
  let model: Model
  try {
    model = await loadModel(path, {
      ...(line.load as LoadModelOptions),
      signal,
      onProgress: (progress) => {
        bar.update(progress, progress.download && `downloading ${progress.download}`)
      },
    })
  } finally {
    bar.clear()
  }
  warn(model.info.warnings)
  return model
}

/** The path of a model, which is downloaded, with a progress bar on a terminal, if it has to be. */
export async function localModel(
  name: string,
  signal: AbortSignal,
  options: DownloadOptions = {},
): Promise<string> {
  const bar = new ProgressBar('downloading')
  try {
    return await downloadModel(name, {
      ...options,
      signal,
      onProgress: (progress) => bar.update(progress, `downloading ${progress.file}`),
    })
  } finally {
    bar.clear()
  }
}
