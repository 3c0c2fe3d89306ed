/**
 * Which room of native/ may include which: the drawing in docs/architecture.md, held for every #include.
 *
 * The rules are a function of paths and texts, so the tests below can also give it files that break them.
 */

import { readdirSync, readFileSync } from 'node:fs'
import { join, posix } from 'node:path'

const native = join(__dirname, '..', '..', 'native')

interface Include {
  line: number
  /** As written: `core/error.h` in quotes, `vector` in angle brackets. */
  target: string
  quoted: boolean
}

/** The text with comments blanked, and strings and line ends kept, so that what remains is code. */
function withoutComments(source: string): string {
  // In the order in which a compiler meets them: a quote in a comment opens no string, `//` in a string no
  // comment.
  const pieces =
    /\/\/[^\n]*|\/\*[\s\S]*?(?:\*\/|$)|R"([^()\\\s]{0,16})\([\s\S]*?\)\1"|"(?:[^"\\\n]|\\.)*"|(?<![0-9a-fA-F])'(?:[^'\\\n]|\\.)*'/g
  return source.replace(pieces, (piece) => (piece.startsWith('/') ? piece.replace(/[^\n]/g, ' ') : piece))
}

/**
 * Every #include of a file, those in branches that are not compiled here too. Throws on one it does not
 * understand.
 */
function includesOf(source: string): Include[] {
  const found: Include[] = []
  let line = 1
  // A backslash at the end of a line joins it with the next; the line breaks it swallowed still count.
  const joined = source.replace(/\r\n/g, '\n').replace(/\\\n/g, '\u0000')
  for (const raw of withoutComments(joined).split('\n')) {
    const directive = /^\s*(?:#|%:)\s*(include\w*|import)\b(.*)$/.exec(raw.replaceAll('\u0000', ''))
    if (directive) {
      const name = directive[1]!
      const rest = directive[2]!.trim()
      const target = /^(?:"([^"]+)"|<([^>]+)>)$/.exec(rest)
      if (name !== 'include' || !target) throw new Error(`line ${line}: cannot understand '#${name} ${rest}'`)
      found.push({ line, target: (target[1] ?? target[2])!, quoted: target[1] !== undefined })
    }
    line += raw.split('\u0000').length
  }
  return found
}

type Allowed = (target: string) => boolean
const room =
  (...names: string[]): Allowed =>
  (target) =>
    names.includes(target.split('/', 1)[0]!)
const files =
  (...names: string[]): Allowed =>
  (target) =>
    names.includes(target)
const any =
  (...rules: Allowed[]): Allowed =>
  (target) =>
    rules.some((allowed) => allowed(target))

/** What a room may include besides itself. */
const ROOMS: Record<string, Allowed> = {
  core: room(),
  io: room('core'),
  tokenizer: room('core'),
  kernels: room('core'),
  model: any(room('core', 'io'), files('kernels/ops.h', 'kernels/backend.h')),
  convert: any(room('core', 'io'), files('kernels/cpu/dequantize.h', 'kernels/cpu/weight_quantizer.h')),
  sampler: any(room('core'), files('kernels/ops.h')),
  engine: any(
    room('core', 'io', 'model', 'convert', 'tokenizer', 'sampler'),
    files('kernels/ops.h', 'kernels/backend.h'),
  ),
  addon: room('core', 'io', 'tokenizer', 'kernels', 'model', 'convert', 'sampler', 'engine'),
}

const SOURCES = ['.h', '.cc', '.inc', '.cu', '.cuh']
const NODE_HEADERS = /^(napi\b|node\b|node_|js_native_api|uv\b|v8)/
const CUDA_HEADERS =
  /^(cuda|cu(blas|rand|fft|sparse|solver|pti)|nv(rtc|ml|tx3|JitLink)|nv\/|cub\/|thrust\/|cute\/|cutlass\/|cooperative_groups|mma\.h|crt\/|device_|sm_\d|vector_types)/

