/** When imported, the addon that is loaded is the one whose device is 'cuda-emulated', where the tests were built. */

import { existsSync } from 'node:fs'
import { join } from 'node:path'

const addon = join(__dirname, '..', '..', 'build', 'test', 'native', 'cria_emulated.node')
export const built = existsSync(addon)
if (built) process.env.CRIA_BINARY = addon
