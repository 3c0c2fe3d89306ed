import { replaceAddon } from '../../lib/binding'
import { type ChatVocabulary, renderChat } from '../../lib/chat'
import { strftime } from '../../lib/chat/strftime'
import { renderTemplate } from '../../lib/chat/template'
import { type ChatMessage, CriaError, loadModel } from '../../lib/index'
import { FakeAddon } from './fake_addon'

const now = () => new Date(2026, 0, 2, 3, 4, 5)
const render = (template: string, variables: Record<string, unknown> = {}) =>
  renderTemplate(template, variables, now)

const TEMPLATE =
  "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m['content'] | trim }}<|eot_id|>{% endfor %}" +
  '{% if add_generation_prompt %}<|assistant|>{% endif %}'
const vocabulary: ChatVocabulary = {
  template: TEMPLATE,
  bos: '<s>',
  eos: '</s>',
  specials: ['<s>', '</s>', '<|eot_id|>', '<|user|>', '<|assistant|>', '[INST]', '</think>'],
}
const user = (content: string): ChatMessage[] => [{ role: 'user', content }]
const chat = (messages: unknown, options: object = {}, vocab = vocabulary) =>
  renderChat('test', vocab, messages, options)

function failure(call: () => unknown): CriaError {
  try {
    call()
  } catch (error) {
    expect(error).toBeInstanceOf(CriaError)
    return error as CriaError
  }
  throw new Error('it did not throw')
}

/** Results of Python's jinja2 3.1. */
const PYTHON: Array<[template: string, text: string]> = [
  [
    "{{ none }}|{{ true }}|{{ [1, 2.0, 'a', none] }}|{{ {'a': [1, 'x']} }}",
    "None|True|[1, 2.0, 'a', None]|{'a': [1, 'x']}",
  ],
  ['{{ 1.0 }} {{ 0.00001 }} {{ 123456789.5 }} {{ 6 / 2 }}', '1.0 1e-05 123456789.5 3.0'],
  ['{{ -7 // 2 }} {{ -7 % 3 }} {{ 2 ** 3 }}', '-4 2 8'],
  [
    "{{ '1' == 1 }} {{ 1 == 1.0 }} {{ none == false }} {{ [1] == [1] }} {{ {'a': 1} == {'a': 1} }}",
    'False True False True True',
  ],
  ["{{ 'a' ~ 1 ~ none ~ [1] }} {{ 'ab' * 2 }} {{ [1] * 2 }}", 'a1None[1] abab [1, 1]'],
  [
    "{{ 'a b  c'.split() }} {{ 'a b c'.split(' ', 1) }} {{ 'a b c'.rsplit(' ', 1) }}",
    "['a', 'b', 'c'] ['a', 'b c'] ['a b', 'c']",
  ],
  ["{{ ' \ufeffa\u0085\u001c' | trim | length }} {{ 'xax'.strip('x') }}", '2 a'],
  ["{{ [\"it's\", 'q\"'] }} {{ ['\\n\\t'] }}", "[\"it's\", 'q\"'] ['\\n\\t']"],
  [
    "{{ 'é<b>&' | tojson }} {{ 'é' | tojson(ensure_ascii=true) }} {{ {'b': 1, 'a': 2} | tojson(sort_keys=true) }}",
    '"é<b>&" "\\u00e9" {"a": 2, "b": 1}',
  ],
  ["{{ {'a': [], 'b': [1]} | tojson(indent=2) }}", '{\n  "a": [],\n  "b": [\n    1\n  ]\n}'],
  ["{{ x | default('d') }} {{ '' | default('d', true) }} {{ x | length }}{{ x }}", 'd d 0'],
  [
    "{{ ['a', 'b'] | reject('in', ['a']) | list }} {{ [1, 2, 3] | select('gt', 1) | list }} {{ ['a'] | map('upper') | list }}",
    "['b'] [2, 3] ['A']",
  ],
  [
    "{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}{{ {'a': 1} | items | list }}",
    "a1[('a', 1)]",
  ],
  ['{% set x = 1 %}{% for i in [1, 2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}', '231'],
  ['{% for i in [1, 2] %}{% if y is defined %}Y{% endif %}{% set y = 1 %}{% endfor %}', ''],
  ['{% for i in range(5) %}{{ i }}{% if i == 2 %}{% break %}{% endif %}{% endfor %}', '012'],
  ['{% for i in range(4) %}{{ i }}{% if i == 1 %}{% continue %}{% endif %}.{% endfor %}', '0.12.3.'],
  [
    '{% for i in nothing %}x{% else %}empty{% endfor %}{% for c in "ab" %}{{ c }}{{ loop.cycle(1, 2) }}{% endfor %}',
    'emptya1b2',
  ],
  [
    '{% set ns = namespace(x=1) %}{% for i in range(3) %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}',
    '4',
  ],
  ['{% macro f(a, b=2) %}{{ a }}-{{ b }}{% endmacro %}{{ f(1) }} {{ f(a=5) }}', '1-2 5-2'],
  ["{{ {'items': 5}['items'] }}{% for k, v in {'items': 5}.items() %}{{ k }}{% endfor %}", '5items'],
  ["{{ 'a\\nb\\n\\nc' | indent(2) }}", 'a\n  b\n\n  c'],
  [
    "{{ 'aaa' | replace('a', 'b', 2) }} {{ 'aaa'.replace('a', 'b', 1) }} {{ 'ab'.replace('', '-') }}",
    'bba baa -a-b-',
  ],
  [
    "{{ 'a' in x }} {{ 'a' not in ['a'] }} {{ dict(a=1).a }} {{ [1, 2] | sum }} {{ 3.14159 | round(2) }}",
    'False False 1 3 3.14',
  ],
  ["{{ strftime_now('%d %b %Y %H:%M') }}", '02 Jan 2026 03:04'],
]