/** The source that is compiled once per instruction set. Nothing of the C++ library may reach its objects. */
const ISA_SOURCE = 'kernels/cpu/isa_kernels.cc'
const ISA_MAY_INCLUDE = ['stddef.h', 'stdint.h', 'immintrin.h', 'arm_neon.h']
/** Read for its enumeration alone; the objects are checked for its inline functions (isa_symbols.cmake). */
const ISA_TAKES_AS_IT_IS = ['core/dtype.h']

/** Policy: integers and pages, no tensors. */
const POLICY = ['scheduler', 'page_pool', 'prefix_tree'].flatMap((stem) => [
  `engine/${stem}.h`,
  `engine/${stem}.cc`,
])

/** Everything that breaks a rule in a tree of sources, given as path below native/ -> text. */
function violations(tree: ReadonlyMap<string, string>): string[] {
  const found: string[] = []
  const parsed = new Map<string, Include[]>()
  for (const [path, source] of tree) {
    const own = path.split('/', 1)[0]!
    if (!path.includes('/') || !Object.hasOwn(ROOMS, own)) {
      found.push(`${path}: '${own}' is no room; add it to the rules`)
      continue
    }
    if (!SOURCES.includes(posix.extname(path))) {
      found.push(`${path}: not a source (${SOURCES.join(', ')})`)
      continue
    }
    let includes: Include[]
    try {
      includes = includesOf(source)
    } catch (error) {
      found.push(`${path}: ${(error as Error).message}`)
      continue
    }
    parsed.set(path, includes)
    for (const include of includes) {
      const why = include.quoted
        ? wrongOwn(tree, path, include.target)
        : wrongSystem(tree, path, include.target)
      if (why) found.push(`${path}:${include.line}: ${why}`)
    }
  }
  if (parsed.has(ISA_SOURCE)) found.push(...libraryInIsaObjects(parsed))
  return found
}

/** An include in quotes names a file below native/. */
function wrongOwn(tree: ReadonlyMap<string, string>, from: string, target: string): string | undefined {
  const own = from.split('/', 1)[0]!
  const other = target.split('/', 1)[0]!
  if (posix.normalize(target) !== target || target.startsWith('.') || target.startsWith('/'))
    return `"${target}" must be written from native/ on`
  if (!Object.hasOwn(ROOMS, other)) return `"${target}": '${other}' is no room`
  if (!tree.has(target)) return `"${target}" does not exist`
  if (other === 'addon' && own !== 'addon') return `nothing includes addon ("${target}")`
  if (POLICY.includes(from) && other !== 'core' && !POLICY.includes(target))
    return `"${target}": scheduler, page_pool and prefix_tree may include core and each other alone`
  if (other !== own && !ROOMS[own]!(target)) return `${own} may not include "${target}"`

  const sibling = (path: string) => /^kernels\/(cpu|cuda)\//.exec(path)?.[1]
  const to = sibling(target)
  const at = sibling(from)
  if (own === 'kernels' && to && at !== to) {
    if (at) return `${at} and ${to} never include each other ("${target}")`
    if (from !== 'kernels/backend.cc') return `only kernels/backend.cc may name a backend ("${target}")`
  }
  return undefined
}

function wrongSystem(tree: ReadonlyMap<string, string>, from: string, target: string): string | undefined {
  if (tree.has(target)) return `<${target}> is ours; write it in quotes`
  if (NODE_HEADERS.test(target) && !from.startsWith('addon/')) return `only addon may include <${target}>`
  if (CUDA_HEADERS.test(target) && !from.startsWith('kernels/cuda/'))
    return `CUDA headers belong below kernels/cuda (<${target}>)`
  return undefined
}

/** What the instruction sets' objects are made of, header by header: C headers and intrinsics alone. */
function libraryInIsaObjects(parsed: ReadonlyMap<string, Include[]>): string[] {
  const found: string[] = []
  const reached = new Set([ISA_SOURCE])
  for (const path of reached) {
    for (const { line, target, quoted } of parsed.get(path) ?? []) {
      if (!quoted && !ISA_MAY_INCLUDE.includes(target))
        found.push(`${path}:${line}: <${target}> would reach the objects compiled per instruction set`)
      if (quoted && !ISA_TAKES_AS_IT_IS.includes(target)) reached.add(target)
    }
  }
  return found
}

