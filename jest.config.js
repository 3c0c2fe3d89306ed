/** Tests run on the sources in lib/. swc strips the types; `npm run lint` checks them with tsc. */
module.exports = {
  rootDir: __dirname,
  testEnvironment: 'node',
  testMatch: ['<rootDir>/test/{unit,golden,conformance}/**/*.test.ts'],
  transform: {
    '^.+\\.ts$': [
      '@swc/jest',
      {
        jsc: { target: 'es2022', parser: { syntax: 'typescript' } },
        module: { type: 'commonjs' },
      },
    ],
  },
  modulePathIgnorePatterns: ['<rootDir>/dist', '<rootDir>/build', '<rootDir>/prebuilds'],
  // One suite at a time: tests of timing and models with two threads need the cores.
  maxWorkers: 1,
  testTimeout: 60_000,
}