describe('templates render as in Python', () => {
  test.each(PYTHON)('%s', (template, text) => expect(render(template)).toBe(text))

  test.each([
    ['{{ x.y }}', /'x' is undefined/],
    ["{{ 'a' + 1 }}", /'\+' cannot join/],
    ['{{ none + "a" }}', /cannot join None/],
    ['{{ 1 / 0 }}', /division by zero/],
    ["{{ raise_exception('because') }}", /because/],
    ['{{ a b }}', /./],
    ['{% if %}', /./],
    ['{{ x | nofilter }}', /./],
    ["{{ 'a' in none }}", /None/],
  ])('%s is an error', (template, message) => expect(() => render(template)).toThrow(message))
})

describe('runaway templates', () => {
  const grow = (start: string, step: string) =>
    `{% set ns = namespace(a=${start}) %}{% for i in range(60) %}{% set ns.a = ${step} %}{% endfor %}`
  const hostile: Record<string, string> = {
    'a huge range': '{% for i in range(1000000000) %}x{% endfor %}',
    'nested loops': '{% for i in range(9999) %}{% for j in range(9999) %}{{ j }}{% endfor %}{% endfor %}',
    'empty nested loops': '{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}',
    'a doubling text': `${grow('"x"', 'ns.a ~ ns.a')}{{ ns.a }}`,
    'a doubling list': grow('[1]', 'ns.a + ns.a'),
    'a list of itself, printed': `${grow('[1]', '[ns.a, ns.a]')}{{ ns.a }}`,
    'a list of itself, as JSON': `${grow('[1]', '[ns.a, ns.a]')}{{ ns.a | tojson }}`,
    'a repeated text': '{{ "a" * 1000000000 }}',
    'a replacement': '{{ ("a" * 1000000) | replace("a", "b" * 1000000) }}',
    'a join': '{{ ([1] * 10000) | join("a" * 100000) }}',
    'an indentation': '{{ ("a\n" * 1000000) | indent("b" * 1000000) }}',
    'many pieces': '{% for i in range(99) %}{% set x = ("a" * 10000000).split("a") %}{% endfor %}',
    'a recursive macro': '{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}',
    'nested brackets': `{{ ${'('.repeat(100_000)}1${')'.repeat(100_000)} }}`,
    'a long sum': `{{ 1${' + 1'.repeat(50_000)} }}`,
    'white space': `${' '.repeat(200_000)}x`,
    'a long template': 'x'.repeat(2 ** 18 + 1),
    'macros in a loop': `{% for i in range(99999) %}{% macro f() %}${'{{ x }}'.repeat(30_000)}{% endmacro %}{% endfor %}`,
    'a long date': '{{ strftime_now("%c" * 1000000) }}',
  }

  test.each(Object.entries(hostile))('%s ends soon with an error', (_name, template) => {
    const start = performance.now()
    const error = failure(() => chat(user('x'), { chatTemplate: template }))
    expect(error.code).toBe('ERR_CHAT_TEMPLATE')
    expect(performance.now() - start).toBeLessThan(5000)
  })

  test('a long conversation is within the budget', () => {
    const messages = Array.from({ length: 5000 }, (_, i) => ({
      role: i % 2 ? 'assistant' : 'user',
      content: `turn ${i}`,
    }))
    expect(chat(messages).text.length).toBeGreaterThan(100_000)
  })

  test('a long message is within the budget', () => {
    const text = 'word '.repeat(400_000)
    expect(chat(user(text)).text).toContain(text.trim())
  })
})