function readTree(): Map<string, string> {
  const paths = readdirSync(native, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
  return new Map(
    paths.map((path) => [path.slice(native.length + 1).replaceAll('\\', '/'), readFileSync(path, 'utf8')]),
  )
}

test('native/ keeps the rules', () => {
  expect(violations(readTree())).toEqual([])
})

test('every room is there, and its includes are seen', () => {
  const tree = readTree()
  for (const name of Object.keys(ROOMS))
    expect([...tree.keys()].some((path) => path.startsWith(`${name}/`))).toBe(true)
  expect(includesOf(tree.get('engine/engine.h')!).map(({ target }) => target)).toEqual(
    expect.arrayContaining(['engine/scheduler.h', 'model/decoder.h', 'thread']),
  )
  // Every line that begins like an include is one.
  const lines = [...tree.values()].join('\n').match(/^[ \t]*#[ \t]*include/gm)!.length
  const seen = [...tree.values()].reduce((sum, source) => sum + includesOf(source).length, 0)
  expect(seen).toBe(lines)
  expect(seen).toBeGreaterThan(300)
})

describe('the parser', () => {
  test.each<[string, string, string[]]>([
    ['both forms', '#include "core/error.h"\n#include <vector>\n', ['core/error.h', 'vector']],
    ['blanks', '  #  include\t"a/b.h"  // why', ['a/b.h']],
    ['comments', '// #include "a"\n/* #include "b"\n#include "c" */\n#include /* x */ "d"', ['d']],
    ['strings', 'auto s = "/*";\n#include "a"\nauto t = "*/ // \\"";\n#include "b"', ['a', 'b']],
    ['raw strings', 'auto s = R"x(" /* \n)" )x";\n#include "a"', ['a']],
    ['characters', "char c = '\"'; char d = '\\'';\n#include \"a\"", ['a']],
    ['digit separators', 'int n = 1\'000\'000;\n#include "a"', ['a']],
    ['joined lines', '#inc\\\nlude "a"\n#include \\\n  "b"', ['a', 'b']],
    ['branches that are not compiled', '#if 0\n#include "a"\n#endif', ['a']],
    ['Windows line ends', '#include "a"\r\n#include "b"\r\n', ['a', 'b']],
  ])('%s', (_, source, targets) => {
    expect(includesOf(source).map(({ target }) => target)).toEqual(targets)
  })

  test('counts lines', () => {
    expect(includesOf('\n/*\n*/\\\n\n#include "a"')).toEqual([{ line: 5, target: 'a', quoted: true }])
  })

  test.each(['#include HEADER', '#include_next <vector>', '#import "a"', '#include "a" "b"', '#include'])(
    'refuses %s',
    (source) => {
      expect(() => includesOf(source)).toThrow('cannot understand')
    },
  )
})

describe('a wrong include is caught:', () => {
  /** A small tree in which all is well. */
  const sound: Record<string, string> = {
    'core/error.h': '#include <string>',
    'core/dtype.h': '#include <string_view>',
    'io/file.h': '#include "core/error.h"',
    'tokenizer/bpe.h': '#include "core/error.h"',
    'kernels/ops.h': '#include "core/dtype.h"',
    'kernels/backend.h': '#include "kernels/ops.h"',
    'kernels/backend.cc':
      '#include "kernels/backend.h"\n#include "kernels/cpu/table.h"\n#include "kernels/cuda/cuda.h"',
    'kernels/cpu/isa_kernels.cc': '#include "kernels/cpu/simd.h"',
    'kernels/cpu/simd.h': '#include <stdint.h>\n#include "kernels/cpu/table.h"',
    'kernels/cpu/table.h': '#include "core/dtype.h"',
    'kernels/cuda/cuda.h': '#include <cuda_runtime.h>\n#include "kernels/backend.h"',
    'model/decoder.h': '#include "kernels/backend.h"\n#include "io/file.h"',
    'sampler/sampler.h': '#include "kernels/ops.h"',
    'engine/page_pool.h': '#include "core/error.h"',
    'engine/scheduler.h': '#include "engine/page_pool.h"',
    'engine/engine.h': '#include "engine/scheduler.h"\n#include "model/decoder.h"\n#include "io/file.h"',
    'addon/addon.cc': '#include <napi.h>\n#include "engine/engine.h"\n#include "kernels/cpu/table.h"',
  }
  const broken = (path: string, source: string) =>
    violations(new Map(Object.entries({ ...sound, [path]: source })))

  test('none in the sound tree', () => {
    expect(violations(new Map(Object.entries(sound)))).toEqual([])
  })

  test.each<[string, string, string]>([
    ['core/error.h', '#include "io/file.h"', 'core may not include'],
    ['io/file.h', '#include "tokenizer/bpe.h"', 'io may not include'],
    ['tokenizer/bpe.h', '#include "io/file.h"', 'tokenizer may not include'],
    ['kernels/ops.h', '#include "model/decoder.h"', 'kernels may not include'],
    ['kernels/ops.h', '#include "kernels/cpu/table.h"', 'only kernels/backend.cc'],
    ['kernels/backend.h', '#include "kernels/cuda/cuda.h"', 'only kernels/backend.cc'],
    ['kernels/cpu/table.h', '#include "kernels/cuda/cuda.h"', 'never include each other'],
    ['kernels/cuda/cuda.h', '#include "kernels/cpu/table.h"', 'never include each other'],
    ['model/decoder.h', '#include "kernels/cpu/table.h"', 'model may not include'],
    ['model/decoder.h', '#include "tokenizer/bpe.h"', 'model may not include'],
    ['sampler/sampler.h', '#include "kernels/backend.h"', 'sampler may not include'],
    ['sampler/sampler.h', '#include "engine/page_pool.h"', 'sampler may not include'],
    ['engine/engine.h', '#include "kernels/cpu/table.h"', 'engine may not include'],
    ['engine/scheduler.h', '#include "model/decoder.h"', 'core and each other alone'],
    ['engine/page_pool.h', '#include "engine/engine.h"', 'core and each other alone'],
    ['engine/engine.h', '#include "addon/addon.cc"', 'nothing includes addon'],
    ['engine/engine.h', '#include <napi.h>', 'only addon may include'],
    ['engine/engine.h', '#include <node_api.h>', 'only addon may include'],
    ['addon/addon.cc', '#include <cuda.h>', 'below kernels/cuda'],
    ['kernels/backend.h', '#include <cuda_fp16.h>', 'below kernels/cuda'],
    ['kernels/cpu/simd.h', '#include <mma.h>', 'below kernels/cuda'],
    ['kernels/cpu/simd.h', '#include <vector>', 'per instruction set'],
    ['kernels/cpu/table.h', '#include <cstdint>', 'per instruction set'],
    ['kernels/cpu/simd.h', '#include "core/error.h"', 'per instruction set'],
    ['engine/engine.h', '#include "scheduler.h"', 'is no room'],
    ['engine/engine.h', '#include "../io/file.h"', 'from native/ on'],
    ['engine/engine.h', '#include "io/../io/file.h"', 'from native/ on'],
    ['engine/engine.h', '#include "io/nothing.h"', 'does not exist'],
    ['engine/engine.h', '#include <io/file.h>', 'in quotes'],
    ['engine/engine.h', '#include SOME_MACRO', 'cannot understand'],
    ['cellar/wine.h', '', 'is no room'],
    ['loose.h', '', 'is no room'],
    ['io/notes.txt', '', 'not a source'],
  ])('%s with %s', (path, source, message) => {
    expect(broken(path, source)).toEqual(expect.arrayContaining([expect.stringContaining(message)]))
  })
})
