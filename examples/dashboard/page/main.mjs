/** The page: passes the feed to its parts. */

import { count, PagesBar, Sparkline } from './charts.mjs'
import { Requests } from './requests.mjs'
import { seconds, Timeline } from './timeline.mjs'

const MINUTE = 60_000
const byId = (id) => document.getElementById(id)

/** Offset of the server's clock, from the message with the lowest latency. */
let offset = -Infinity
const clock = () => performance.now() + (Number.isFinite(offset) ? offset : 0)

const requests = new Requests()
const timeline = new Timeline(requests, clock)
const pages = new PagesBar()
const generated = new Sparkline(byId('generated-spark'))
const prompt = new Sparkline(byId('prompt-spark'))
let history = []

function showModel(model) {
  byId('model').textContent = model.name.replace(/^cria\s+/, '') || 'engine'
  document.title = `${model.name || 'cria'} · engine`
  byId('facts').textContent = [
    size(model.parameters),
    `context ${count(model.contextLength)}`,
    `${model.layers} layers`,
    `KV ${model.kvDtype}, ${mebibytes(model.kvBytes)}`,
    `${model.device} ${model.isa}`,
    `${model.threads} ${model.threads === 1 ? 'thread' : 'threads'}`,
  ].join(' · ')
}

function size(parameters) {
  const billions = parameters / 1e9
  return billions >= 1
    ? `${billions.toFixed(1)} B parameters`
    : `${(parameters / 1e6).toFixed(1)} M parameters`
}

const mebibytes = (bytes) => `${(bytes / 2 ** 20).toFixed(bytes < 2 ** 27 ? 1 : 0)} MiB`

function showStats(stats) {
  const { tokensPerSecond, stepMs, totals } = stats
  byId('generated').textContent = count(tokensPerSecond.generated)
  byId('prompt').textContent = count(tokensPerSecond.prompt)
  for (const name of ['running', 'waiting', 'paused']) byId(name).textContent = count(stats[name])
  byId('last-step').textContent = stepTime(stepMs.last)
  byId('longest-step').textContent = stepTime(stepMs.longest)
  pages.draw(stats.pages)
  showTotals(totals)
}

const stepTime = (ms) => (ms === 0 ? '–' : ms < 10 ? `${ms.toFixed(1)} ms` : seconds(ms))

function showTotals(totals) {
  const all = totals.promptTokens + totals.cachedTokens
  const facts = {
    finished: count(totals.finished),
    stopped: count(totals.cancelled),
    failed: count(totals.failed),
    preemptions: count(totals.preemptions),
    steps: count(totals.steps),
    generated: count(totals.generatedTokens),
    computed: count(totals.promptTokens),
    reused: all > 0 ? `${Math.round((totals.cachedTokens / all) * 100)} %` : '–',
  }
  const list = byId('totals')
  if (list.childElementCount === 0) list.append(...Object.keys(facts).map(pair))
  for (const [name, text] of Object.entries(facts)) byId(`total-${name}`).textContent = text
}

const LABELS = { generated: 'generated', computed: 'prompt tokens', reused: 'prompts reused' }

function pair(name) {
  const node = document.createElement('div')
  const label = Object.assign(document.createElement('dt'), { textContent: LABELS[name] ?? name })
  node.append(label, Object.assign(document.createElement('dd'), { id: `total-${name}` }))
  return node
}

function showHistory() {
  const now = clock()
  while (history.length > 0 && history[0][0] < now - MINUTE) history.shift()
  generated.draw(
    history.map(([at, , value]) => [at, value]),
    now,
  )
  prompt.draw(
    history.map(([at, value]) => [at, value]),
    now,
  )
}

function link(state, text) {
  byId('link').dataset.state = state
  byId('link').textContent = text
}

const feed = new EventSource('events')
feed.addEventListener('open', () => link('live', 'live'))
feed.addEventListener('error', () => link('lost', 'connection lost, reconnecting'))
feed.addEventListener('snapshot', ({ data }) => {
  const { now, model, stats, history: samples, requests: known } = JSON.parse(data)
  // The server may be another one, with another clock.
  offset = now - performance.now()
  history = samples
  requests.restart(known)
  showModel(model)
  showStats(stats)
  showHistory()
  timeline.update()
})
feed.addEventListener('update', ({ data }) => {
  const { now, stats, sample, events, tokens } = JSON.parse(data)
  offset = Math.max(offset, now - performance.now())
  for (const event of events) requests.apply(event)
  for (const [id, number] of tokens) requests.count(id, number)
  if (sample) history.push(sample)
  showStats(stats)
  if (sample) showHistory()
  timeline.update()
})

async function post(path, body) {
  const note = byId('note')
  try {
    const response = await fetch(path, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
    const result = await response.json()
    note.textContent = response.ok
      ? result.started === 0
        ? 'The maximum number of streams is running.'
        : ''
      : result.error
  } catch {
    note.textContent = 'The server did not answer.'
  }
}

const controls = byId('controls')
for (const button of controls.querySelectorAll('[data-streams]')) {
  button.addEventListener('click', () => {
    post('load', {
      streams: Number(button.dataset.streams),
      shared: controls.elements.prefix.value === 'shared',
      repeat: controls.elements.repeat.checked,
      slow: controls.elements.slow.checked,
    })
  })
}
byId('stop').addEventListener('click', () => post('stop', {}))