describe('special tokens in messages', () => {
  test('stay text, and the rendered text is unchanged', () => {
    const { text, pieces } = chat(user('say <|eot_id|> and <s>'))
    expect(text).toBe('<s><|user|>say <|eot_id|> and <s><|eot_id|><|assistant|>')
    expect(pieces).toEqual([
      ['<s><|user|>say ', true],
      ['<', false],
      ['|eot_id|> and ', true],
      ['<', false],
      ['s><|eot_id|><|assistant|>', true],
    ])
    expect(pieces.map(([piece]) => piece).join('')).toBe(text)
  })

  test('without any, the text is one piece', () => {
    expect(chat(user('hello <b>')).pieces).toEqual([['<s><|user|>hello <b><|eot_id|><|assistant|>', true]])
  })

  test('in tool results, names and documents too', () => {
    const template = '{{ messages | tojson }}{{ documents | tojson }}{{ tools | tojson }}'
    const { text, pieces } = chat([{ role: 'tool', content: { deep: ['<|eot_id|>'] }, name: '</s>' }], {
      chatTemplate: template,
      documents: [{ text: '[INST]' }],
      tools: [{ name: '<s>' }],
    })
    expect(text).toContain('"deep": ["<|eot_id|>"]')
    expect(pieces.filter(([, special]) => !special).map(([piece]) => piece)).toEqual(['<', '<', '[', '<'])
  })

  test('templates that look for them still find them', () => {
    const template =
      "{% for m in messages %}{% if '</think>' in m.content %}{{ m.content.split('</think>')[-1] | trim }}{% endif %}" +
      "{{ m.content.startswith('<s>') }}{{ m.content == '<s>a</think> b' }}{{ m.content | length }}{{ m.content | replace('<s>', '') }}{% endfor %}"
    expect(chat(user('<s>a</think> b'), { chatTemplate: template }).text).toBe('bTrueTrue14a</think> b')
  })

  test('noncharacters in a message survive', () => {
    const { text, pieces } = chat(user('\ufdd0<s>\ufdd1'))
    expect(text).toContain('\ufdd0<s>\ufdd1')
    expect(pieces.map(([piece]) => piece).join('')).toBe(text)
    const all = String.fromCharCode(...Array.from({ length: 32 }, (_, i) => 0xfdd0 + i))
    expect(failure(() => chat(user(all))).code).toBe('ERR_CHAT_TEMPLATE')
  })

  test('ensure_ascii and repr do not write marks', () => {
    const template = '{{ messages[0].content | tojson(ensure_ascii=true) }}{{ [messages[0].content] }}'
    expect(chat(user('<s>é'), { chatTemplate: template }).text).toBe('"<s>\\u00e9"[\'<s>é\']')
  })
})

