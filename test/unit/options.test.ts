/** Every option is described in three places: its table, its docstring and the README. They must agree. */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { chatTemplateRules } from '../../lib/chat'
import { commonOptions, generateOptions } from '../../lib/generation_options'
import { loadOptions } from '../../lib/load_options'
import type { Option, Options } from '../../lib/options'

const root = join(__dirname, '..', '..')
const read = (path: string) => readFileSync(join(root, path), 'utf8')
const readme = read('README.md')

/** The default of an option as documents show it, without the backticks around code. */
function shownDefault({ default: value, defaultText }: Option): string {
  return defaultText ?? (typeof value === 'string' ? `'${value}'` : String(value ?? 'none'))
}

/** Default by option, of the README's table below a heading. */
function readmeTable(heading: string): Record<string, string> {
  const section = readme.slice(readme.indexOf(`\n### ${heading}\n`))
  const [, rows] = /\n\n\| option \|.*\n\|.*\n((?:\|.*\n)+)/.exec(section)!
  const found: Record<string, string> = {}
  for (const row of rows!.trimEnd().split('\n')) {
    const [, name, shown] = row.replaceAll('`', '').split('|')
    found[name!.trim()] = shown!.trim()
  }
  return found
}

describe.each<[string, Options]>([
  ['Loading', loadOptions],
  ['Generating', commonOptions],
])("the README's table %s", (heading, options) => {
  const table = readmeTable(heading)

  test('lists every option, and no other', () => {
    expect(Object.keys(table).sort()).toEqual(Object.keys(options).sort())
  })

  test.each(Object.entries(options))('default of %s', (name, option) => {
    expect(table[name]).toBe(shownDefault(option))
  })
})

test('the README names the options that only generate or chat have', () => {
  for (const name of Object.keys({ ...generateOptions, ...chatTemplateRules })) {
    expect(readme).toContain(`\`${name}\``)
  }
})

const docstrings = new Map(
  ['load_options', 'sampling', 'generation_options']
    .flatMap((file) => [...read(`lib/${file}.ts`).matchAll(/\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\n {2}(\w+)\?:/g)])
    .map(([, text, name]) => [name!, text!.replaceAll('`', '').replace(/\n\s*\*\s*/g, ' ')]),
)

test.each(Object.entries<Option>({ ...loadOptions, ...generateOptions }))(
  'docstring of %s',
  (name, option) => {
    const shown = shownDefault(option)
    const docstring = docstrings.get(name)
    if (shown === 'none') expect(docstring).not.toMatch(/Default: (?!none\.)/)
    else expect(docstring).toContain(`Default: ${shown}.`)
  },
)
