// The ESM face of cria/kernels: the CommonJS build and this share one instance of everything.
export * from './kernels.js'