describe('messages', () => {
  test.each([
    [undefined, 'messages'],
    [null, 'messages'],
    ['hi', 'messages'],
    [[], 'messages'],
    [[null], 'messages[0]'],
    [['hi'], 'messages[0]'],
    [[{ content: 'x' }], 'messages[0].role'],
    [[{ role: '', content: 'x' }], 'messages[0].role'],
    [[{ role: 5, content: 'x' }], 'messages[0].role'],
    [[{ role: 'user' }], 'messages[0].content'],
    [[{ role: 'user', content: null }], 'messages[0].content'],
    [[{ role: 'user', content: 5 }], 'messages[0].content'],
    [
      [
        { role: 'user', content: 'x' },
        { role: 'user', content: ['x'] },
      ],
      'messages[1].content[0]',
    ],
    [[{ role: 'user', content: [{ type: 'image', url: 'x' }] }], 'messages[0].content[0]'],
    [[{ role: 'user', content: 'x', extra: () => {} }], 'messages[0].extra'],
    [[{ role: 'user', content: 'x', extra: { a: [Symbol('x')] } }], 'messages[0].extra.a[0]'],
    [[{ role: 'user', content: 'x', extra: 2n ** 70n + 1n }], 'messages[0].extra'],
  ])('%j is refused, naming %s', (messages, place) => {
    const error = failure(() => chat(messages))
    expect(error).toMatchObject({ code: 'ERR_INVALID_ARGUMENT', details: { name: place } })
  })

  test('cycles and deep nesting are refused', () => {
    const circle: Record<string, unknown> = { role: 'user', content: 'x' }
    circle.self = circle
    expect(failure(() => chat([circle]))).toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
  })

  test('text parts are joined if the template expects text', () => {
    const parts = [
      {
        role: 'user',
        content: [
          { type: 'text', text: 'a' },
          { type: 'text', text: 'b' },
        ],
      },
    ]
    expect(chat(parts).text).toBe('<s><|user|>a\nb<|eot_id|><|assistant|>')
    const template = '{% for m in messages %}{% for p in m.content %}[{{ p.text }}]{% endfor %}{% endfor %}'
    expect(chat(parts, { chatTemplate: template }).text).toBe('[a][b]')
  })

  test('a field that is undefined is absent', () => {
    const template = "{{ 'tool_calls' in messages[0] }}{{ messages[0].name is defined }}"
    expect(
      chat([{ role: 'user', content: 'x', tool_calls: undefined, name: undefined }], {
        chatTemplate: template,
      }).text,
    ).toBe('FalseFalse')
  })

  test('the messages of the caller are not changed', () => {
    const messages = [{ role: 'user', content: [{ type: 'text', text: '<s>' }] }]
    const copy = structuredClone(messages)
    chat(messages)
    expect(messages).toEqual(copy)
  })
})

