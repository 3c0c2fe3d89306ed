/** Chat templates against Python's jinja2, set up as Hugging Face's transformers does. */

import { renderTemplate } from '../../lib/chat/template'
import { available, describeConformance, readJson } from './data'

interface Case {
  template: string
  case: string
  context: Record<string, unknown>
  text?: string
  error?: string
}

interface Templates {
  templates: Record<string, string>
  cases: Case[]
}

// JavaScript does not tell 1.0 from 1, and puts integer-like keys first.
const CANNOT_BE_CARRIED = new Set([
  'llama-3.1-8b-instruct tools-float1.0',
  'llama-3.1-8b-instruct tools-intkeys',
  'llama-3.2-3b-instruct tools-float1.0',
  'llama-3.2-3b-instruct tools-intkeys',
  'llama-3.3-70b-instruct tools-float1.0',
  'llama-3.3-70b-instruct tools-intkeys',
])

const now = () => new Date(2026, 0, 2, 3, 4, 5)

describeConformance('chat templates', () => {
  const { templates, cases } = available
    ? readJson<Templates>('chat', 'templates.json')
    : { templates: {}, cases: [] }

  test('there are 125 cases', () => expect(cases.length).toBe(125))

  test.each(cases.map((one) => [`${one.template} ${one.case}`, one] as const))('%s', (name, one) => {
    const render = () => renderTemplate(templates[one.template]!, one.context, now)
    if (one.error !== undefined) {
      expect(render).toThrow()
      return
    }
    const text = render()
    if (CANNOT_BE_CARRIED.has(name)) expect(text).not.toBe(one.text)
    else expect(text).toBe(one.text)
  })
})
