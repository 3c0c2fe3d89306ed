/** A second model next to the first: loaded, used, and often disposed while its requests run. */

import { loadModel } from '../../dist/index.mjs'
import { words } from './workload.mjs'

const EXPECTED = new Set(['ERR_ABORTED', 'ERR_DISPOSED', 'ERR_QUEUE_FULL', 'ERR_PROMPT_TOO_LONG'])

export async function visit(soak, path) {
  const { random } = soak
  while (!soak.draining) {
    await soak.nap(random.integer(200, 5000))
    if (soak.draining) return
    const signal = random.chance(0.2) ? AbortSignal.timeout(random.integer(1, 20)) : undefined
    const { value: model } = await soak.settled(
      loadModel(path, {
        // The same context length, so that the reference requests give the same tokens.
        contextLength: soak.contextLength,
        threads: random.integer(1, 2),
        prefillChunk: random.pick([16, 100, 256]),
        maxQueue: random.pick([1, 1024]),
        mmap: random.chance(0.3),
        signal,
      }),
      'a load',
    )
    if (model) await use(soak, model)
  }
}

async function use(soak, model) {
  const { random } = soak
  soak.visits = (soak.visits ?? 0) + 1
  const reference = random.pick(soak.references)
  const known = soak.settled(
    model.generate(reference.prompt, reference.options).catch((error) => {
      if (error.code === 'ERR_DISPOSED' && model.disposed) return undefined
      throw error
    }),
    'a request on the second model',
  )
  const others = Array.from({ length: random.pick([1, 8, 80]) }, () =>
    model.generate(`${random.pick(soak.beginnings)} ${words(random, 5)}`, { maxTokens: 50 }).then(
      () => undefined,
      (error) => {
        if (!EXPECTED.has(error.code)) soak.violation(`a request on the second model failed: ${error.stack}`)
      },
    ),
  )
  if (random.chance(0.5)) {
    soak.checkSame(reference, await known, ' on the second model')
    await soak.settled(Promise.all(others), 'requests on the second model')
    const { pages } = model.stats()
    if (pages.used > 0) soak.violation('pages are in use while nothing runs on the second model')
  } else {
    await soak.nap(random.integer(0, 300))
  }
  await soak.settled(model.dispose(), 'dispose')
  await soak.settled(Promise.all(others), 'requests of a disposed model')
  await known
  const { error } = await model.generate('Once').then(
    () => ({}),
    (error) => ({ error }),
  )
  if (error?.code !== 'ERR_DISPOSED') soak.violation(`a disposed model rejects with ${error?.code}`)
}
