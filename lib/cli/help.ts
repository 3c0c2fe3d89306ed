/** What `cria --help` and `cria <command> --help` print. */

import { FILE_TYPES as BENCH_TYPES, SHAPE_NAMES } from '../bench/shapes'
import { FILE_TYPES } from '../file_types'
import { type CliFlag, type Command, FLAGS } from './flags'

/** Columns of the output, and of the flags before their descriptions. */
const WIDTH = 100
const FLAG_WIDTH = 34

const shapes = wrap(`Shapes: ${SHAPE_NAMES.join(', ')}.`, WIDTH).join('\n')
const types = wrap(`Types: ${BENCH_TYPES.join(', ')}.`, WIDTH).join('\n')
const fileTypes = wrap(`Types, best first: ${FILE_TYPES.join(', ')}.`, WIDTH).join('\n')

const USAGE: Record<Command, string> = {
  generate: `cria generate [options] [prompt]

Continues a text. With - as the prompt, reads it from standard input.`,
  chat: `cria chat [options] [message]

Holds a conversation: /clear forgets it, /exit leaves, and Ctrl-C stops an answer.
With a message, or with standard input from a file or a pipe, gives one answer.`,
  inspect: `cria inspect [options] [file]

Shows the metadata and tensors of a GGUF file or a model folder.`,
  pull: `cria pull [options] <model>...

Downloads models into the cache that huggingface_hub for Python uses, and prints their paths.
A download that was interrupted continues where it stopped. A model is one of
  hf:owner/repo/file.gguf   a file on the Hugging Face hub, with all its parts
  hf:owner/repo:Q4_K_M      the GGUF file of this quantization
  hf:owner/repo             the folder of a model, or its GGUF file (Q4_K_M, if there are several)
  hf:owner/repo@revision    any of these of a branch, a tag or a commit
  https://...               any other file; #sha256=<digits> has it checked
HF_TOKEN holds an access token; HTTPS_PROXY and NO_PROXY choose a proxy.`,
  ls: `cria ls [options]

Lists the models in the cache, also those that Python has downloaded, with size and date.`,
  rm: `cria rm [options] <model>...

Removes models from the cache, named as in cria ls. hf:owner/repo removes all of a repository.`,
  convert: `cria convert [options] <model> <file>

Writes a model as one GGUF file of another type. The file appears whole or not at all.
${fileTypes}
Types below three bits need an importance matrix.`,
  perplexity: `cria perplexity [options] <file of text>

Measures how well a model predicts a text: full chunks without overlap, of which the second half counts.
With --compare, also how far it is from a reference model. With --state, an interrupted run continues.`,
  imatrix: `cria imatrix [options] <file of text> <file to write>

Measures what each column of the model's matrices is multiplied with, and writes it as an importance matrix
for "cria convert --imatrix", in llama.cpp's GGUF form. Runs on the CPU.`,
  bench: `cria bench --model <file> | --synthetic <shape>:<type> [options]

Measures a model and the limits of this machine. Reports medians.
${shapes}
${types}
Synthetic files are kept in ~/.cache/cria/bench.
"cria bench kernels" measures single kernels.`,
  'bench kernels': `cria bench kernels [options]

Measures the kernels in the sizes of known models, and the limits of this machine.
${shapes}
Separate the names of a list by commas.`,
}

const OVERVIEW = `cria: Llama models on this machine

  cria generate [prompt]   continue a text
  cria chat [message]      hold a conversation
  cria inspect [file]      show the contents of a model
  cria pull <model>        download a model, such as hf:owner/repo:Q4_K_M
  cria ls                  list the downloaded models
  cria rm <model>          remove a downloaded model
  cria convert <from> <to> quantize a model, or convert it to GGUF
  cria perplexity <text>   measure how well a model predicts a text
  cria imatrix <text> <to> measure the importance of weights, for convert
  cria bench               measure a model on this machine
  cria bench kernels       measure single kernels
  cria <command> --help    show the options of a command
  cria --version           show the version

Without a model, generate, chat and inspect use the small demo model.
`

export function helpText(topic?: Command): string {
  if (!topic) return OVERVIEW
  const lines = Object.entries(FLAGS[topic]).flatMap(([name, flag]) => describe(name, flag))
  return `Usage: ${USAGE[topic]}\n\n${lines.join('\n')}\n`
}

function describe(name: string, { short, kind, help }: CliFlag): string[] {
  const flag = `${short ? `-${short}, ` : '    '}--${name}${kind === 'flag' ? '' : ' <value>'}`
  const [first = '', ...others] = wrap(help, WIDTH - FLAG_WIDTH - 2)
  const indent = ' '.repeat(FLAG_WIDTH + 2)
  return [`  ${flag.padEnd(FLAG_WIDTH)}${first}`, ...others.map((line) => indent + line)]
}

/** Breaks a text into lines of at most `width` characters. */
function wrap(text: string, width: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line)
      line = word
    } else line = line === '' ? word : `${line} ${word}`
  }
  return [...lines, line]
}
