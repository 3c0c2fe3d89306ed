declare module 'node-gyp-build' {
  interface NodeGypBuild {
    (directory: string): unknown
    /** The path of the addon that would be loaded. Throws when there is none. */
    resolve(directory: string): string
  }
  const build: NodeGypBuild
  export = build
}