describe('options', () => {
  test.each([
    [{ tools: {} }],
    [{ documents: 'x' }],
    [{ now: 5 }],
    [{ now: new Date(Number.NaN) }],
    [{ chatTemplate: 5 }],
    [{ templateVariables: [] }],
    [{ templateVariables: { messages: [] } }],
    [{ addGenerationPrompt: 1 }],
    [{ addGenerationPrompt: true, continueFinalMessage: true }],
    [{ template: 'x' }],
    [{ tools: [() => {}] }],
  ])('%j is refused', (options) => {
    expect(failure(() => chat(user('x'), options)).code).toBe('ERR_INVALID_ARGUMENT')
  })

  test('no template', () => {
    const error = failure(() => chat(user('x'), {}, { ...vocabulary, template: null }))
    expect(error.code).toBe('ERR_CHAT_TEMPLATE')
    expect(error.message).toContain("option 'chatTemplate'")
  })

  test('variables, tools and clock', () => {
    const template = "{{ mood }} {{ tools is none }} {{ documents is none }} {{ strftime_now('%Y') }}"
    const options = { chatTemplate: template, templateVariables: { mood: 'glad' } }
    expect(chat(user('x'), { ...options, now: now() }).text).toBe('glad True True 2026')
    expect(chat(user('x'), { ...options, now, tools: [{ name: 'f' }] }).text).toBe('glad False True 2026')
  })

  test('addGenerationPrompt', () => {
    expect(chat(user('x'), { addGenerationPrompt: false }).text).toBe('<s><|user|>x<|eot_id|>')
  })

  test('continueFinalMessage ends inside the last message', () => {
    const messages = [...user('x'), { role: 'assistant', content: ' It is <s>' }]
    const { text, opening, pieces } = chat(messages, { continueFinalMessage: true })
    expect(text).toBe('<s><|user|>x<|eot_id|><|assistant|>It is <s>')
    expect(opening).toBe('It is <s>')
    expect(pieces.map(([piece]) => piece).join('')).toBe(text)
    expect(failure(() => chat(messages, { continueFinalMessage: true, chatTemplate: 'x' })).code).toBe(
      'ERR_CHAT_TEMPLATE',
    )
  })

  test('a refusal of the template is reported as one', () => {
    const error = failure(() => chat(user('x'), { chatTemplate: "{{ raise_exception('only cats') }}" }))
    expect(error.message).toBe('test: the chat template refuses these messages: only cats')
    expect(error.details).toMatchObject({ refused: true, reason: 'only cats' })
  })
})

test('strftime uses the C locale', () => {
  const date = new Date(2026, 0, 2, 15, 4, 5)
  expect(strftime(date, '%a %A %b %B %c %-d %e %j %I %p %y %% %Q')).toBe(
    'Fri Friday Jan January Fri Jan  2 15:04:05 2026 2  2 002 03 PM 26 % %Q',
  )
})

describe('model.chat', () => {
  afterEach(() => replaceAddon(undefined))

  async function start(chatTemplate = TEMPLATE) {
    const addon = new FakeAddon({
      tokenizer: { chatTemplate, specialSpellings: vocabulary.specials as string[] },
      answer: ['Hi', '!'],
    })
    replaceAddon(addon)
    return { addon, model: await loadModel('m.gguf') }
  }

  test('renders, generates until the context is full, and returns the message', async () => {
    const { addon, model } = await start()
    const answer = await model.chat(user('Hello'), { temperature: 0 })
    expect(answer).toMatchObject({
      text: 'Hi!',
      message: { role: 'assistant', content: 'Hi!' },
      finishReason: 'stop',
    })
    expect(addon.last.request).toMatchObject({
      prompt: [['<s><|user|>Hello<|eot_id|><|assistant|>', true]],
      bos: false,
      maxTokens: -1,
      startsText: true,
    })
  })

  test('the vocabulary adds BOS if the template writes none', async () => {
    const { addon, model } = await start('{{ messages[0].content }}')
    await model.chat(user('Hello'))
    expect(addon.last.request.bos).toBeNull()
  })

  test('a continued message is returned whole', async () => {
    const { addon, model } = await start()
    const answer = await model.chat([...user('x'), { role: 'assistant', content: 'Well, ' }], {
      continueFinalMessage: true,
    })
    expect(answer.message.content).toBe('Well,Hi!')
    expect(addon.last.request.startsText).toBe(false)
  })

  test('wrong messages throw at the call, a failing template rejects', async () => {
    const { addon, model } = await start("{{ raise_exception('no') }}")
    expect(failure(() => model.chat([])).code).toBe('ERR_INVALID_ARGUMENT')
    expect(failure(() => model.chat(user('x'), { temprature: 1 } as object)).message).toContain('temperature')
    await expect(model.chat(user('x'))).rejects.toMatchObject({ code: 'ERR_CHAT_TEMPLATE' })
    expect(addon.requests.length).toBe(0)
  })

  test('renderChat gives the text', async () => {
    const { model } = await start()
    expect(model.renderChat(user('a'))).toBe('<s><|user|>a<|eot_id|><|assistant|>')
    expect(model.tokenizer.renderChat(user('a'), { addGenerationPrompt: false })).toBe(
      '<s><|user|>a<|eot_id|>',
    )
  })
})
