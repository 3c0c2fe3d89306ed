/** An import of this module selects the addon with the device 'cuda-emulated', if the tests were built. */

import { existsSync } from 'node:fs'
import { join } from 'node:path'

const addon = join(__dirname, '..', '..', 'build', 'test', 'native', 'cria_emulated.node')
export const built = existsSync(addon)
if (built) process.env.CRIA_BINARY = addon
