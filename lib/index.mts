// The ESM face of the package: the CommonJS build and this share one instance of everything.
export * from './index.js'
