// Serves a page that shows the activity of a model's engine.
// Run: node examples/dashboard/server.mjs [model.gguf] [--port 4173]

import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { demoModelPath, loadModel } from 'cria'
import { Feed } from './feed.mjs'
import { Load } from './load.mjs'

const TYPES = { html: 'text/html', css: 'text/css', mjs: 'text/javascript', svg: 'image/svg+xml' }
const FILES = {
  '/': 'index.html',
  ...Object.fromEntries(
    ['style.css', 'timeline.css', 'main.mjs', 'requests.mjs', 'timeline.mjs', 'charts.mjs', 'icon.svg'].map(
      (name) => [`/${name}`, name],
    ),
  ),
}
const MAX_BODY = 1024

/**
 * Serves the dashboard of a model to this machine only.
 * @returns its URL, and `close`, which stops the dashboard but does not dispose of the model
 */
export async function startDashboard(model, { port = 0 } = {}) {
  const feed = new Feed(model)
  const load = new Load(model, feed)
  const server = createServer((request, response) => {
    handle(request, response, { feed, load }).catch((error) => {
      if (response.headersSent) response.destroy()
      else answer(response, error.status ?? 500, { error: error.message })
    })
  })
  try {
    await new Promise((resolve, reject) => {
      server.once('error', reject)
      server.listen(port, '127.0.0.1', resolve)
    })
  } catch (error) {
    feed.close()
    throw error
  }
  let closing
  async function close() {
    feed.close()
    server.close()
    await load.stop()
    server.closeAllConnections()
  }
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    feed,
    load,
    close: () => {
      closing ??= close()
      return closing
    },
  }
}

async function handle(request, response, { feed, load }) {
  // Refuse pages of other sites, including those that reach this server by DNS rebinding.
  const { host, origin } = request.headers
  if (!/^(127\.0\.0\.1|localhost)(:\d+)?$/.test(host ?? ''))
    throw failure(403, `the host must be localhost, got ${host}`)
  if (origin && origin !== `http://${host}`)
    throw failure(403, `the origin must be http://${host}, got ${origin}`)

  const { pathname } = new URL(request.url, 'http://localhost')
  const file = Object.hasOwn(FILES, pathname) ? FILES[pathname] : undefined
  switch (`${request.method} ${file ? 'file' : pathname}`) {
    case 'GET file':
      response.writeHead(200, {
        'content-type': `${TYPES[file.split('.').at(-1)]}; charset=utf-8`,
        'cache-control': 'no-cache',
        'content-security-policy': "default-src 'self'",
      })
      response.end(readFileSync(new URL(`page/${file}`, import.meta.url)))
      return
    case 'GET /events':
      feed.open(response)
      return
    case 'POST /load':
      answer(response, 202, { started: load.start(loadOptions(await body(request))) })
      return
    case 'POST /stop':
      await load.stop()
      answer(response, 200, { streams: load.streams })
      return
    default:
      throw failure(404, `unknown route ${request.method} ${pathname}`)
  }
}

function loadOptions({ streams, shared = true, slow = false, repeat = false }) {
  if (!Number.isInteger(streams) || streams < 1 || streams > 64) {
    throw failure(400, `streams must be an integer from 1 to 64, got ${JSON.stringify(streams)}`)
  }
  for (const [name, value] of Object.entries({ shared, slow, repeat })) {
    if (typeof value !== 'boolean')
      throw failure(400, `${name} must be a boolean, got ${JSON.stringify(value)}`)
  }
  return { streams, shared, slow, repeat }
}

async function body(request) {
  // Forms of other sites cannot send this content type.
  const type = request.headers['content-type']
  if (!type?.startsWith('application/json'))
    throw failure(415, `the body must be application/json, got ${type}`)
  let text = ''
  for await (const part of request.setEncoding('utf8')) {
    text += part
    if (text.length > MAX_BODY) throw failure(413, `the body must have at most ${MAX_BODY} characters`)
  }
  try {
    return Object(JSON.parse(text))
  } catch {
    throw failure(400, 'the body must be valid JSON')
  }
}

function failure(status, message) {
  return Object.assign(new Error(message), { status })
}

function answer(response, status, value) {
  response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' })
  response.end(JSON.stringify(value))
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      port: { type: 'string', default: '4173' },
      'kv-memory': { type: 'string' },
      threads: { type: 'string' },
    },
  })
  const model = await loadModel(positionals[0] ?? demoModelPath(), {
    kvMemory: values['kv-memory'],
    threads: values.threads && Number(values.threads),
  })
  const dashboard = await startDashboard(model, { port: Number(values.port) }).catch(async (error) => {
    await model.dispose()
    throw error
  })
  console.log(`${dashboard.url} shows ${model.info.name || model.info.path}. Ctrl-C ends it.`)

  let asked = false
  async function end() {
    // A second signal ends the process at once.
    if (asked) process.exit(130)
    asked = true
    await dashboard.close()
    await model.dispose()
  }
  process.on('SIGINT', end)
  process.on('SIGTERM', end)
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await main()
