# What node-gyp wants to find of Node in order to run an action: nothing is compiled with it, so no headers are needed.
# package.json names this folder as node-gyp's `nodedir`.
{
  'target_defaults': {
    'default_configuration': 'Release',
    'configurations': { 'Debug': {}, 'Release': {} },
  },
}
